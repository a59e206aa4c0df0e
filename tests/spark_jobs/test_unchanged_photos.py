"""A night without news is told without Spark; whatever is new is left to it."""

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spark_jobs import ingest_catalog, unchanged_photos
from spark_jobs.ingest_catalog import ingest
from vitrine import lake
from vitrine.settings import Settings
from vitrine.tables import LABELS


class Asked(Exception):
    """Spark was."""


def quiet(monkeypatch: pytest.MonkeyPatch, settings: Settings, *arguments: Any, **how: Any) -> dict[str, Any] | None:
    """The figures of an ingest that does without Spark; None of one that would start it."""

    def start(*_: Any) -> None:
        raise Asked

    with monkeypatch.context() as patch:
        patch.setattr(ingest_catalog, "build_session", start)
        before = {path: path.stat().st_mtime_ns for path in settings.lake.rglob("*.json")}
        try:
            figures = ingest(settings, *arguments, **how)
        except Asked:
            return None
        assert {path: path.stat().st_mtime_ns for path in settings.lake.rglob("*.json")} == before, "nothing is written"
        return {name: count for name, count in figures.items() if count}


@pytest.mark.usefixtures("spark")
def test_a_folder_without_news(settings: Settings, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch):
    root = draw(3, 2)

    def night(**how: Any) -> dict[str, Any] | None:
        return quiet(monkeypatch, settings, str(root), "d", **how)

    assert night() is None, "nothing is known yet"
    ingest(settings, str(root), "d", test_share=0.5)
    assert night(test_share=0.5) == {"images": 6, "unchanged": 6}
    assert night() is None and night(test_share=0.01) is None, "splits would change"
    assert quiet(monkeypatch, settings, f"file://{root}", "d", test_share=0.5) is None, "uris are spelled otherwise"
    with monkeypatch.context() as patch:
        patch.setattr(unchanged_photos, "MOST_PHOTOS", 5)
        assert night(test_share=0.5) is None

    photo = sorted(root.glob("*/*.jpg"))[0]
    facts = photo.stat()
    os.utime(photo, (facts.st_atime, facts.st_mtime + 5))
    assert night(test_share=0.5) is None, "it may be another picture"
    os.utime(photo, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert night(test_share=0.5)
    shutil.copy(photo, root / "new.jpg")
    assert night(test_share=0.5) is None, "a file beside the products is one to quarantine"
    ingest(settings, str(root), "d", test_share=0.5)
    (root / "new.jpg").unlink()
    assert night(test_share=0.5) is None, "quarantine is to be mended"
    ingest(settings, str(root), "d", test_share=0.5)
    assert night(test_share=0.5)
    photo.rename(photo.with_name("moved.jpg"))
    assert night(test_share=0.5) is None
    photo.with_name("moved.jpg").unlink()
    assert night(test_share=0.5) is None, "one left"
    ingest(settings, str(root), "d", test_share=0.5)
    assert night(test_share=0.5) == {"images": 5, "unchanged": 5}
    lake.delta(settings, LABELS).delete("image_id LIKE 'd/%'")
    assert night(test_share=0.5) is None, "the history lacks labels"


@pytest.mark.usefixtures("spark")
def test_a_table_without_news(settings: Settings, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch):
    root = draw(2, 2)

    def table(colour: str, uri: str = "") -> str:
        with (root / "shop.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["uri", "product_id", "colour", "split", "category"])
            for photo in sorted(root.glob("*/*.jpg")):
                rows.writerow([uri or photo.relative_to(root), photo.parent.name, colour, "validation", "cup"])
        return str(root / "shop.csv")

    given = {"layout": "table", "attributes": {"colour": "colour"}}
    ingest(settings, table("red"), "d", **given)
    assert quiet(monkeypatch, settings, table("red"), "d", **given) == {"images": 4, "unchanged": 4}
    assert quiet(monkeypatch, settings, table("blue"), "d", **given) is None
    assert quiet(monkeypatch, settings, table("red"), "d", layout="table") is None, "attributes would go"
    assert quiet(monkeypatch, settings, table("red", "https://shop.example/1.jpg"), "d", **given) is None
