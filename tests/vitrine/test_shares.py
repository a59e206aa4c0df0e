"""Bounds of shares: by hand, and by drawing many times."""

import numpy as np
import pytest

from vitrine.shares import clopper_pearson, fewest, hoeffding_bentkus, lower_bound, shares_of, shows

ERROR = 0.05


def test_bounds_of_few_photos():
    assert clopper_pearson(0, 10, ERROR) == 0
    assert clopper_pearson(59, 59, ERROR) == pytest.approx(ERROR ** (1 / 59))  # all right: error ** (1 / n)
    assert hoeffding_bentkus(59, 59, ERROR) == pytest.approx(ERROR ** (1 / 59))  # the same: KL(1 || p) = -ln p
    assert hoeffding_bentkus(0, 10, ERROR) == 0 == hoeffding_bentkus(0, 0, ERROR)
    assert (fewest(0.95, ERROR), fewest(0.95, ERROR, mistakes=1)) == (59, 93)


def test_photos_of_one_draw_count_once():
    right, draws = np.array([True, False, True, True]), np.array([7, 7, 9, 9])
    assert shares_of(right, draws) == (1.5, 2, False)
    assert shares_of(right, np.arange(4)) == (3, 4, True)
    many = np.ones(236, bool)
    assert lower_bound(many, np.arange(236) // 4, ERROR) == pytest.approx(ERROR ** (1 / 59))
    assert lower_bound(many, np.arange(236), ERROR) == pytest.approx(ERROR ** (1 / 236))


def test_a_bound_of_shares_lies_below_that_of_single_photos_and_above_nothing():
    assert 0.9 < hoeffding_bentkus(99, 100, ERROR) < clopper_pearson(99, 100, ERROR)
    assert hoeffding_bentkus(99.5, 100, ERROR) > hoeffding_bentkus(99, 100, ERROR)


def test_products_that_are_wrong_as_a_whole_do_not_break_it():
    """One product of ten is wrong with all its photos: bounds by photo promise too much, by product they do not."""
    chance = np.random.default_rng(0)
    by_product = by_photo = 0
    for _ in range(400):
        right = np.repeat(chance.uniform(size=80) < 0.9, 5)
        by_product += lower_bound(right, np.repeat(np.arange(80), 5), ERROR) > 0.9
        by_photo += lower_bound(right, np.arange(400), ERROR) > 0.9
    assert by_product <= 0.05 * 400 < by_photo


def test_a_share_is_shown_where_the_bound_reaches_it():
    chance = np.random.default_rng(1)
    for photos in (1, 3):
        for _ in range(40):
            right, draws = chance.uniform(size=240) < 0.97, np.arange(240) // photos
            bound = lower_bound(right, draws, ERROR)
            assert shows(right, draws, bound - 1e-6, ERROR) and not shows(right, draws, bound + 1e-6, ERROR)
    assert not shows(np.zeros(0, bool), np.zeros(0, int), 0.5, ERROR)
