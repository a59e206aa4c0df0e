"""The figures behind the report: read from a shop's tables, checked against each other and by hand."""

from types import SimpleNamespace
from typing import Any

import pytest

from evaluation.report import costs as report_costs
from evaluation.report import figures, paired, runs
from vitrine import facts
from vitrine.settings import Settings

HERE = "dataset = 'shop'"


def main_group(settings: Settings) -> dict[str, Any]:
    serving = facts.serving(settings, "shop")
    assert serving
    known = figures.registered(settings)
    return figures.groups(settings, HERE, serving["encoder_version"], known)[0]


def test_costs_are_of_real_runs_and_a_heads_include_its_backbones(full_shop: Settings) -> None:
    group = main_group(full_shop)
    costs = report_costs.costs(full_shop, HERE, group, figures.registered(full_shop))
    by_name = {e["encoder"]: costs[e["encoder_version"]] for e in group["encoders"]}
    lite, head = by_name["efficientnet_lite0"], by_name["efficientnet_lite0__top__shop"]
    extra = 0.01 / 192 * 1000  # the fixture's start-up, per 1,000 of its 192 photos
    assert lite["seconds"]["value"] == pytest.approx(12 * 1.05 + extra)
    assert (lite["seconds"]["low"], lite["seconds"]["high"]) == pytest.approx((12 + extra, 13.2 + extra))
    assert head["seconds"]["value"] == pytest.approx((12 + 0.4) * 1.05 + 2 * extra)
    assert (head["bytes"], head["tuning"]["seconds"], head["currency"]) == (1024, 410.0, "EUR")
    assert lite["latency"]["milliseconds"] == pytest.approx(4.2) and not lite["tuning"]


def test_paired_queries_agree_with_the_figures(full_shop: Settings) -> None:
    group = main_group(full_shop)
    queries = paired.paired_queries(full_shop, HERE, group)
    for each in group["encoders"]:
        scores = queries.scores[queries.rows[each["encoder_version"]]]
        assert scores.mean() == pytest.approx(each["values"]["mMP@5"])
    gains = {g["entry"]["encoder"]: g["found"].value for g in paired.gains(group, queries)}
    values = {e["encoder"]: e["values"]["mMP@5"] for e in group["encoders"]}
    name = "mae_vitb16__top__shop"
    assert gains[name] == pytest.approx(values[name] - values["mae_vitb16"]) and len(gains) == 3


def test_categories_come_worst_first_beside_the_best_and_worst_encoder(full_shop: Settings) -> None:
    group = main_group(full_shop)
    found = figures.by_category(full_shop, HERE, group, 3)
    assert found and found["encoder"]["serves"] and (found["total"], len(found["rows"])) == (8, 6)
    values = [row["own"]["value"] for row in found["rows"]]
    assert values == sorted(values)
    for row in found["rows"]:
        assert row["worst"]["value"] <= row["own"]["value"] <= row["best"]["value"]
        assert row["own"]["queries"] == 24 and row["own"]["low"] <= row["own"]["value"] <= row["own"]["high"]


def test_the_cross_matrix_holds_what_was_tuned_here_and_measured_there() -> None:
    def gain(source: str, value: float) -> dict[str, Any]:
        about = {"source_dataset": source, "strategy": "top"}
        found = SimpleNamespace(value=value, low=value - 0.1, high=value + 0.1)
        return {"entry": {"about": about}, "base": {"encoder": "lite"}, "found": found}

    measured = {"a": [gain("a", 0.2), gain("b", -0.1)], "b": [gain("b", 0.3), gain("b", 0.5)]}
    (matrix,) = paired.cross_matrices(measured)
    assert (matrix["backbone"], matrix["sources"], matrix["targets"]) == ("lite", ["a", "b"], ["a", "b"])
    (aa, ab), (ba, bb) = matrix["cells"]
    assert (aa["value"], aa["low"], ab, ba["value"]) == (0.2, 0.1, None, -0.1)
    assert bb["value"] == pytest.approx(0.4) and (bb["low"], bb["tuned"]) == (None, 2)
    assert paired.cross_matrices({"a": measured["a"]}) == []


def test_gates_keep_all_their_checks_and_a_forced_promotion_what_it_went_past(full_shop: Settings) -> None:
    gates = {(g["figures"]["gate"], g["state"]): g["checks"] for g in runs.gates(full_shop, HERE)}
    assert [len(checks) for checks in gates.values()] == [1, 2, 1]
    serving = runs.serving(full_shop, "shop", figures.registered(full_shop))
    assert serving and serving["reason"] == "the sale starts at noon"
    assert serving["forced_over"]["metrics"]["problem"] == "gate metrics refused: no worse than what serves"
