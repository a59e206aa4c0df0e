"""The figures of one slice of queries, and their rows of ``metrics``: written in one commit, read back."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from evaluation.statistics.bootstrap import Floats
from vitrine import lake
from vitrine.settings import Settings
from vitrine.tables import METRICS

ALL_QUERIES = "all"
"""The slice that is all of them."""

Interval = tuple[float | None, float | None]


@dataclass(frozen=True)
class Scores:
    """Figures by name, each with its 95 % interval: (None, None) where none is defined."""

    slice: str
    values: dict[str, float]
    intervals: dict[str, Interval]
    queries: int
    queries_left_out: int
    index_size: int = 0

    def figures(self, names: Sequence[str]) -> dict[str, Any]:
        """``metrics`` and ``intervals`` of ``names``, as ``--json`` prints them."""
        return {
            "metrics": {name: self.values[name] for name in names},
            "intervals": {name: list(self.intervals[name]) for name in names},
        }


def named(names: Iterable[str], values: Floats, intervals: Floats) -> tuple[dict[str, float], dict[str, Interval]]:
    """``values``, (M,), and ``intervals``, (M, 2), by name; a bound that is NaN is None."""
    bounds = [(None, None) if math.isnan(low) else (low, high) for low, high in intervals.tolist()]
    names = list(names)
    return dict(zip(names, values.tolist(), strict=True)), dict(zip(names, bounds, strict=True))


def write_scores(settings: Settings, key: dict[str, Any], about: dict[str, Any], scores: Iterable[Scores]) -> None:
    """Replace the rows of ``key`` (column to value); ``about`` holds what else all the new rows share."""
    moment = lake.now()
    rows = [
        key
        | about
        | {"slice": one.slice, "metric": name, "value": value, "computed_at": moment}
        | dict(zip(("low", "high"), one.intervals[name], strict=True))
        | {"queries": one.queries, "queries_left_out": one.queries_left_out, "index_size": one.index_size}
        for one in scores
        for name, value in one.values.items()
    ]
    lake.write(settings, METRICS, pa.Table.from_pylist(rows, schema=METRICS.schema), replacing=key)


def evaluated(settings: Settings, encoder_version: str, like: dict[str, Any]) -> bool:
    """Does ``encoder_version`` have retrieval figures for the evaluation that ``like`` (``evaluate --json``) is of?"""
    protocol = {name: like[name] for name in ("dataset", "catalog_version", "query_split", "index_split", "relevant")}
    where = lake.matches(encoder_version=encoder_version, classifier="", **protocol)
    return bool(lake.rows(settings, f"SELECT 1 FROM {METRICS.name} WHERE {where} LIMIT 1"))


def read_scores(settings: Settings, key: dict[str, Any], input_version: str) -> dict[str, Scores]:
    """The figures of ``key`` by slice; empty where there are none, or they are of another ``input_version``."""
    where = " AND ".join(
        f"{name} = {lake.quote(value) if isinstance(value, str) else value}" for name, value in key.items()
    )
    # All columns: a table that an earlier version made may lack some.
    found = lake.rows(settings, f"SELECT * FROM {METRICS.name} WHERE {where}")
    kept: dict[str, Scores] = {}
    for row in found:
        if row.get("input_version") != input_version:
            return {}
        counts = (row[name] for name in ("queries", "queries_left_out", "index_size"))
        one = kept.setdefault(row["slice"], Scores(row["slice"], {}, {}, *counts))
        one.values[row["metric"]] = row["value"]
        one.intervals[row["metric"]] = (row["low"], row["high"])
    return kept
