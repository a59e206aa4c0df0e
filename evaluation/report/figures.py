"""The report's figures: what ``metrics`` says of a data set now, encoder by encoder, protocol by protocol."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from evaluation.metrics_table import ALL_QUERIES, Evaluation, Scores, newest
from evaluation.retrieval.slices import (
    CATEGORY,
    KNOWN_PRODUCTS,
    MACRO_CATEGORY,
    MACRO_PRODUCT,
    NEW_PRODUCTS,
    SHUFFLED,
    WITHOUT_DUPLICATES,
    macro_slice,
    value_slice,
)
from vitrine import lake
from vitrine.lake import matches, quote
from vitrine.names import split_joined
from vitrine.settings import Settings

METRICS = ("mMP@5", "mR@1", "R@10", "MAP@100", "MRR", "NDCG@100")
HEADLINE = METRICS[0]
SLICES = (
    ALL_QUERIES,
    MACRO_PRODUCT,
    MACRO_CATEGORY,
    KNOWN_PRODUCTS,
    NEW_PRODUCTS,
    WITHOUT_DUPLICATES,
    SHUFFLED,
)
MOST_ENCODERS = 16
UNKNOWN = {"family": "", "strategy": "", "base_version": None, "source_dataset": None, "dim": None, "backbone": ""}

Row = dict[str, Any]
Bounds = tuple[float, float]
"""A 95 % interval."""


@dataclass(frozen=True)
class Figure:
    """One figure with its 95 % interval: None where none is defined."""

    value: float
    low: float | None
    high: float | None
    queries: int

    @classmethod
    def of(cls, scores: Scores, metric: str) -> Self:
        return cls(scores.values[metric], *scores.intervals[metric], scores.queries)


@dataclass(eq=False)
class Entry:
    """An encoder version in a group: its newest figures, and what the page calls it."""

    evaluation: Evaluation
    about: Row
    """Its row of ``encoders``, as ``registered`` has it."""
    serves: bool
    older_catalog: bool = False
    """Are the figures of an older catalog than the group's newest?"""
    label: str = ""
    number: int = 0
    """By which charts and tables name it: 1 is the best."""

    def __post_init__(self) -> None:
        encoded, everything = self.evaluation.encoded, self.evaluation.scores[ALL_QUERIES]
        self.encoder, self.encoder_version = encoded.encoder, encoded.encoder_version
        self.values, self.queries = everything.values, everything.queries
        self.queries_left_out, self.index_size = everything.queries_left_out, everything.index_size
        self.intervals: dict[str, Bounds] = {
            name: (low, high)
            for name, (low, high) in everything.intervals.items()
            if low is not None and high is not None
        }

    @property
    def catalog_version(self) -> str:
        return self.evaluation.catalog_version

    def figure(self, slice_name: str, metric: str) -> Figure | None:
        """A metric of one slice of the queries; None where it has none."""
        scores = self.evaluation.scores.get(slice_name)
        return Figure.of(scores, metric) if scores and metric in scores.values else None


@dataclass(frozen=True)
class Group:
    """The newest figures of a data set by one protocol (queries -> index, what counts as relevant)."""

    dataset: str
    query_split: str
    index_split: str
    relevant: str
    catalog_version: str
    """The newest that there are figures of."""
    encoders: list[Entry]
    """Best first: the newest version of each encoder, the version that serves, and the backbones of tuned ones."""
    left_off: int
    """Weaker ones that are too many to be shown."""

    @cached_property
    def best(self) -> dict[str, float]:
        """The highest value of each metric."""
        return {metric: max(entry.values.get(metric, 0.0) for entry in self.encoders) for metric in METRICS}

    @cached_property
    def chance(self) -> dict[str, float]:
        """What shuffled labels give: the mean over the encoders."""
        shuffled = {metric: [entry.figure(SHUFFLED, metric) for entry in self.encoders] for metric in METRICS}
        values = {metric: [one.value for one in each if one] for metric, each in shuffled.items()}
        return {metric: sum(each) / len(each) for metric, each in values.items() if each}

    @property
    def current(self) -> list[Entry]:
        """Those whose figures are of the newest catalog."""
        return [entry for entry in self.encoders if not entry.older_catalog]

    @property
    def leader(self) -> Entry:
        """What serves, else the best: the encoder that the page looks at closely."""
        return next((entry for entry in self.encoders if entry.serves), self.encoders[0])

    def of_catalog(self, catalog_version: str) -> list[Entry]:
        return [entry for entry in self.encoders if entry.catalog_version == catalog_version]


def registered(settings: Settings) -> dict[str, Row]:
    """The rows of ``encoders`` by version; ``tuning``: what making it cost, where it was tuned."""
    rows = lake.rows(settings, "SELECT * FROM encoders")
    return {row["encoder_version"]: row | {"tuning": json.loads(row["cost"] or "{}")} for row in rows}


