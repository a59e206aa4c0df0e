"""Intervals by the cluster bootstrap: what they are by definition, that they cover, and what is undefined."""

import numpy as np
import pytest

from evaluation.statistics import bootstrap
from evaluation.statistics.bootstrap import compare, interval, paired_difference, resample
from tests.support.mean_intervals import mean_intervals


def clustered(seed: int, clusters: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Figures around 0.5 that are alike within a cluster, of 1 to 8 queries each."""
    random = np.random.default_rng(seed)
    which = np.repeat(np.arange(clusters), random.integers(1, 9, clusters))
    values = 0.5 + 0.2 * random.normal(size=clusters)[which] + 0.1 * random.normal(size=len(which))
    return values[:, None], which


def test_a_resample_is_the_mean_over_clusters_drawn_with_replacement() -> None:
    values, which = clustered(1, clusters=7)
    drawn: list[np.ndarray] = []
    resample(lambda counts: drawn.append(counts) or counts, 7)
    counts = np.concatenate(drawn)
    assert counts.shape == (1000, 7) and (counts.sum(axis=1) == 7).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(7), abs=0.1)
    assert counts.var(axis=0) == pytest.approx(np.full(7, 6 / 7), abs=0.15)  # multinomial: n p (1 - p)
    literally = [np.concatenate([np.tile(values[which == c, 0], int(n)) for c, n in enumerate(row)]) for row in counts]
    expected = np.quantile([figures.mean() for figures in literally], [0.025, 0.975])
    np.testing.assert_allclose(mean_intervals(values, which), [expected])


def test_steps_of_any_size_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values, which = clustered(2)
    whole = mean_intervals(values, which)
    monkeypatch.setattr(bootstrap, "_MOST_NUMBERS", 400)
    np.testing.assert_array_equal(mean_intervals(values, which), whole)


def test_it_covers_the_truth_about_as_often_as_it_says_and_single_queries_would_not() -> None:
    def covers(seed: int, single: bool = False) -> bool:
        values, which = clustered(seed, clusters=40)
        low, high = mean_intervals(values, np.arange(len(which)) if single else which)[0]
        return bool(low <= 0.5 <= high)

    assert 0.91 <= np.mean([covers(seed) for seed in range(200)]) <= 0.98
    assert np.mean([covers(seed, single=True) for seed in range(60)]) < 0.8


def test_many_figures_share_their_resamples_and_names_of_clusters_do_not_matter() -> None:
    values, which = clustered(3)
    both = mean_intervals(np.hstack([values, 2 * values]), which)
    np.testing.assert_allclose(both[1], 2 * both[0])
    names = np.array([f"d/{'z' * 3}{c:03d}" for c in which], dtype=object)
    np.testing.assert_allclose(mean_intervals(values, names), both[:1])


def test_what_is_undefined_and_what_has_no_width() -> None:
    one = mean_intervals(np.array([[0.1], [0.9]]), np.array([4, 4]))
    none = mean_intervals(np.zeros((0, 2)), np.zeros(0, dtype=int))
    assert np.isnan(one).all() and one.shape == (1, 2) and np.isnan(none).all() and none.shape == (2, 2)
    constant = mean_intervals(np.full((6, 1), 0.3), np.array([0, 0, 1, 2, 2, 2]))
    np.testing.assert_allclose(constant, [[0.3, 0.3]])


def test_a_query_with_nan_is_left_out() -> None:
    values, which = clustered(4)
    added = np.vstack([values, [[np.nan]], [[np.nan]]])
    np.testing.assert_array_equal(mean_intervals(added, np.append(which, [0, 999])), mean_intervals(values, which))
    draws = np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan]])
    np.testing.assert_allclose(interval(draws)[0], [1.05, 2.95])
    assert np.isnan(interval(draws)[1]).all()


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    values, which = clustered(5, clusters=200)
    random = np.random.default_rng(6)
    candidate = values[:, 0] - 0.02 + 0.02 * random.normal(size=len(which))
    found = paired_difference(candidate, values[:, 0], which)
    assert found.value == pytest.approx((candidate - values[:, 0]).mean()) and found.low < -0.02 < found.high < 0
    assert found.high - found.low < 0.2 * np.diff(mean_intervals(values, which))[0, 0]
    assert (found.p_worse, found.worse, found.clear, found.more_queries) == (1.0, True, True, 0)
    within = paired_difference(candidate, values[:, 0], which, margin=0.03)
    assert (within.p_worse, within.worse, within.clear) == (0.0, False, True)


def test_equal_sides_and_a_drop_of_just_the_margin_are_not_worse() -> None:
    values, which = clustered(7)
    same = paired_difference(values[:, 0], values[:, 0], which)
    assert (same.value, same.low, same.high, same.p_worse, same.clear) == (0, 0, 0, 0, True)
    assert not paired_difference(values[:, 0] - 0.01, values[:, 0], which, margin=0.01).worse


def test_as_many_more_queries_as_it_says_settle_an_unclear_case() -> None:
    def judged(clusters: int) -> bootstrap.PairedDifference:
        values, which = clustered(8, clusters)
        noise = np.random.default_rng(9).normal(size=clusters)[which]
        return paired_difference(values[:, 0] + 0.1 * (noise - noise.mean()) - 0.008, values[:, 0], which)

    few = judged(60)
    assert not few.clear and few.more_queries
    factor = (few.queries + few.more_queries) / few.queries
    assert factor == pytest.approx((1.6449 * few.standard_error / 0.008) ** 2, rel=0.01)
    assert judged(round(60 * factor * 1.5)).clear
    assert paired_difference(np.array([0.1, -0.1]), np.zeros(2), np.arange(2)).more_queries is None


def test_one_cluster_settles_nothing_and_no_query_is_refused() -> None:
    found = paired_difference(np.array([0.2, 0.4]), np.array([0.3, np.nan]), np.array([1, 1]))
    assert found.value == pytest.approx(-0.1) and np.isnan([found.low, found.high, found.p_worse]).all()
    assert (found.queries, found.worse, found.clear, found.more_queries) == (1, False, False, None)
    with pytest.raises(ValueError, match="no query"):
        paired_difference(np.array([np.nan]), np.array([1.0]), np.array([0]))


def test_any_statistic_can_be_compared() -> None:
    counts_of = np.array([3.0, 1.0, 2.0])
    found = compare(lambda counts: counts @ counts_of / counts.sum(axis=1) - 2, clusters=3, queries=6)
    assert found.value == 0 and found.low == -1 and found.high == 1 and 0.2 < found.p_worse < 0.5
