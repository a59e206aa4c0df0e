"""The Pareto front and the recommendation, on figures that can be checked by hand."""

import numpy as np
import pytest

from evaluation.statistics.bootstrap import PairedDifference, paired_difference
from evaluation.statistics.recommendation import Option, pareto_front, recommend

# Ten queries of ten products: a is right for nine, b for eight of the same, c for one.
RESULTS = {
    "a": np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, 0], dtype=float),
    "b": np.array([1, 1, 1, 1, 1, 1, 1, 1, 0, 0], dtype=float),
    "c": np.array([1, 0, 0, 0, 0, 0, 0, 0, 0, 0], dtype=float),
}


def option(key: str, cost: float | None = None) -> Option:
    return Option(key, float(RESULTS[key].mean()), cost=cost)


def paired(other: Option, best: Option, margin: float, confidence: float) -> PairedDifference:
    return paired_difference(RESULTS[other.key], RESULTS[best.key], np.arange(10), margin, confidence)


def unpaired(other: Option, best: Option, margin: float, confidence: float) -> None:
    return None


def test_front_holds_what_nothing_beats() -> None:
    points = {"cheap": (1.0, 0.5), "worse": (2.0, 0.4), "middle": (2.0, 0.6), "dear": (9.0, 0.7), "vain": (10.0, 0.7)}
    assert pareto_front(points) == ["cheap", "middle", "dear"]


def test_equal_points_are_all_on_the_front() -> None:
    assert pareto_front({"a": (1.0, 0.5), "b": (1.0, 0.5)}) == ["a", "b"]
    assert pareto_front({}) == []


def test_the_best_is_chosen_where_it_is_told_apart() -> None:
    found = recommend([option("c", 1.0), option("a", 5.0)], paired)
    assert found and (found.chosen.key, found.best.key, found.decided) == ("a", "a", True)
    assert found.comparisons[0].paired and found.comparisons[0].paired.value == pytest.approx(-0.8)


def test_the_cheaper_is_chosen_where_two_are_not_told_apart() -> None:
    found = recommend([option("a", 5.0), option("b", 2.0), option("c", 1.0)], paired)
    assert found and (found.chosen.key, found.best.key, found.decided) == ("b", "a", False)
    assert [each.option.key for each in found.rivals] == ["b"]
    # s = sqrt(0.1 * 0.9 / 10) = 0.095 by hand; z of 1 - 0.05 / 2 is 1.96: 10 * (1.96 * 0.095 / 0.1)^2 - 10 = 24.6
    assert found.rivals[0].more_queries == pytest.approx(25, abs=3)


def test_results_without_any_difference_never_decide() -> None:
    same = [Option("x", 0.9, cost=3.0), Option("y", 0.9, cost=2.0)]
    found = recommend(same, lambda *_: paired_difference(RESULTS["a"], RESULTS["a"], np.arange(10)))
    assert found and found.chosen.key == "y"
    assert found.rivals == [] or found.rivals[0].more_queries in (0, None)


def test_within_the_margin_the_cheapest_is_chosen() -> None:
    options = [option("a", 5.0), option("b", 2.0), option("c", 1.0)]
    found = recommend(options, paired, margin=0.3)
    assert found and found.chosen.key == "b" and found.decided  # one of ten queries, hardly ever four
    unsure = recommend(options, paired, margin=0.15)
    assert unsure and unsure.chosen.key == "b" and not unsure.decided


def test_without_results_intervals_decide() -> None:
    apart = [Option("a", 0.8, 0.75, 0.85, 5.0), Option("b", 0.6, 0.55, 0.65, 1.0)]
    found = recommend(apart, unpaired)
    assert found and found.chosen.key == "a" and found.decided
    overlapping = [Option("a", 0.8, 0.75, 0.85, 5.0), Option("b", 0.7, 0.65, 0.76, 1.0)]
    found = recommend(overlapping, unpaired)
    assert found and found.chosen.key == "b" and not found.decided
    assert found.rivals[0].more_queries is None


def test_without_intervals_nothing_is_decided_and_the_best_is_kept() -> None:
    found = recommend([Option("a", 0.8, cost=2.0), Option("b", 0.1, cost=1.0)], unpaired)
    assert found and not found.decided and found.chosen.key == "a"


def test_unknown_costs_come_last() -> None:
    found = recommend([option("a"), option("b", 7.0)], paired)
    assert found and found.chosen.key == "b"
    found = recommend([option("a"), option("b")], paired)
    assert found and found.chosen.key == "a"


def test_one_option_is_the_choice_and_none_is_none() -> None:
    found = recommend([option("a")], paired)
    assert found and found.chosen.key == "a" and found.decided and not found.comparisons
    assert recommend([], paired) is None
