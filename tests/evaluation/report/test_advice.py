"""The report's recommendations in words: what the figures decide, and what they do not."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from evaluation.report.advice import advice
from evaluation.report.costs import Cost, Point
from evaluation.report.figures import HEADLINE
from evaluation.report.paired import Paired

QUERIES = 40
RIGHT = {"good": 36, "near": 35, "poor": 4}  # of 40 queries, the same ones first


def group(*names: str, **learned_on: str) -> Any:
    entries = [
        SimpleNamespace(
            encoder_version=name,
            label=name,
            values={HEADLINE: RIGHT[name] / QUERIES},
            intervals={},
            about={"source_dataset": learned_on.get(name)},
        )
        for name in names
    ]
    return SimpleNamespace(dataset="here", encoders=entries, current=entries)


def costs(**seconds: float | None) -> dict[str, Cost]:
    return {name: Cost(seconds=Point(value, value, value) if value else None) for name, value in seconds.items()}


def paired(*names: str) -> Paired:
    scores = np.array([[float(query < RIGHT[name]) for query in range(QUERIES)] for name in names])
    return Paired({name: row for row, name in enumerate(names)}, scores, np.arange(QUERIES))


def cards(*names: str, margin: float = 0.1, **seconds: float | None) -> dict[str, dict[str, Any]]:
    made = advice(group(*names), costs(**seconds), paired(*names), [], margin)
    return {card["use"]: card for card in made}


def test_what_is_told_apart_is_decided() -> None:
    card = cards("good", "poor", good=50.0, poor=1.0)["Search"]
    assert (card["name"], card["decided"]) == ("good", True)
    assert card["sentences"][0] == "good has the highest mMP@5, and the other one is worse, with 95 % confidence."
    assert "poor differs by −0.800" in card["sentences"][1]  # noqa: RUF001


def test_within_noise_the_cheaper_is_taken_and_more_queries_are_named() -> None:
    card = cards("good", "near", "poor", good=50.0, near=9.0, poor=1.0)["Search"]
    assert (card["name"], card["decided"], card["cost"]) == ("near", False, "9.0 s per 1,000 photos")
    sentences = card["sentences"]
    together = "with 95 % confidence over all 2 comparisons together"
    assert sentences[0] == f"These figures do not decide, {together}, between good and near."
    assert "near differs by −0.025" in sentences[1] and "more queries would decide" in sentences[1]  # noqa: RUF001
    assert sentences[2] == "near is the cheapest of them: 9.0 s per 1,000 photos against 50.0 s per 1,000 photos."


def test_least_cost_keeps_within_the_margin() -> None:
    card = cards("good", "near", "poor", margin=0.2, good=50.0, near=9.0, poor=1.0)["Least cost"]
    assert (card["name"], card["decided"]) == ("near", True)
    assert card["sentences"][0] == "near is the cheapest that is surely good enough."
    card = cards("good", "near", margin=0.03, good=50.0, near=9.0)["Least cost"]
    assert (card["name"], card["decided"]) == ("near", False) and "do not decide" in card["sentences"][0]
    card = cards("good", "poor", good=50.0, poor=1.0)["Least cost"]
    assert card["name"] == "good" and "every cheaper one is surely below that" in card["sentences"][0]
    card = cards("good", "poor", good=1.0, poor=50.0)["Least cost"]
    assert card["sentences"] == ["good has the highest mMP@5, and none that was measured costs less."]


def test_what_was_tuned_elsewhere_is_held_against_what_was_not_tuned_at_all() -> None:
    names = ("good", "near", "poor")
    for learned_on, best in (
        ({"good": "elsewhere", "near": "here"}, "good"),
        ({"good": "here", "near": "there"}, "near"),
    ):
        made = advice(group(*names, **learned_on), costs(good=1.0, near=1.0, poor=1.0), paired(*names), [], 0.1)
        (card,) = [each for each in made if each["use"] == "Another catalog's tuning"]
        assert (card["name"], card["decided"]) == (best, True)
        assert "the other one is worse" in card["sentences"][0]  # what was tuned here is not asked
    assert "Another catalog's tuning" not in {
        each["use"] for each in advice(group(*names), {}, paired(*names), [], 0.1)
    }


def test_unknown_costs_and_one_encoder_are_said() -> None:
    card = cards("good", "near", good=None, near=None)["Search"]
    assert card["name"] == "good" and "not all of their costs are known" in card["sentences"][-1]
    assert "has not been measured" in cards("good", "near", good=None, near=None)["Least cost"]["sentences"][0]
    alone = cards("good", good=1.0)
    assert all(card["alone"] for card in alone.values()) and "only one" in alone["Search"]["sentences"][0]


def test_nothing_evaluated_gives_no_advice() -> None:
    assert advice(None, {}, paired("good"), [], 0.01) == []
