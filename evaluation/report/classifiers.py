"""How well photos are told by classifiers on each encoder's vectors: figures, confusion, calibration."""

import json
from collections.abc import Iterator
from statistics import mean, stdev
from typing import Any

from evaluation.report.paired import paired_photos
from vitrine import lake
from vitrine.lake import quote
from vitrine.settings import Settings

FIGURES = ("accuracy", "top5", "macro_f1", "ece")
MOST = 24  # rows of one label
_RUNS = 500

Row = dict[str, Any]


def taggers(settings: Settings, here: str, group: Row | None) -> list[Row]:
    """A group a label (``relevant``) that classifiers told on the newest catalog, photos' category first.

    ``rows``, the highest accuracy first: ``key`` (version/classifier), ``entry`` (the encoder's of ``group``),
    ``label``, ``classifier``, ``photos``, ``seeds``, and each of ``FIGURES``: ``value`` (the mean over seeds),
    ``bounds`` (the seeds' mean interval, None where one has none), ``spread`` (standard deviation over seeds, None of
    one). ``paired``: photo by photo. ``details``: confusion and calibration of the first row.
    """
    if group is None:
        return []
    entries = {e["encoder_version"]: e for e in group["encoders"] if not e["older_catalog"]}
    found = lake.rows(
        settings,
        f"SELECT * FROM metrics WHERE {here} AND classifier <> '' AND slice = 'all' "
        f"AND catalog_version = {quote(group['catalog_version'])} AND metric IN ({', '.join(map(quote, FIGURES))}) "
        f"AND encoder_version IN ({', '.join(map(quote, entries)) or 'NULL'}) ORDER BY seed LIMIT 20000",
    )
    by_label: dict[str, dict[str, list[Row]]] = {}
    for row in found:
        key = f"{row['encoder_version']}/{row['classifier']}"
        by_label.setdefault(row["relevant"], {}).setdefault(key, []).append(row)
    result = []
    for relevant in sorted(by_label):  # category before product_id
        rows = [_row(key, entries[key.split("/")[0]], each) for key, each in by_label[relevant].items()]
        rows = sorted((row for row in rows if "accuracy" in row), key=lambda row: -row["accuracy"]["value"])[:MOST]
        if rows:
            details = _details(settings, here, relevant, rows[0])
            paired = paired_photos(settings, here, relevant)
            result.append({"relevant": relevant, "rows": rows, "paired": paired, "details": details})
    return result


def _row(key: str, entry: Row, rows: list[Row]) -> Row:
    figures: Row = {}
    for name in FIGURES:
        each = [row for row in rows if row["metric"] == name]
        if each:
            values = [row["value"] for row in each]
            bounds = [(row.get("low"), row.get("high")) for row in each]
            sure = all(None not in pair for pair in bounds)
            figures[name] = {
                "value": mean(values),
                "bounds": tuple(mean(side) for side in zip(*bounds, strict=True)) if sure else None,
                "spread": stdev(values) if len(values) > 1 else None,
            }
    return {
        "key": key,
        "entry": entry,
        "label": entry["label"],
        "classifier": rows[0]["classifier"],
        "photos": rows[0]["queries"],
        "seeds": len({row["seed"] for row in rows}),
        **figures,
    }


def _details(settings: Settings, here: str, relevant: str, row: Row) -> Row | None:
    """What the newest evaluation said of the classifier's first seed: ``confusion_matrix`` with ``classes``,
    ``most_confused``, ``calibration``."""
    version, classifier = row["key"].split("/", 1)
    for said in _said(settings, f"{here} AND encoder_version = {quote(version)}"):
        if said.get("classifier") == classifier and said.get("label") == relevant:
            return said
    return None


def _said(settings: Settings, where: str) -> Iterator[Row]:
    found = lake.rows(
        settings,
        f"SELECT figures FROM runs WHERE {where} AND verb = 'evaluate' AND state = 'done' "
        f"ORDER BY started_at DESC, run_id LIMIT {_RUNS}",
    )
    for row in found:
        yield from json.loads(row["figures"] or "{}").get("classifiers") or []
