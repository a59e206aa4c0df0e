"""The gate on classifiers: what it lets through, and what it refuses."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from evaluation.gates.ask_gate import ask_tags
from vitrine import lake
from vitrine.encoders.classifiers import About, Classifier, with_threshold
from vitrine.encoders.heads import Head
from vitrine.errors import GateRefused
from vitrine.runs import GateFigures
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG, EMBEDDINGS

V, DIM, PHOTOS = "00000000000000aa", 3, 200


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    return load_settings(tmp_path)


def classifier(threshold: float | None = 0.9, classes: tuple[str, ...] = ("a", "b", "c"), shift: int = 0) -> Classifier:
    """Tells each of three directions by its own class; ``shift`` takes every class for another one."""
    eye, zero = np.eye(DIM, dtype=np.float32), np.zeros(DIM, np.float32)
    about = About("shop", "category", "e", V, "ridge", 0.1, "t", threshold, 0.5, {})
    head = Head(((eye, zero),), (20 * np.roll(eye, shift, axis=1), zero), classes, activation="linear")
    return Classifier(about, head, eye, eye)


def fill(settings: Settings, wrong: int = 0, split: str = "test") -> None:
    """Photos of three categories, ``wrong`` of which show what another one shows."""
    lake.create_tables(settings)
    moment, rows = lake.now(), []
    for number in range(PHOTOS):
        shown = (number + (number < wrong)) % DIM
        rows.append(
            {"image_id": f"shop/{number:03d}", "dataset": "shop", "product_id": f"shop/{number // 2}", "split": split}
            | {"category": "abc"[number % DIM], "content_sha256": f"{number:064d}"}
            | {"embedding": np.eye(DIM)[shown].tolist(), "encoder": "e", "encoder_version": V}
            | dict.fromkeys(("modified_at", "content_seen_at", "updated_at"), moment)
            | dict.fromkeys(("event_timestamp", "created_timestamp"), moment)
            | {"uri": "u", "size": 1, "width": 1, "height": 1}
        )
    for table in (CATALOG, EMBEDDINGS):
        kept = [{name: row[name] for name in table.schema.names if name in row} for row in rows]
        lake.append(settings, table, pa.Table.from_pylist(kept, schema=table.schema).to_pylist())


def refused(settings: Settings, asked: Classifier, now: Classifier | None = None) -> list[str]:
    with pytest.raises(GateRefused, match="What tags goes on tagging"):
        ask_tags(settings, asked, now)
    (row,) = lake.rows(settings, "SELECT * FROM runs WHERE verb = 'gate' ORDER BY started_at DESC LIMIT 1")
    assert row["state"] == "refused"
    return [check.split(":")[0] for check in expectations(row["figures"])]


def expectations(figures: str) -> list[str]:
    import json

    return [check["expectation"] for check in json.loads(figures)["failed"]]


def test_one_that_tells_the_photos_apart_passes_also_beside_itself(settings: Settings) -> None:
    fill(settings)
    passed: GateFigures = ask_tags(settings, classifier(), None)
    assert passed.success and len(passed.checks) == 3
    assert len(ask_tags(settings, classifier(), classifier()).checks) == 4


def test_one_that_was_never_sure_is_refused(settings: Settings) -> None:
    fill(settings)
    said = refused(settings, with_threshold(classifier(), None))
    assert said[0].startswith("validation has a threshold") and said[1].startswith("tags on the reported split")


def test_tags_that_are_surely_less_precise_are_refused(settings: Settings) -> None:
    fill(settings, wrong=40)  # four of five are right, of 200
    (only,) = refused(settings, classifier())
    assert only.startswith("tags on the reported split are not shown to be less precise than 95%")


def test_a_split_without_a_class_in_common_is_refused(settings: Settings) -> None:
    fill(settings)
    said = refused(settings, classifier(classes=("x", "y", "z")))
    assert "the split that is reported has photos of classes that were learned" in said


def test_one_that_is_worse_than_what_tags_now_is_refused(settings: Settings) -> None:
    fill(settings)
    shy = classifier(threshold=1.1)  # sure of nothing: it tags no photo
    said = refused(settings, shy, classifier())
    assert "it tags no fewer photos rightly than the classifier that tags now" in said
    assert refused(settings, classifier(shift=1), classifier())  # sure, and always wrong


def test_without_a_reported_split_validation_decides(settings: Settings) -> None:
    fill(settings, split="train")
    assert len(ask_tags(settings, classifier(), None).checks) == 1
