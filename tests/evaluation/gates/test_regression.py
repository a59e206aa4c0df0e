"""What is refused, what passes and what is unclear, by simulated figures of queries."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evaluation.classification.classification_metrics import PairedClassifier, Predictions
from evaluation.gates.gate import Check
from evaluation.gates.regression import Against, PairedQueries, held_against, p_value, worse_ones
from evaluation.statistics.bootstrap import PairedDifference
from vitrine.encoded_set import EncodedSet
from vitrine.setting_sections import GateSettings

SERVING = Against("serving", EncodedSet("shop", "old", "f" * 16))
KINDS = ("cups", "hats", "it's \n<b>$kinds")


def queries(change: float | dict[str, float] = 0.0, products: int = 150, noise: float = 0.1, seed: int = 0) -> Any:
    """Four queries a product, products of three categories: the candidate's figures are changed by so much."""
    random = np.random.default_rng(seed)
    which = np.repeat(np.arange(products), 4)
    categories = np.array(KINDS, dtype=object)[which % 3]
    other = np.clip(0.6 + 0.3 * random.normal(size=products)[which], 0, 1)
    moved = np.array([change.get(kind, 0.0) if isinstance(change, dict) else change for kind in categories])
    candidate = other + moved + noise * random.normal(size=products)[which]
    values = {"category": categories, "colour": categories}
    return PairedQueries("mMP@5", candidate, other, which, values, np.ones(len(which), dtype=bool))


def judged(paired: PairedQueries, against: Against = SERVING, **settings: Any) -> dict[str, Check]:
    checks = held_against(against, paired, [], GateSettings(**settings))
    return {check.name: check for check in checks}


def refused(paired: PairedQueries, **settings: Any) -> list[str]:
    return [name for name, check in judged(paired, **settings).items() if not check.passed]


def test_a_real_drop_is_refused_with_its_interval() -> None:
    found = judged(queries(-0.06))
    check = found["serving"]
    assert not check.passed and found["serving_classifiers"].figures == {
        "skipped": "no classifier told the same photos by both versions' vectors"
    }
    low, high = check.figures["low"], check.figures["high"]
    assert f"{check.figures['difference']:+.4f} (95 % interval {low:+.4f} to {high:+.4f})" in check.detail
    assert "of the serving old (ffffffffffffffff)" in check.detail and "worse beyond that in 100.0%" in check.detail
    assert check.detail.endswith("600 queries of 150 products") and "warning" not in check.figures


def test_noise_alone_is_refused_hardly_ever() -> None:
    assert sum(bool(refused(queries(seed=seed))) for seed in range(40)) <= 1


def test_equal_figures_are_clear_and_a_drop_within_the_margin_is_none() -> None:
    assert judged(queries(noise=0))["serving"].detail.count("; not worse; ") == 1
    assert refused(queries(-0.009, noise=0.0001)) == []


def test_new_products_are_judged_by_themselves() -> None:
    better = queries(0.05)
    assert "has a photo in the split train" in judged(better)["serving_new_products"].figures["skipped"]
    assert "all are new" in judged(replace(better, learned=better.learned & False))["serving_new_products"].detail
    new = better.products < 40
    mixed = replace(better, learned=~new, candidate=np.where(new, better.other - 0.1, better.candidate))
    found = judged(mixed, max_category_drop=0.5)
    assert [name for name, check in found.items() if not check.passed] == ["serving_new_products"]
    check = found["serving_new_products"]
    assert check.figures["difference"] == pytest.approx(-0.1) and check.detail.endswith("160 queries of 40 products")
    few = replace(mixed, learned=mixed.products >= 4)
    assert judged(few)["serving_new_products"].figures["skipped"].startswith("fewer than 5 products")


def test_one_category_that_falls_hard_is_refused_while_the_mean_rises() -> None:
    paired = queries({"hats": -0.2, "cups": 0.15, KINDS[2]: 0.15})
    assert paired.candidate.mean() > paired.other.mean() + 0.01
    found = judged(paired)
    assert [name for name, check in found.items() if not check.passed] == ["serving_categories", "serving_by_colour"]
    alike = found["serving_by_colour"]
    assert alike.figures == found["serving_categories"].figures and "1 of 3 values of colour fell" in alike.detail
    check = found["serving_categories"]
    assert (
        check.detail.startswith("1 of 3 categories fell by more than 0.0500 in mMP@5") and "'hats' from" in check.detail
    )
    assert check.figures["worst"] == "hats"


def test_names_of_categories_stay_on_one_line() -> None:
    check = judged(queries({KINDS[2]: -0.3}))["serving_categories"]
    assert not check.passed and "\n" not in check.detail


