"""Thresholds: what they promise holds, also where photos of a product are alike, and classes have their own."""

import numpy as np

from training.thresholds import Told, choose
from vitrine.setting_sections import TagSettings

ASKED = TagSettings()


def told(probability: np.ndarray, right: np.ndarray, best: int | np.ndarray = 0, photos: int = 1) -> Told:
    count = len(probability)
    return Told(probability, np.broadcast_to(best, count), right, np.arange(count) // photos)


def threshold_of(asked: Told) -> float | None:
    """That of class 0, which has its own where it has enough photos."""
    together, own = choose(asked, ASKED)
    return own.get(0, together)


def test_few_photos_show_nothing():
    assert choose(told(np.linspace(0.5, 1, 58), np.ones(58, bool)), ASKED) == (None, {})
    assert choose(told(np.linspace(0.5, 1, 60), np.ones(60, bool)), ASKED)[0] == 0.5
    assert choose(told(np.linspace(0.5, 1, 200), np.ones(200, bool), photos=4), ASKED) == (None, {}), "50 products"
    assert choose(told(np.zeros(0), np.zeros(0, bool)), ASKED) == (None, {})


def test_a_threshold_holds_what_it_promises():
    chance, kept = np.random.default_rng(0), []
    for _ in range(600):
        # A photo is right with its probability.
        probability = chance.uniform(0.5, 1, 1000)
        threshold = threshold_of(told(probability, chance.uniform(size=1000) < probability))
        if threshold is not None:
            kept.append((1 + threshold) / 2 >= ASKED.precision)  # the true precision above it
    assert len(kept) > 100 and sum(not one for one in kept) <= 0.05 * 600


def test_it_holds_where_the_photos_of_a_product_are_right_or_wrong_together():
    chance, wrong = np.random.default_rng(1), {1: 0, 5: 0}
    for _ in range(400):
        probability = np.repeat(chance.uniform(0.5, 1, 300), 5)
        right = np.repeat(chance.uniform(size=300), 5) < probability
        for photos in wrong:
            threshold = threshold_of(told(probability, right, photos=photos))
            wrong[photos] += threshold is not None and (1 + threshold) / 2 < ASKED.precision
    assert wrong[5] <= 0.05 * 400 < wrong[1], "photos that count each by themselves promise too much"


def test_a_class_with_enough_photos_has_its_own_threshold_at_its_share_of_the_error():
    chance = np.random.default_rng(2)
    best = np.repeat([0, 1, 2], [600, 600, 60])
    probability = chance.uniform(0.5, 1, len(best))
    right = (best != 1) | (probability > 0.9)  # class 1 is right only where it is very sure
    together, own = choose(Told(probability, best, right, np.arange(len(best))), ASKED)
    assert own.keys() == {0, 1} and own[0] == 0.5 and own[1] is not None and own[1] >= 0.85
    assert together is None, "60 photos show nothing at a third of the error: 80 would"


def test_every_class_holds_at_once():
    chance, broken = np.random.default_rng(3), 0
    for _ in range(300):
        best = np.repeat([0, 1, 2], 400)
        probability = chance.uniform(0.6, 1, len(best))
        _, own = choose(Told(probability, best, chance.uniform(size=len(best)) < probability, np.arange(1200)), ASKED)
        assert len(own) == 3
        broken += any(one is not None and (1 + one) / 2 < ASKED.precision for one in own.values())
    assert broken <= 0.05 * 300
