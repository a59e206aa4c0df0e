"""Encoders held against each other on the same queries and photos: read once, compared in pairs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.report.figures import HEADLINE, Entry, Group, Row
from evaluation.statistics.bootstrap import Floats, PairedDifference, paired_difference
from vitrine import lake
from vitrine.lake import matches
from vitrine.names import split_joined
from vitrine.retrieval_metrics import mmp_in_sql
from vitrine.settings import Settings


@dataclass(frozen=True)
class Paired:
    """Figures of the same items by several contestants."""

    rows: dict[Any, int]
    """Contestant to its row of ``scores``."""
    scores: Floats
    """(contestants, items); NaN where a contestant has none."""
    products: NDArray[np.integer]
    """(items,): a number for the product of each: products are what the bootstrap draws."""

    def difference(
        self, one: Any, other: Any, margin: float = 0.0, confidence: float = 0.95
    ) -> PairedDifference | None:
        """``one`` minus ``other``; None where they have no item in common."""
        if one not in self.rows or other not in self.rows:
            return None
        ours, theirs = self.scores[self.rows[one]], self.scores[self.rows[other]]
        if np.isnan(ours - theirs).all():
            return None
        return paired_difference(ours, theirs, self.products, margin, confidence)


def results_of(entry: Entry) -> str:
    """The SQL condition of the entry's rows of ``query_results`` that have something to be found."""
    return f"{entry.evaluation.results} AND n_relevant > 0"


def paired_queries(settings: Settings, group: Group) -> Paired:
    """mMP@5 of every query, by encoder version, of those on the newest catalog."""
    where = " OR ".join(f"({results_of(entry)})" for entry in group.current)
    return _paired(
        settings,
        f"SELECT q.encoder_version AS who, q.query_id AS item, q.score, c.product_id AS product FROM (SELECT query_id, "
        f"encoder_version, {mmp_in_sql()} AS score FROM query_results WHERE {where or 'false'}) AS q "
        f"JOIN {_products(group.dataset)} ON c.image_id = q.query_id",
    )


def paired_photos(settings: Settings, dataset: str, label: str) -> Paired:
    """How often each photo's label was predicted rightly, over the seeds, by (encoder version, classifier)."""
    right = "avg(CASE WHEN predicted[1] = truth THEN 1.0 ELSE 0.0 END)"
    photos = _paired(
        settings,
        f"SELECT concat(p.encoder_version, '/', p.classifier) AS who, p.image_id AS item, p.score, "
        f"c.product_id AS product FROM (SELECT encoder_version, classifier, image_id, {right} AS score "
        f"FROM predictions WHERE {matches(dataset=dataset, label=label)} "
        f"GROUP BY encoder_version, classifier, image_id) AS p "
        f"JOIN {_products(dataset)} ON c.image_id = p.image_id",
    )
    rows = {tuple(str(who).split("/", 1)): row for who, row in photos.rows.items()}
    return Paired(rows, photos.scores, photos.products)


def _products(dataset: str) -> str:
    """A relation ``c`` of the photos that are in the catalog, with their products."""
    return f"(SELECT image_id, product_id FROM catalog WHERE {matches(dataset=dataset)}) AS c"


def _paired(settings: Settings, sql: str) -> Paired:
    table = lake.query(settings, sql)
    if not len(table):
        return Paired({}, np.empty((0, 0)), np.empty(0, dtype=np.int64))
    codes = {}
    names = {}
    for column in ("who", "item", "product"):
        encoded = table.column(column).combine_chunks().dictionary_encode()
        codes[column], names[column] = encoded.indices.to_numpy(), encoded.dictionary
    scores = np.full((len(names["who"]), len(names["item"])), np.nan)
    scores[codes["who"], codes["item"]] = table.column("score").to_numpy()
    products = np.zeros(len(names["item"]), dtype=np.int64)
    products[codes["item"]] = codes["product"]
    return Paired({who: row for row, who in enumerate(names["who"].to_pylist())}, scores, products)


# ---- what tuning changed ----


@dataclass(frozen=True)
class Gain:
    """A tuned encoder beside its own backbone."""

    entry: Entry
    base: Entry
    change: PairedDifference
    """Tuned minus base."""


def gains(group: Group, queries: Paired) -> list[Gain]:
    """Of each tuned encoder whose backbone is in ``group`` too (of joined ones, the best); the greatest first."""
    by_version = {entry.encoder_version: entry for entry in group.encoders}
    each = []
    for entry in group.encoders:
        versions = split_joined(entry.about["base_version"] or "")
        known = [by_version[version] for version in versions if version in by_version]
        base = max(known, key=lambda each: each.values.get(HEADLINE, -1.0), default=None)
        change = base and queries.difference(entry.encoder_version, base.encoder_version)
        if base and change:
            each.append(Gain(entry, base, change))
    return sorted(each, key=lambda gain: (-gain.change.value, gain.entry.label))


def cross_matrices(measured: dict[str, list[Gain]]) -> list[Row]:
    """What was tuned on one data set, measured on others: a matrix for each backbone and strategy.

    ``measured``: data set to its ``gains``. Each matrix has ``backbone``, ``strategy``, ``sources`` (rows),
    ``targets`` (columns) and ``cells[i][j]``: None or ``value``, ``low``, ``high`` (None of several), ``tuned``: how
    many encoders it is the mean of. Only those that were measured on two data sets.
    """
    cells: dict[tuple[str, str], dict[tuple[str, str], list[PairedDifference]]] = {}
    for target, each in measured.items():
        for gain in each:
            about = gain.entry.about
            if about["source_dataset"]:
                matrix = cells.setdefault((gain.base.encoder, about["strategy"]), {})
                matrix.setdefault((about["source_dataset"], target), []).append(gain.change)
    result = []
    for (backbone, strategy), matrix in sorted(cells.items()):
        sources, targets = (sorted({pair[side] for pair in matrix}) for side in (0, 1))
        if len(targets) > 1:
            rows = [[_cell(matrix.get((source, target), [])) for target in targets] for source in sources]
            about = {"backbone": backbone, "strategy": strategy, "sources": sources, "targets": targets}
            result.append(about | {"cells": rows})
    return result


def _cell(changes: list[PairedDifference]) -> Row | None:
    if not changes:
        return None
    low, high = (changes[0].low, changes[0].high) if len(changes) == 1 else (None, None)
    value = sum(change.value for change in changes) / len(changes)
    return {"value": value, "low": low, "high": high, "tuned": len(changes)}
