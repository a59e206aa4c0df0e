"""The figures of one slice of queries, and their rows of ``metrics``: written in one commit, read back."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from evaluation.statistics.bootstrap import Floats
from evaluation.task import Task
from vitrine import lake
from vitrine.encoded_set import EncodedSet
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
    rows = lake.rows(settings, f"SELECT * FROM {METRICS.name} WHERE {lake.matches(**key)}")
    return {} if any(row["input_version"] != input_version for row in rows) else _by_slice(rows)


@dataclass(frozen=True)
class Evaluation(Task):
    """The newest figures that an encoder version has by one protocol.

    A classifier's have no ``index_split``, and ``relevant`` is the label that it predicts.
    """

    classifier: str
    """Empty for retrieval."""
    seed: int
    computed_at: datetime
    scores: dict[str, Scores]
    """By slice; those that ``newest`` was asked for."""

    @property
    def protocol(self) -> tuple[str, str, str]:
        """What was asked of what, and what counts as found: figures of two encoders compare only within one."""
        return self.query_split, self.index_split, self.relevant


_EVALUATION = ("encoder_version", "dataset", "query_split", "index_split", "relevant", "classifier", "seed")
"""Columns of ``metrics``: rows that are alike in them differ in catalog version, slice and metric."""


def newest(settings: Settings, where: str, versions: dict[str, int] | None = None) -> list[Evaluation]:
    """The newest figures, one evaluation for each encoder version, data set, protocol, classifier and seed.

    Of each the catalog version that was computed last counts; a caller that wants the figures of one catalog version
    says so in ``where``.

    Args:
        where: the condition for the rows of ``metrics``, most often ``lake.matches(dataset=..., classifier="")`` with
            more columns; ``classifier=""`` leaves retrieval alone, ``slice`` and ``metric`` narrow what is read.
        versions: reads ``metrics`` as of an older Delta version, as ``lake.stream`` does.

    Returns:
        The evaluation that was computed last first; ties by encoder version and protocol. Empty where there is none.
    """
    last = f"first_value(catalog_version) OVER (PARTITION BY {', '.join(_EVALUATION)} ORDER BY computed_at DESC)"
    rows = f"SELECT *, {last} AS last FROM {METRICS.name} WHERE {where}"
    sql = f"SELECT * FROM ({rows}) WHERE catalog_version = last ORDER BY computed_at"
    rows_of: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in lake.query(settings, sql, versions).to_pylist():
        rows_of.setdefault(tuple(row[name] for name in _EVALUATION), []).append(row)
    evaluations = [_evaluation(rows) for _, rows in sorted(rows_of.items())]
    return sorted(evaluations, key=lambda each: each.computed_at, reverse=True)


def _evaluation(rows: list[dict[str, Any]]) -> Evaluation:
    names = ("catalog_version", "query_split", "index_split", "relevant", "classifier", "seed")
    computed_at = max(row["computed_at"] for row in rows)
    key = {name: rows[0][name] for name in names}
    return Evaluation(EncodedSet.of(rows[0]), **key, computed_at=computed_at, scores=_by_slice(rows))


def _by_slice(rows: Iterable[dict[str, Any]]) -> dict[str, Scores]:
    """The figures of one evaluation's rows of ``metrics``."""
    scores: dict[str, Scores] = {}
    for row in rows:
        counts = (row[name] for name in ("queries", "queries_left_out", "index_size"))
        one = scores.setdefault(row["slice"], Scores(row["slice"], {}, {}, *counts))
        one.values[row["metric"]] = row["value"]
        one.intervals[row["metric"]] = (row["low"], row["high"])
    return scores
