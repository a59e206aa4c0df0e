"""The report's section on tags: figures, the reliability diagram, and photos to look at."""

from typing import Any

import pytest

from evaluation.report import charts
from evaluation.report.tags import FIGURES, SHOWN, sections
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
    lake.append(settings, tables.METRICS, measured)
    learned = {"classifier_version": VERSION, "calibration": BINS}
    other = {"classifier_version": "another", "calibration": []}
    lake.append(settings, tables.RUNS, [run("learn product_id", 5, learned), run("learn product_id", 6, other)])
    return settings


def test_what_tags_and_what_it_said(tagged: Settings) -> None:
    (section,) = sections(tagged, "shop", pictures=True)
    assert section["counts"] == {"photos": 9, "tagged": 1, "unsure": 1, "unlike": 7}
    assert section["figures"].keys() == FIGURES.keys()
    assert section["figures"]["coverage"] == {"value": 0.8125, "bounds": (0.75, 0.875)}
    assert section["calibration"] == BINS, "those of the classifier that tags, not of the newest that was learned"
    assert {kind: len(photos) for kind, photos in section["shown"].items()} == {"disagrees": 1, "unlike": SHOWN}
    assert all(photo["data"] for photos in section["shown"].values() for photo in photos)
    assert sections(tagged, "shop", pictures=False)[0]["shown"] == {}


def test_the_page_shows_it(tagged: Settings) -> None:
    html, page = write(tagged)
    assert "9 photos asked about: 1 tagged, 1 left because the classifier is unsure, 7 because" in page.text
    assert "Labels that a sure tag disagrees with" in page.text and "0.812" in page.text
    assert page.all("div", id="chart-tags-product_id-shop") and EVIL not in html
    assert charts.calibration(BINS)["alt"] in html
    assert VERSION in html and f"tags {VERSION}" not in html, "it is no row of the table of classifiers"


def test_a_data_set_without_tags_has_no_section(settings: Settings, catalog: list[dict[str, Any]]) -> None:
    assert sections(settings, "shop", pictures=True) == []
    assert "photos that sort themselves" not in write(settings)[0]
