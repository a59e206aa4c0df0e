"""The forecast of a gain at full budget: whether its interval holds, by drawn learning curves."""

import numpy as np
import pytest

from training.ladder.forecast import EXPONENTS, ByQuery, Forecast, Probe, forecast

SHARES, SEEDS, CLASSES, PHOTOS = (0.125, 0.25), (0, 1), 60, 4


def drawn(random: np.random.Generator, mean: float, share: float, seed: int) -> Probe:
    """Gains around ``mean``: classes differ, and photos of a class less."""
    count = max(4, round(share * CLASSES))
    classes = np.repeat(np.arange(count), PHOTOS)
    values = mean + 0.15 * random.normal(size=count)[classes] + 0.1 * random.normal(size=len(classes))
    gains = ByQuery(values, classes)
    return Probe(share, seed, gains, gains.nothing())


def test_nine_of_ten_intervals_hold() -> None:
    random, held = np.random.default_rng(0), 0
    for _ in range(150):
        top, slope, exponent = random.uniform(-0.1, 0.3), random.uniform(-0.03, 0.06), random.uniform(*EXPONENTS)
        probes = [drawn(random, top - slope * share**-exponent, share, seed) for share in SHARES for seed in SEEDS]
        predicted = forecast(probes, 1.0, 0.9)
        held += predicted.low <= top - slope <= predicted.high
    assert held >= 0.85 * 150


def test_what_was_measured_in_full_needs_no_curve() -> None:
    random = np.random.default_rng(0)
    probes = [drawn(random, 0.1, share, seed) for share in (0.5, 1.0) for seed in SEEDS]
    whole = np.concatenate([probe.known.values for probe in probes if probe.share == 1])
    predicted = forecast(probes, 1.0, 0.9)
    assert predicted.value == pytest.approx(whole.mean(), abs=0.01)
    assert 0.02 < predicted.high - predicted.low < 0.15


def test_known_and_new_products_count_by_their_share() -> None:
    classes = np.repeat(np.arange(10), 2)
    known, new = ByQuery(np.full(20, 0.2), classes), ByQuery(np.full(20, -0.1), classes)
    probes = [Probe(1.0, 0, known, new), Probe(1.0, 1, known, new)]
    assert forecast(probes, 0.75, 0.9).value == pytest.approx(0.75 * 0.2 - 0.25 * 0.1)
    assert forecast(probes, 0.0, 0.9) == Forecast(*[pytest.approx(-0.1)] * 3)
    without = [Probe(1.0, 0, known, new.nothing())]
    assert forecast(without, 0.5, 0.9).value == pytest.approx(0.2)  # what was not asked about has no say
    with pytest.raises(ValueError, match="no photo that its probes left aside"):
        forecast([Probe(1.0, 0, known.nothing(), new.nothing())], 0.5, 0.9)


def test_queries_without_an_answer_are_left_out() -> None:
    gains = ByQuery(np.array([0.2, np.nan, 0.4, np.nan]), np.array([0, 0, 1, 2]))
    assert gains.mean == pytest.approx(0.3)
    sums, counts = gains.sums()
    assert sums.tolist() == pytest.approx([0.2, 0.4]) and counts.tolist() == [1, 1]
    assert np.isnan(gains.nothing().mean)