def test_categories_share_one_chance_of_a_false_alarm() -> None:
    """Fifty categories right at their margin: singly, about one in twenty would be called fallen, and so most runs."""
    alarms = 0
    for seed in range(10):
        random = np.random.default_rng(seed)
        which = np.repeat(np.arange(1000), 2)
        kinds = np.array([f"kind {n}" for n in range(50)], dtype=object)[which % 50]
        other = np.full(2000, 0.6)
        candidate = other - 0.05 + 0.1 * random.normal(size=1000)[which]
        found = judged(
            PairedQueries("mMP@5", candidate, other, which, {"category": kinds}, np.ones(len(which), dtype=bool)),
            max_drop=0.2,
        )
        alarms += not found["serving_categories"].passed
    assert alarms <= 2


def test_small_categories_are_counted_and_not_judged() -> None:
    paired = queries({"hats": -0.5}, products=12)
    found = judged(paired, max_drop=1)["serving_categories"]
    assert found.passed and found.figures == {"skipped": "no category has 30 queries of 5 products"}
    few = judged(paired, min_category_queries=16, max_drop=1)["serving_categories"]
    assert few.passed  # four products


def test_what_is_unclear_says_how_many_more_and_passes_or_not_as_set() -> None:
    paired = queries(-0.02, products=30, noise=0.1, seed=3)
    check = judged(paired)["serving"]
    assert check.passed and check.figures["warning"] == "unclear" and int(check.figures["more_queries"]) > 100
    assert f"unclear: about {check.figures['more_queries']:,} more queries would settle it" in check.detail
    strict = judged(paired, unclear="refuse")["serving"]
    assert not strict.passed and strict.detail == check.detail
    one = PairedQueries("mMP@5", np.array([0.5]), np.array([0.4]), np.array([0]), {}, np.array([True]))
    assert judged(one)["serving"].passed and refused(one, unclear="refuse") == ["serving"]
    assert "more queries like these would not settle it" in judged(one)["serving"].detail


def test_a_tuned_encoder_worse_than_its_backbone_is_refused() -> None:
    found = judged(queries(-0.1), Against("base", EncodedSet("shop", "mae", "b" * 16)))
    assert [name for name, check in found.items() if not check.passed] == ["base", "base_categories", "base_by_colour"]
    assert f"of its own backbone mae ({'b' * 16})" in found["base"].detail
    assert found["base"].figures["base_version"] == "b" * 16


def test_queries_without_an_answer_on_one_side_are_left_out_of_both() -> None:
    paired = queries(-0.06)
    paired.candidate[:200] = np.nan
    assert judged(paired)["serving"].figures["queries"] == 400


def said(right: np.ndarray, classes: int = 5) -> Predictions:
    truth = np.arange(len(right)) % classes
    return Predictions(
        truth, np.where(right, truth, (truth + 1) % classes), np.ones(len(right), bool), np.ones(len(right))
    )


def test_a_classifier_that_got_worse_is_refused_photo_by_photo() -> None:
    random = np.random.default_rng(0)
    before, products = random.random(600) < 0.8, np.repeat(np.arange(200), 3)
    worse = before & (random.random(600) < 0.9)
    for right, expected in ((worse, False), (before, True)):
        pairs = [PairedClassifier("linear_probe by category, seed 0", said(right), said(before), products)]
        pairs.append(PairedClassifier("linear_probe by category, seed 1", said(before), said(before), products))
        check = held_against(SERVING, queries(), pairs, GateSettings())[-1]
        assert check.passed == expected, check.detail
    lost = held_against(
        SERVING, queries(), [PairedClassifier("c", said(worse), said(before), products)], GateSettings()
    )
    assert lost[-1].detail.startswith("2 of 2 figures are worse by more than 0.0100 against the serving old")
    assert "accuracy of c -" in lost[-1].detail and "macro_f1 of c -" in lost[-1].detail


def difference(value: float, error: float, clusters: int = 30) -> PairedDifference:
    return PairedDifference(value, 0, 0, error, 0, 100, clusters, 0.05, 0.95)


def test_p_values_by_hand() -> None:
    assert p_value(difference(-0.05, 0.01)) == pytest.approx(0.5)
    assert p_value(difference(-0.07, 0.01, 2)) == pytest.approx(0.5 - np.arctan(2 / 2**0.5) / np.pi)  # t with 1
    assert p_value(difference(-0.07, 0.01, 100_000)) == pytest.approx(0.02275, abs=1e-4)  # the normal
    assert [p_value(difference(value, 0.0)) for value in (-0.06, -0.05, 0.0)] == [0.0, 1.0, 1.0]
    assert p_value(difference(-1.0, float("nan"), 1)) == 1.0


def test_holm_steps_down_and_stops() -> None:
    sure, likely, no = difference(-0.09, 0.01), difference(-0.07, 0.01), difference(0.0, 0.01)
    assert p_value(likely) == pytest.approx(0.029, abs=2e-3)
    assert worse_ones({"no": no, "likely": likely}, 0.95) == []  # 0.029 > 0.05 / 2
    assert worse_ones({"sure": sure, "likely": likely}, 0.95) == ["sure", "likely"]  # 0.029 < 0.05 / 1, one gone
    assert worse_ones({}, 0.95) == []
