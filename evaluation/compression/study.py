"""What each codec costs in quality: every one asks the same queries as the vectors in full, and is held against them.

Codecs are fitted on the index side alone. Search is exact, in NumPy, the query in floats.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from evaluation.compression.codec_rows import IN_FULL, codec_scores
from evaluation.compression.speed import Speed, in_full, over, speed
from evaluation.evaluate import plan
from evaluation.gates.regression import FEWEST_PRODUCTS, Against, PairedQueries, held_against, p_value
from evaluation.metrics_table import Scores
from evaluation.pages.differing import Photos, Side, galleries, uris
from evaluation.retrieval.full_ranking import staged_vectors
from evaluation.retrieval.neighbours import Ints, Items, Ranking, read_items, relevance_of
from evaluation.retrieval.slices import slice_scores
from evaluation.statistics.bootstrap import PairedDifference, paired_difference
from evaluation.statistics.several import holm
from evaluation.task import Task
from vitrine import facts, lake
from vitrine.encoded_set import EncodedSet
from vitrine.encoders.codecs import CANDIDATES, Codec, tried
from vitrine.errors import UserError
from vitrine.plain_page import Gallery
from vitrine.retrieval_metrics import nearest_first, per_query
from vitrine.setting_sections import Prices
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS
from vitrine.vectors import Floats

DIMS = (256, 128, 96, 64, 48, 32, 16)
METRICS = ("mMP@5", "mR@1", "MAP@100", "R@10")
_MOST_INDEX, _MOST_QUERIES, _BLOCK, _DEPTH = 100_000, 5_000, 256, 100


@dataclass(frozen=True)
class Row:
    """One codec beside the vectors in full."""

    codec: Codec
    scores: Scores
    """Its figures of ``METRICS``, each with its interval."""
    change: PairedDifference
    """Of the gate's metric: the codec minus the vectors in full."""
    on_new: PairedDifference | None
    """The same of queries whose product has no photo in the split train; None where all have, none has, or too few
    products have not."""
    speed: Speed
    good_enough: bool = False
    """Surely not worse by ``max_drop``, with the chance of a mistake shared by all codecs, and no category fell."""
    why: str = ""

    @property
    def bytes(self) -> int:
        return self.codec.bytes

    @property
    def metrics(self) -> dict[str, float]:
        return self.scores.values

    def money(self, prices: Prices, photos: int) -> float:
        """What ``photos`` vectors cost in a month: in memory what the first pass goes through, all of it on disk."""
        return month(prices, photos, self.codec.searched_bytes, self.bytes)


@dataclass(frozen=True)
class Study:
    """All codecs of one encoded set, the smallest vectors last."""

    task: Task
    input_version: str
    """A fingerprint of the photos and labels that it was asked of."""
    metric: str
    """The gate's, that ``Row.change`` is of."""
    dim: int
    queries: int
    index: int
    full_scores: Scores
    """Of the vectors in full, as ``Row.scores``."""
    full_speed: Speed
    new_queries: int
    """How many queries ``Row.on_new`` is of."""
    rows: list[Row]
    items: Items
    sides: tuple[Side, Side]
    """What the vectors in full answer, and the codec that is ``worth_a_look``."""

    @property
    def encoded(self) -> EncodedSet:
        return self.task.encoded

    @property
    def full(self) -> dict[str, float]:
        """The metrics of the vectors in full."""
        return self.full_scores.values

    @property
    def codecs(self) -> list[Scores]:
        """The figures of the vectors in full and of each codec, as ``codec_rows`` writes them."""
        rows = [codec_scores(row.codec.name, row.scores, row.bytes, (self.metric, row.change)) for row in self.rows]
        return [codec_scores(IN_FULL, self.full_scores, 4 * self.dim), *rows]

    def galleries(self, settings: Settings) -> list[Gallery]:
        """Queries that the codec worth a look answers differently from the vectors in full, as pictures."""
        items, dataset = self.items, self.encoded.dataset
        photos = Photos(
            lambda at: str(items.ids[at]), items.products, partial(uris, settings, dataset), settings.max_pixels
        )
        return galleries(photos, *self.sides)

    def cheapest(
        self, bytes_at_most: int | None = None, quantiser: str | None = None, dim: int | None = None
    ) -> Row | None:
        """The fewest bytes that are surely good enough; None where no codec is. ``quantiser`` and ``dim`` narrow
        them."""
        kept = [
            row
            for row in self.rows
            if row.good_enough
            and (bytes_at_most is None or row.bytes <= bytes_at_most)
            and quantiser in (None, row.codec.quantiser)
            and dim in (None, row.codec.linear.dim)
        ]
        return min(kept, key=lambda row: (row.bytes, -row.change.value), default=None)