def groups(settings: Settings, dataset: str, served: str | None, known: dict[str, Row]) -> list[Group]:
    """The current figures, one group a protocol, the main one first.

    Args:
        served: the encoder version that serves.
        known: what ``registered`` returns.
    """
    shown = (*SLICES, *map(macro_slice, settings.evaluate.slices))
    names, slices = ", ".join(map(quote, METRICS)), ", ".join(map(quote, shown))
    where = f"{matches(dataset=dataset, classifier='')} AND metric IN ({names}) AND slice IN ({slices})"
    by_protocol: dict[tuple[str, str, str], list[Entry]] = {}
    for each in newest(settings, where):
        if ALL_QUERIES in each.scores:
            version = each.encoded.encoder_version
            entry = Entry(each, known.get(version, UNKNOWN), serves=version == served)
            by_protocol.setdefault(each.protocol, []).append(entry)
    # The protocol that was evaluated last comes first; product before category.
    ordered = sorted(by_protocol.items(), key=lambda item: item[0][2] != "product_id")
    return [_group(dataset, protocol, entries) for protocol, entries in ordered]


def _group(dataset: str, protocol: tuple[str, str, str], entries: list[Entry]) -> Group:
    """``entries``: the newest first."""
    kept = _kept(entries)
    current = kept[0].catalog_version
    for entry in kept:
        entry.older_catalog = entry.catalog_version != current
        twins = sum(other.encoder == entry.encoder for other in kept) > 1
        entry.label = entry.encoder + (f" {entry.encoder_version[:8]}" if twins else "")
    ranked = sorted(kept, key=lambda e: (-e.values.get(HEADLINE, -1.0), e.encoder, e.encoder_version))
    ranked = [entry for at, entry in enumerate(ranked) if entry.serves or at < MOST_ENCODERS]
    for number, entry in enumerate(ranked, 1):
        entry.number = number
    return Group(dataset, *protocol, current, ranked, left_off=len(kept) - len(ranked))


def _kept(entries: list[Entry]) -> list[Entry]:
    """Of ``entries``, newest first: the newest of each encoder, what serves, and the backbones of those."""
    names: set[str] = set()
    chosen = []
    for entry in entries:
        if entry.serves or entry.encoder not in names:
            chosen.append(entry)
        names.add(entry.encoder)
    bases = {version for entry in chosen for version in split_joined(entry.about["base_version"] or "")}
    return [entry for entry in entries if entry in chosen or entry.encoder_version in bases]


def by_labels(settings: Settings, group: Group, most: int) -> list[Row]:
    """``by_label`` of the category and of each attribute that figures are sliced by, as far as there is one."""
    every = (by_label(settings, group, most, label) for label in (CATEGORY, *settings.evaluate.slices))
    return [one for one in every if one]


def by_label(settings: Settings, group: Group, most: int, label: str = CATEGORY) -> Row | None:
    """The ``most`` worst and best categories (or values of an attribute) by the encoder that the page looks at; None
    where there are not two.

    ``label``; ``encoder``; ``rows``; ``total``, of all categories; ``several``, whether other encoders are beside it.
    Each row has ``category``, the encoder's ``own`` figure and, over all encoders of the same catalog, the ``best`` and
    ``worst``: the fields of a ``Figure``, and its ``entry``.
    """
    chosen = group.leader
    entries = {entry.encoder_version: entry for entry in group.of_catalog(chosen.catalog_version)}
    versions, begins = ", ".join(map(quote, entries)), quote(value_slice(label, ""))
    where = (
        f"{matches(dataset=group.dataset, catalog_version=chosen.catalog_version, classifier='', metric=HEADLINE)} "
        f"AND {matches(query_split=group.query_split, index_split=group.index_split, relevant=group.relevant)} "
        f"AND starts_with(slice, {begins}) AND encoder_version IN ({versions})"
    )
    figures: dict[str, list[Row]] = {}
    for each in newest(settings, where):
        for name, scores in each.scores.items():
            one = {"entry": entries[each.encoded.encoder_version], **vars(Figure.of(scores, HEADLINE))}
            figures.setdefault(name.removeprefix(value_slice(label, "")), []).append(one)
    rows: list[Row] = []
    for category, ones in figures.items():
        own = [one for one in ones if one["entry"] is chosen]
        if own:
            ranked = sorted(ones, key=lambda one: (-one["value"], one["entry"].number))
            rows.append({"category": category, "own": own[0], "best": ranked[0], "worst": ranked[-1]})
    if len(rows) < 2:
        return None
    rows.sort(key=lambda row: (row["own"]["value"], -row["own"]["queries"], row["category"]))
    shown = rows if len(rows) <= 2 * most else [*rows[:most], *rows[-most:]]
    return {"label": label, "encoder": chosen, "rows": shown, "total": len(rows), "several": len(entries) > 1}
