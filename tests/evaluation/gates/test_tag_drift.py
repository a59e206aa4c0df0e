"""Drift of classes' shares: what is told from chance, and what a gate makes of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from evaluation.gates.ask_gate import ask_drift
from evaluation.gates.tag_drift import ClassShares, shares_check
from tests.evaluation.gates.test_tags import DIM, V, ask, classifier, fill, settings
from vitrine import lake
from vitrine.errors import GateRefused
from vitrine.setting_sections import TagSettings
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG, EMBEDDINGS, TAGS

__all__ = ["settings"]


def shares(counts: dict[str, int]) -> ClassShares:
    """Of as many products of one photo."""
    return ClassShares({name: float(count) for name, count in counts.items()}, sum(counts.values()), single=True)


def check(labels: dict[str, int], new: dict[str, int], **asked: Any) -> Any:
    return shares_check(shares(labels), shares(new), 0.2, TagSettings(**asked))


def test_a_share_that_surely_moved_beyond_the_margin_warns_or_refuses() -> None:
    labels, new = {"a": 500, "b": 500}, {"a": 90, "b": 10}
    warned = check(labels, new)
    assert warned.passed and warned.figures["warning"] == "shares shifted" and warned.figures["shifted"] == 2
    assert warned.figures["value"] == pytest.approx(0.4)
    assert "'a' 90.0% for 50.0%" in warned.detail
    refused = check(labels, new, drift="refuse")
    assert not refused.passed and "warning" not in refused.figures
    assert check(labels, new, max_shift=0.41, drift="refuse").passed


def test_what_chance_moves_is_no_drift() -> None:
    assert "warning" not in check({"a": 500, "b": 500}, {"a": 25, "b": 15}).figures  # 0.62 of 40: the error is 0.08
    few = check({"a": 500, "b": 500}, {"b": 29})
    assert few.passed and "29" in few.detail and "skipped" in few.figures
    random, names = np.random.default_rng(0), [f"c{at}" for at in range(50)]
    truth, alarms = random.dirichlet(np.ones(50)), 0
    for _ in range(200):
        drawn = [dict(zip(names, map(int, random.multinomial(many, truth)), strict=True)) for many in (2000, 60)]
        alarms += "warning" in check(*drawn, max_shift=0.0).figures
    assert alarms <= 10, "one in twenty may be a false alarm, also with fifty classes and no margin"


def test_a_class_that_no_label_has_is_in_it() -> None:
    told = check({"a": 100}, {"a": 60, "b": 40})
    assert told.figures["shifted"] == 2 and told.figures["classes"] == 2


def test_products_of_several_photos_have_wider_bounds() -> None:
    one = ClassShares({"a": 40.0, "b": 60.0}, 100, single=True).bounds("a", 0.01)
    several = ClassShares({"a": 40.0, "b": 60.0}, 100, single=False).bounds("a", 0.01)
    assert several[0] < one[0] < 0.4 < one[1] < several[1]


def new_photos(settings: Settings, count: int, shown: int) -> None:
    """Photos of as many products without a category, which show class ``shown``."""
    moment, rows = lake.now(), []
    for number in range(count):
        row = {"image_id": f"shop/n{number}", "dataset": "shop", "product_id": f"shop/n{number}", "split": None}
        row |= {"category": None, "content_sha256": f"{number:063d}n", "embedding": np.eye(DIM)[shown].tolist()}
        row |= {"encoder": "e", "encoder_version": V, "uri": "u", "size": 1, "width": 1, "height": 1}
        times = ("modified_at", "content_seen_at", "updated_at", "event_timestamp", "created_timestamp")
        rows.append(row | dict.fromkeys(times, moment))
    for table in (CATALOG, EMBEDDINGS):
        kept = [{name: row[name] for name in table.schema.names if name in row} for row in rows]
        lake.append(settings, table, pa.Table.from_pylist(kept, schema=table.schema).to_pylist())


def test_the_gate_tells_new_photos_from_labels(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(settings)
    assert ask_drift(settings, classifier()) is None, "nothing is new"
    new_photos(settings, 40, shown=2)
    passed = ask(settings, classifier())
    assert len(passed.checks) == 6 and len(passed.warnings) == 1 and "'c' 100.0% for 33.0%" in passed.warnings[0]
    (run,) = lake.rows(settings, "SELECT state FROM runs WHERE verb = 'gate'")
    assert run["state"] == "done"
    monkeypatch.setenv("VITRINE_TAGS__DRIFT", "refuse")
    strict = load_settings(settings.root)
    with pytest.raises(GateRefused, match="What tags goes on tagging"):
        ask(strict, classifier())
    with pytest.raises(GateRefused, match="Nothing new is tagged"):
        ask_drift(strict, classifier())

    tag = {"label": "category", "dataset": "shop", "value": "c", "probability": 1.0, "runner_up": "a"}
    tag |= {"abstained": False, "classifier_version": classifier().version, "encoder_version": V}
    tag |= {"tagged_at": lake.now(), "reason": None}
    lake.append(
        settings,
        TAGS,
        [tag | {"image_id": f"shop/n{number}", "content_sha256": f"{number:063d}n"} for number in range(40)],
    )
    assert ask_drift(strict, classifier()) is None, "what has its tag is not new any more"
