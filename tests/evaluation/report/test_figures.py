"""The figures behind the report: read from a shop's tables, checked against each other and by hand."""

from types import SimpleNamespace

import pytest

from evaluation.report import costs, figures, history, paired
from evaluation.report.figures import Group
from vitrine import facts
from vitrine.settings import Settings


def main_group(settings: Settings) -> Group:
    serving = facts.serving(settings, "shop")
    assert serving
    known = figures.registered(settings)
    return figures.groups(settings, "shop", serving["encoder_version"], known)[0]


def test_costs_are_of_real_runs_and_a_heads_include_its_backbones(full_shop: Settings) -> None:
    group = main_group(full_shop)
    by_version = costs.by_version(full_shop, group, figures.registered(full_shop))
    by_name = {entry.encoder: by_version[entry.encoder_version] for entry in group.encoders}
    lite, head = by_name["efficientnet_lite0"], by_name["efficientnet_lite0__top__shop"]
    extra = 0.01 / 192 * 1000  # the fixture's start-up, per 1,000 of its 192 photos
    assert lite.seconds and head.seconds and lite.latency
    assert lite.seconds.value == pytest.approx(12 * 1.05 + extra)
    assert (lite.seconds.low, lite.seconds.high) == pytest.approx((12 + extra, 13.2 + extra))
    assert head.seconds.value == pytest.approx((12 + 0.4) * 1.05 + 2 * extra)
    assert (head.bytes, head.tuning["seconds"], head.currency) == (1024, 410.0, "EUR")
    assert lite.latency.milliseconds == pytest.approx(4.2) and not lite.tuning


def test_paired_queries_agree_with_the_figures(full_shop: Settings) -> None:
    group = main_group(full_shop)
    queries = paired.paired_queries(full_shop, group)
    for entry in group.encoders:
        scores = queries.scores[queries.rows[entry.encoder_version]]
        assert scores.mean() == pytest.approx(entry.values["mMP@5"])
    gains = {gain.entry.encoder: gain.change.value for gain in paired.gains(group, queries)}
    values = {entry.encoder: entry.values["mMP@5"] for entry in group.encoders}
    name = "mae_vitb16__top__shop"
    assert gains[name] == pytest.approx(values[name] - values["mae_vitb16"]) and len(gains) == 3


def test_categories_come_worst_first_beside_the_best_and_worst_encoder(full_shop: Settings) -> None:
    group = main_group(full_shop)
    categories = figures.by_label(full_shop, group, 3)
    assert categories and categories["encoder"].serves
    assert (categories["total"], len(categories["rows"])) == (8, 6)
    values = [row["own"]["value"] for row in categories["rows"]]
    assert values == sorted(values)
    for row in categories["rows"]:
        assert row["worst"]["value"] <= row["own"]["value"] <= row["best"]["value"]
        assert row["own"]["queries"] == 24 and row["own"]["low"] <= row["own"]["value"] <= row["own"]["high"]


def test_the_cross_matrix_holds_what_was_tuned_here_and_measured_there() -> None:
    def gain(source: str, value: float) -> SimpleNamespace:
        entry = SimpleNamespace(about={"source_dataset": source, "strategy": "top"})
        change = SimpleNamespace(value=value, low=value - 0.1, high=value + 0.1)
        return SimpleNamespace(entry=entry, base=SimpleNamespace(encoder="lite"), change=change)

    measured = {"a": [gain("a", 0.2), gain("b", -0.1)], "b": [gain("b", 0.3), gain("b", 0.5)]}
    (matrix,) = paired.cross_matrices(measured)
    assert (matrix["backbone"], matrix["sources"], matrix["targets"]) == ("lite", ["a", "b"], ["a", "b"])
    (aa, ab), (ba, bb) = matrix["cells"]
    assert (aa["value"], aa["low"], ab, ba["value"]) == (0.2, 0.1, None, -0.1)
    assert bb["value"] == pytest.approx(0.4) and (bb["low"], bb["tuned"]) == (None, 2)
    assert paired.cross_matrices({"a": measured["a"]}) == []


def test_gates_keep_all_their_checks_and_a_forced_promotion_what_it_went_past(full_shop: Settings) -> None:
    gates = {(run.gate, run.state): gate.asked for run, gate in history.newest_gates(full_shop, "shop")}
    assert [len(checks) for checks in gates.values()] == [1, 2, 1]
    serving = history.serving(full_shop, "shop", figures.registered(full_shop))
    assert serving and serving["reason"] == "the sale starts at noon"
    assert serving["forced_over"]["metrics"]["problem"] == "gate metrics refused: no worse than what serves"