def month(prices: Prices, photos: int, in_memory: int, on_disk: int) -> float:
    """What ``photos`` vectors of so many bytes cost in a month, by ``[prices]``."""
    return photos * (in_memory * prices.memory_gb_month + on_disk * prices.disk_gb_month) / 1e9


class _Questions:
    """The queries and the index, each a sample where there are many, and what they answer."""

    def __init__(self, settings: Settings, task: Task, at: dict[str, int]) -> None:
        items = read_items(settings, task, at)
        random = np.random.default_rng(0)
        of_split = f"SELECT image_id FROM {EMBEDDINGS.name} WHERE {task.within(task.query_split)}"
        asking = items.positions(lake.query(settings, of_split, at).column("image_id").combine_chunks())
        self.queries = np.sort(random.permutation(asking)[:_MOST_QUERIES])
        self.index = np.sort(random.permutation(np.flatnonzero(items.in_index))[:_MOST_INDEX])
        in_index = np.zeros(len(items.ids), dtype=bool)
        in_index[self.index] = True
        self.items: Items = replace(items, in_index=in_index)
        self.metric = settings.gates.metric
        # The column in which a query would find itself; -1 where it is not in the index.
        columns = np.full(len(items.ids), -1)
        columns[self.index] = np.arange(len(self.index))
        self._own = columns[self.queries]

    def new(self, full: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """(Q,): which queries that have a figure, ``full``, are of products without a photo in the split train; None
        where all are, or too few products are."""
        asked = ~np.isnan(full)
        new = asked & ~self.items.learned[self.queries]
        products = len(np.unique(self.items.products[self.queries][new]))
        return new if products >= FEWEST_PRODUCTS and new.sum() < asked.sum() else None

    def of_codec(self, codec: Codec, asked: Floats, index: Floats) -> dict[str, NDArray[np.float64]]:
        """Each query's metrics, (Q,), by vectors in full: ``asked`` (Q, D), ``index`` (N of the index, D)."""
        return self.figures(self.by_codec(codec, asked, index))

    def by_codec(self, codec: Codec, asked: Floats, index: Floats) -> Ints:
        """What each query finds, (Q, depth)."""
        again = (codec.again.linear.apply(asked), codec.again.decoded(index)) if codec.again else None
        return self.neighbours(codec.linear.apply(asked), codec.decoded(index), again)

    def neighbours(self, asked: Floats, index: Floats, again: tuple[Floats, Floats] | None = None) -> Ints:
        """The positions of what each query finds, (Q, depth), the nearest first: ``asked`` (Q, K), ``index`` (N of the
        index, K); ``again`` are the same two by which the first ``CANDIDATES`` are ranked again."""
        depth = min(_DEPTH, len(self.index) - bool((self._own >= 0).any()))
        neighbours = np.empty((len(self.queries), depth), np.int64)
        for first in range(0, len(self.queries), _BLOCK):
            block = slice(first, first + _BLOCK)
            near, own = asked[block] @ index.T, self._own[block]
            (rows,) = np.nonzero(own >= 0)
            near[rows, own[rows]] = -np.inf
            places = nearest_first(near, max(depth, min(CANDIDATES, len(self.index))) if again else depth)
            if again:
                places = _ranked_again(near, places, again[0][block], again[1])[:, :depth]
            neighbours[block] = self.index[places]
        return neighbours

    def figures(self, neighbours: Ints) -> dict[str, NDArray[np.float64]]:
        """Each query's metrics, (Q,), by what it finds."""
        ranking = Ranking(self.queries, neighbours, np.zeros(neighbours.shape, np.float32))
        return per_query(*relevance_of(ranking, self.items, self.items.labels))

    def side(self, name: str, neighbours: Ints) -> Side:
        """What the queries find, to be shown."""
        values = np.full(len(self.items.ids), np.nan)
        values[self.queries] = self.figures(neighbours)[self.metric]
        labels, row = self.items.labels, {at: row for row, at in enumerate(self.queries.tolist())}

        def nearest(at: int) -> list[tuple[int, bool]]:
            return [(other, bool(labels[other] == labels[at])) for other in neighbours[row[at]].tolist()]

        return Side(name, values, nearest)

    def scores(self, figures: dict[str, NDArray[np.float64]]) -> Scores:
        """The means over the queries of ``METRICS``, of each query's ``figures``, (Q,), with their intervals."""
        known = {name: figures[name] for name in METRICS if name in figures}
        products = self.items.products[self.queries]
        return slice_scores(known, products, [None] * len(products), len(self.index))[0]


def study(
    settings: Settings, encoded: EncodedSet, relevant: str, max_drop: float, dims: tuple[int, ...] = DIMS
) -> Study:
    """Try every codec on what ``encoded`` has.

    Raises:
        UserError: nothing is embedded, or nothing can be found again.
    """
    task = plan(settings, encoded, None, None, relevant)
    at = {EMBEDDINGS.name: lake.version(settings, EMBEDDINGS)}
    questions = _Questions(settings, task, at)
    with staged_vectors(settings, task, questions.items, at) as vectors:
        index, asked = np.array(vectors[questions.index]), np.array(vectors[questions.queries])
    found_in_full = questions.neighbours(asked, index)
    full, full_speed = questions.figures(found_in_full), speed(lambda: in_full(index), asked)
    if np.isnan(full[questions.metric]).all():
        raise UserError(f"no photo of {encoded.dataset!r} has another one to find: nothing can be measured")
    rows, answers = [], {}
    metric, products = questions.metric, questions.items.products[questions.queries]
    new, margin = questions.new(full[metric]), (max_drop, settings.gates.confidence)
    for codec in tried(index, dims):
        figures = questions.of_codec(codec, asked, index)
        ours, theirs = figures[metric], full[metric]
        change = paired_difference(ours, theirs, products, *margin)
        on_new = None if new is None else paired_difference(ours[new], theirs[new], products[new], *margin)
        took = speed(partial(over, codec, index), asked)
        rows.append(Row(codec, questions.scores(figures), change, on_new, took))
        answers[codec.name] = ours
        print(f"{codec.name}: {codec.bytes} bytes, {metric} {change.value:+.4f}", file=sys.stderr, flush=True)
    judged = _judged(settings, questions, encoded, full[metric], rows, answers, max_drop)
    judged.sort(key=lambda row: (-row.bytes, row.codec.name))
    worth_a_look = _worth_a_look(judged).codec
    sides = (IN_FULL, found_in_full), (worth_a_look.name, questions.by_codec(worth_a_look, asked, index))
    return Study(
        task,
        facts.embedded_version(settings, encoded, (relevant,), at),
        metric,
        index.shape[1],
        len(asked),
        len(index),
        questions.scores(full),
        full_speed,
        0 if new is None else int(new.sum()),
        judged,
        questions.items,
        (questions.side(*sides[0]), questions.side(*sides[1])),
    )


def _worth_a_look(rows: Sequence[Row]) -> Row:
    """The fewest bytes that are good enough; where none is, the codec that loses least."""
    good = [row for row in rows if row.good_enough]
    return (
        min(good, key=lambda row: (row.bytes, -row.change.value))
        if good
        else max(rows, key=lambda row: row.change.value)
    )


def _ranked_again(near: Floats, places: NDArray[np.intp], asked: Floats, index: Floats) -> NDArray[np.intp]:
    """``places``, (Q, C), the nearest first by ``asked``, (Q, K), and ``index``, (N, K); what is masked stays last."""
    nearness = np.stack([index[each] @ query for each, query in zip(places, asked, strict=True)])
    nearness[np.isneginf(np.take_along_axis(near, places, axis=1))] = -np.inf
    return np.take_along_axis(places, np.argsort(-nearness, axis=1, kind="stable"), axis=1)


def _judged(
    settings: Settings,
    questions: _Questions,
    encoded: EncodedSet,
    full: NDArray[np.float64],
    rows: list[Row],
    answers: dict[str, NDArray[np.float64]],
    max_drop: float,
) -> list[Row]:
    """Each codec: shown to be not worse (Holm's procedure over all of them), and held by the gate's rules."""
    chances = {row.codec.name: 1 - p_value(row.change) for row in rows}
    shown = holm(chances, 1 - settings.gates.confidence)
    thresholds = settings.gates.model_copy(update={"max_drop": max_drop})
    items, places = questions.items, questions.queries
    judged = []
    for row in rows:
        if row.codec.name not in shown:
            why = "worse" if row.change.worse else "not shown to be good enough"
            judged.append(replace(row, why=why))
            continue
        paired = PairedQueries(
            questions.metric,
            answers[row.codec.name],
            full,
            items.products[places],
            {label: np.array(of, dtype=object) for label, of in items.values_of(places).items()},
            items.learned[places],
        )
        refused = [
            check for check in held_against(Against("base", encoded), paired, [], thresholds) if not check.passed
        ]
        why = refused[0].detail if refused else f"surely within {max_drop:g}"
        judged.append(replace(row, good_enough=not refused, why=why))
    return judged
