"""The report's section on tags: figures, the reliability diagram, and photos to look at."""

from datetime import timedelta
from typing import Any

import pytest

from evaluation.gates.tag_drift import QUESTION
from evaluation.report import charts
from evaluation.report.tags import CLASSES, FIGURES, PHOTOS, sections
from tests.evaluation.report.test_report import ENCODERS, EVIL, NIGHT, catalog, metric, run, settings, write
from vitrine import lake, tables
from vitrine.encoders.classifiers import UNLIKE, UNSURE
from vitrine.settings import Settings

__all__ = ["catalog", "settings"]
VERSION = "cccccccc33333333"
BINS = [
    {"above": 0.4, "upto": 0.5, "photos": 2, "confidence": 0.45, "accuracy": 0.5},
    {"above": 0.9, "upto": 1.0, "photos": 7, "confidence": 0.95, "accuracy": 1.0},
]


def gate(minute: int, said: str, warned: bool, label: str = "product_id") -> dict[str, Any]:
    """A run of the gate on tags."""
    figures = {"label": label, **({"warning": "shares shifted"} if warned else {})}
    drift = {"expectation": f"{QUESTION}: {said}", "success": True, "figures": figures}
    return run("gate", minute, {"gate": "tags", "success": True, "checks": [{**drift, "expectation": "else"}, drift]})


@pytest.fixture
def tagged(settings: Settings, catalog: list[dict[str, Any]]) -> Settings:
    """Nine photos: a sure tag is one that disagrees with the label, one is unsure, the rest are unlike anything."""
    reasons = [None, UNSURE, *[UNLIKE] * 7]
    rows = [
        {"image_id": row["image_id"], "label": "product_id", "dataset": "shop", "value": f"shop/{EVIL}"}
        | {"probability": 0.9, "runner_up": "shop/hat", "abstained": reason is not None, "reason": reason}
        | {"classifier_version": VERSION, "encoder_version": ENCODERS["lite"], "content_sha256": "0"}
        | {"tagged_at": NIGHT}
        for row, reason in zip(catalog, reasons, strict=True)
    ]
    lake.append(settings, tables.TAGS, rows)
    classifier = {"dataset": "shop", "label": "product_id", "promoted_at": NIGHT, "classifier_version": VERSION}
    classifier |= {"encoder": "lite", "encoder_version": ENCODERS["lite"], "kind": "ridge", "training_set": "t"}
    lake.append(settings, tables.CLASSIFIERS, [{**classifier, "threshold": 0.5, "gate": "{}"}])
    measured = [
        metric("lite", name, 0.8125, low=0.75, high=0.875, classifier=f"tags_{VERSION}", index_split="")
        for name in FIGURES
    ]
    of_class = [
        metric("lite", name, value, slice=f"class={of}", classifier=f"tags_{VERSION}", index_split="", queries=3)
        for of, name, value in [
            ("shop/cup", "coverage", 0.5),
            ("shop/cup", "tag_precision", 0.75),
            ("shop/hat", "coverage", 0.25),
            ("shop/hat", "tag_precision", 0.5),
            ("shop/never said", "coverage", 0.0),
        ]
    ]
    lake.append(settings, tables.METRICS, measured + of_class)
    learned = {"classifier_version": VERSION, "calibration": BINS}
    other = {"classifier_version": "another", "calibration": []}
    lake.append(settings, tables.RUNS, [run("learn product_id", 5, learned), run("learn product_id", 6, other)])
    lake.append(settings, tables.RUNS, [gate(7, "'hat' 9.0% for 1.0%", True), gate(8, "of colours", False, "colour")])
    return settings


def test_what_tags_and_what_it_said(tagged: Settings) -> None:
    (section,) = sections(tagged, "shop", pictures=True)
    assert section["counts"] == {"photos": 9, "tagged": 1, "unsure": 1, "unlike": 7}
    assert section["figures"].keys() == FIGURES.keys()
    assert section["figures"]["coverage"] == {"value": 0.8125, "bounds": (0.75, 0.875)}
    assert section["calibration"] == BINS, "those of the classifier that tags, not of the newest that was learned"
    assert {kind: len(photos) for kind, photos in section["shown"].items()} == {"disagrees": 1, "unlike": PHOTOS}
    assert all(photo["data"] for photos in section["shown"].values() for photo in photos)
    assert sections(tagged, "shop", pictures=False)[0]["shown"] == {}
    said = [(one["name"], one["coverage"]["value"], one["tag_precision"]) for one in section["classes"]]
    assert [name for name, *_ in said] == ["shop/hat", "shop/cup", "shop/never said"], "the least precise first"
    assert said[2][1:] == (0.0, None) and section["more_classes"] == 0 and len(said) < CLASSES
    assert section["outcomes"] == {"open": 0, "confirmed": 3, "corrected": 0, "disagrees": 6}
    assert section["drift"] == {"said": "'hat' 9.0% for 1.0%", "warned": True, "at": section["drift"]["at"]}


def test_a_correction_is_counted_and_shown(tagged: Settings) -> None:
    sure = "SELECT image_id FROM tags WHERE reason IS NULL"
    (first,) = lake.rows(tagged, f"SELECT * FROM catalog WHERE image_id IN ({sure})")
    label = {name: first[name] for name in tables.LABELS.schema.names if name in first}
    lake.append(tagged, tables.LABELS, [label | {"valid_from": NIGHT + timedelta(days=1)}])
    (section,) = sections(tagged, "shop", pictures=True)
    assert section["outcomes"]["corrected"] == 1
    assert [photo["image_id"] for photo in section["shown"]["corrected"]] == [first["image_id"]]


def test_an_attribute_has_its_section_too(tagged: Settings) -> None:
    rows = lake.rows(tagged, "SELECT * FROM catalog WHERE dataset = 'shop' ORDER BY image_id")
    tag = lake.rows(tagged, "SELECT * FROM tags LIMIT 1")[0] | {"label": "colour", "reason": None, "abstained": False}
    lake.append(tagged, tables.TAGS, [tag | {"image_id": row["image_id"], "value": "red"} for row in rows])
    classifier = lake.rows(tagged, "SELECT * FROM classifiers")[0]
    lake.append(tagged, tables.CLASSIFIERS, [classifier | {"label": "colour"}])
    section = next(each for each in sections(tagged, "shop", pictures=True) if each["label"] == "colour")
    assert section["outcomes"]["open"] == len(rows) and len(section["shown"]["tagged"]) == PHOTOS
    assert section["drift"]["said"] == "of colours" and not section["drift"]["warned"] and section["classes"] == []


def test_the_page_shows_it(tagged: Settings) -> None:
    html, page = write(tagged)
    assert "9 photos asked about: 1 tagged, 1 left because the classifier is unsure, 7 because" in page.text
    assert "Labels that a sure tag disagrees with" in page.text and "0.812" in page.text
    assert page.all("div", id="chart-tags-product_id-shop") and EVIL not in html
    assert "6 disagrees (the label is another one, and was said before the tag)" in page.text
    assert "'hat' 9.0% for 1.0%" in page.text and "classes shift" in page.text and "never said" in page.text
    assert charts.calibration(BINS)["alt"] in html
    assert VERSION in html and f"tags {VERSION}" not in html, "it is no row of the table of classifiers"


def test_a_data_set_without_tags_has_no_section(settings: Settings, catalog: list[dict[str, Any]]) -> None:
    assert sections(settings, "shop", pictures=True) == []
    assert "photos that sort themselves" not in write(settings)[0]
