"""The gate on classifiers: what it lets through, and what it refuses."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from evaluation.classification.tag_answers import TAG_NAMES, ask_reported, score_tags
from evaluation.gates.ask_gate import ask_tags
from vitrine import lake
from vitrine.encoders.classifiers import MAHALANOBIS, About, Classifier, Space, with_threshold
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
    return Classifier(about, head, Space(MAHALANOBIS, eye, None, eye))


def fill(settings: Settings, wrong: int = 0, split: str = "test", products: int = PHOTOS // 2) -> None:
    """Photos of three categories and of ``products``, ``wrong`` of which show what another one shows."""
    lake.create_tables(settings)
    moment, rows = lake.now(), []
    for number in range(PHOTOS):
        shown = (number + (number < wrong)) % DIM
        rows.append(
            {
                "image_id": f"shop/{number:03d}",
                "dataset": "shop",
                "product_id": f"shop/{number * products // PHOTOS}",
                "split": split,
            }
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
        ask(settings, asked, now)
    (row,) = lake.rows(settings, "SELECT * FROM runs WHERE verb = 'gate' ORDER BY started_at DESC LIMIT 1")
    assert row["state"] == "refused"
    return [check.split(":")[0] for check in expectations(row["figures"])]


def ask(settings: Settings, asked: Classifier, now: Classifier | None = None) -> GateFigures:
    return ask_tags(settings, asked, ask_reported(settings, asked), now)


def expectations(figures: str) -> list[str]:
    import json

    return [check["expectation"] for check in json.loads(figures)["failed"]]


def test_one_that_tells_the_photos_apart_passes_also_beside_itself(settings: Settings) -> None:
    fill(settings)
    passed = ask(settings, classifier())
    assert passed.success and len(passed.checks) == 5
    assert len(ask(settings, classifier(), classifier()).checks) == 6


def test_one_that_was_never_sure_is_refused(settings: Settings) -> None:
    fill(settings)
    said = refused(settings, with_threshold(classifier(), None))
    assert said[0].startswith("validation has a threshold") and len(said) == 3


def test_tags_that_are_surely_less_precise_are_refused(settings: Settings) -> None:
    fill(settings, wrong=40)  # four of five are right, of 200
    (only,) = refused(settings, classifier())
    assert only == "tags on the reported split are shown to be at least 93% precise"


def test_tags_that_are_not_shown_to_be_precise_are_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(settings, wrong=8)  # 0.96 are right, of 100 products: 0.91 is all that is shown
    assert refused(settings, classifier()) == ["tags on the reported split are shown to be at least 93% precise"]
    monkeypatch.setenv("VITRINE_TAGS__TOLERANCE", "0.06")
    assert ask(load_settings(settings.root), classifier()).success


def test_photos_of_a_product_count_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(settings, products=40)
    said = refused(settings, classifier())  # 42 products are needed, all right, to show 0.93
    assert "tags on the reported split are of enough products to show a precision of 93%" in said
    monkeypatch.setenv("VITRINE_TAGS__INDEPENDENT", "photos")
    assert ask(load_settings(settings.root), classifier()).success


def test_figures_of_a_classifier_are_metrics_with_intervals(settings: Settings) -> None:
    fill(settings, wrong=20)
    asked = classifier()
    answers = ask_reported(settings, asked)
    assert answers is not None
    said = score_tags(settings, asked, answers, "run")
    rows = lake.rows(settings, "SELECT * FROM metrics")
    assert {row["metric"] for row in rows} == set(TAG_NAMES)
    assert {(row["classifier"], row["relevant"]) for row in rows} == {(f"tags_{asked.version}", "category")}
    assert said["metrics"]["tag_precision"] == pytest.approx(0.9) and said["metrics"]["coverage"] == 1
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows if row["metric"] != "ece")
    assert sum(one["photos"] for one in said["calibration"]) == PHOTOS
    score_tags(settings, asked, answers, "again")
    again = lake.rows(settings, "SELECT * FROM metrics")
    assert len(again) == len(rows) and sum(row["slice"] == "all" for row in again) == len(TAG_NAMES)


def test_each_class_has_figures_of_its_own(settings: Settings) -> None:
    fill(settings, wrong=20)
    asked = with_threshold(classifier(), 0.9, thresholds={"b": None})  # tags nothing as b
    answers = ask_reported(settings, asked)
    assert answers is not None
    score_tags(settings, asked, answers, "run")
    rows = lake.rows(settings, "SELECT * FROM metrics WHERE starts_with(slice, 'class=')")
    by = {(row["slice"], row["metric"]): row for row in rows}
    assert set(by) == {("class=a", "coverage"), ("class=a", "tag_precision"), ("class=b", "coverage")} | {
        ("class=c", "coverage"),
        ("class=c", "tag_precision"),
    }
    for name in "abc":
        of, said = answers.truth == name, answers.tagged & (answers.said == name)
        row = by[f"class={name}", "coverage"]
        assert row["value"] == pytest.approx(answers.tagged[of].mean()) and row["queries"] == of.sum()
        assert row["low"] <= row["value"] <= row["high"]
        if name != "b":
            assert by[f"class={name}", "tag_precision"]["value"] == pytest.approx(answers.right[said].mean())


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
    assert len(ask(settings, classifier()).checks) == 1


def test_a_class_with_its_own_threshold_keeps_its_own_promise(settings: Settings) -> None:
    fill(settings)
    text = "no class with a threshold of its own has tags that are surely less than 93% precise"
    classes = ("a", "x", "c")  # what shows b is called x, always wrong
    assert text not in refused(settings, classifier(classes=classes)), "the others' threshold promises no class its own"
    own = with_threshold(classifier(classes=classes), 0.9, thresholds={"x": 0.5})
    assert text in refused(settings, own)
