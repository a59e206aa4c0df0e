"""Products set aside are whole, every fifth, and stay so; what they confirm is not flattered by the choice."""

import numpy as np
import pytest

from evaluation.advice.confirm import EVERY, FROM, expected, set_aside
from evaluation.advice.measure import Questions
from evaluation.advice.race import clustered_mean
from evaluation.advice.sample import Catalog, Sample
from tests.evaluation.advice.test_measure import drawn, whitened

PHOTOS = 4


def catalog(asked: int) -> Catalog:
    return Catalog("shop", 0, 0, asked, "product_id", 0.5)


def sample(products: np.ndarray, whole: bool = False) -> Sample:
    return Sample("g", [str(at) for at in range(len(products))], products, products, whole)


def test_every_fifth_product_that_can_be_asked_is_set_aside_and_stays_so():
    single = 100 + np.arange(20)
    products = np.sort(np.concatenate([np.repeat(np.arange(100), PHOTOS), single, np.repeat(200 + np.arange(30), 2)]))
    _, products = np.unique(products, return_inverse=True)
    aside = set_aside(catalog(130), sample(products))
    mine = np.unique(products[aside])
    assert len(mine) == 130 // EVERY
    assert not set(mine) & set(products[~aside])  # whole products
    assert (np.bincount(products)[mine] > 1).all()
    smaller = products < 60
    assert (set_aside(catalog(130), sample(products[smaller])) == aside[smaller]).all()


def test_a_small_catalog_has_none_set_aside():
    products = np.repeat(np.arange(FROM), PHOTOS)
    assert set_aside(catalog(FROM), sample(products)).sum() == FROM // EVERY * PHOTOS
    assert not set_aside(catalog(FROM - 1), sample(products)).any()
    assert not set_aside(catalog(FROM), sample(products, whole=True)).any(), "nor of one that is asked whole"


def test_the_best_of_equals_is_not_flattered_and_its_interval_holds():
    """Eight of equal worth, the best of which is chosen by the queries that are not set aside."""
    truth, count, products = 0.5, 8, np.repeat(np.arange(150), PHOTOS)
    aside = set_aside(catalog(150), sample(products))
    naive, values, inside, widths, alone = [], [], 0, [], []
    for seed in range(300):
        chance = np.random.default_rng(seed)
        hard = chance.normal(0, 0.25, 150)[products]
        own = chance.normal(0, 0.1, (count, 150))[:, products] + chance.normal(0, 0.1, (count, len(products)))
        figures = truth + hard + own
        best = figures[int(figures[:, ~aside].mean(1).argmax())]
        value, low, high = expected(best, figures.mean(0), aside, products)
        naive.append(best[~aside].mean())
        values.append(value)
        inside += low <= truth <= high
        widths.append(high - low)
        mean = clustered_mean(best[aside], products[aside])
        alone.append(mean.upper(0.05) - mean.lower(0.05))
    noise = np.std(values) / np.sqrt(len(values))
    assert np.mean(naive) - truth > 5 * noise
    assert abs(np.mean(values) - truth) < 2.5 * noise
    assert 0.86 <= inside / 300 <= 0.95
    assert np.mean(widths) < 0.65 * np.mean(alone)


def test_by_hand_and_where_nothing_is_set_aside():
    figures = np.array([1.0, 0.0, 1.0, 1.0, np.nan])
    common = np.array([0.5, 0.5, 1.0, 0.5, np.nan])
    products, aside = np.array([0, 0, 1, 2, 3]), np.array([False, False, True, True, False])
    value, low, high = expected(figures, common, aside, products)
    assert value == pytest.approx(2.5 / 4 + (0.0 + 0.5) / 2)
    assert (low, high) == (0.0, 1.0)  # two products say next to nothing
    plain = clustered_mean(figures, products, bounded=1.0)
    assert expected(figures, common, np.zeros(5, dtype=bool), products)[0] == pytest.approx(plain.value)
    one = expected(figures, common, np.array([False, False, True, False, False]), products)
    assert one == (pytest.approx(2.5 / 4), 0.0, 1.0)


def test_the_kind_of_a_matrix_is_chosen_by_those_that_the_race_asks():
    codes, rows = drawn(100, 4, noise=0.5)
    questions = Questions(Catalog("shop", 0, 0, 100, "product_id", 0.0), sample(codes))
    assert questions.aside.any()
    asks, turned = np.flatnonzero(questions.fold == 0), np.where(questions.aside, 1.0, 0.0)
    tried = np.stack([turned[asks], 1 - turned[asks]])
    assert questions._best(tried, asks) == 1  # the first one is right about those set aside alone
    assert questions.tuned(rows, whitened)


def test_what_a_curve_moved_may_be_missed_by_a_share_of_it():
    """Every product alike: nothing is left to chance but the curve, of which a quarter is one standard deviation."""
    products = np.repeat(np.arange(400), PHOTOS)
    figures, aside = np.full(len(products), 0.5), products % EVERY == 0
    value, low, high = expected(figures, figures, aside, products)
    assert value == pytest.approx(0.5) and high - low < 0.01
    for moved in (-0.2, 0.2):
        value, low, high = expected(figures, figures, aside, products, moved)
        assert value == pytest.approx(0.5)
        assert (0.5 - low, high - 0.5) == (pytest.approx(1.66 * 0.05, abs=0.002),) * 2
