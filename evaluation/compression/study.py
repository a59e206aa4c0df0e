"""What each codec costs in quality: every one asks the same queries as the vectors in full, and is held against them.

Codecs are fitted on the index side alone. Search is exact, in NumPy, the query in floats.
"""

import sys
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.evaluate import plan
from evaluation.gates.regression import Against, PairedQueries, held_against, p_value
from evaluation.retrieval.full_ranking import staged_vectors
from evaluation.retrieval.neighbours import Items, Ranking, read_items, relevance_of
from evaluation.statistics.bootstrap import PairedDifference, paired_difference
from evaluation.statistics.several import holm
from evaluation.task import Task
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.encoders.codecs import Codec, tried
from vitrine.errors import UserError
from vitrine.retrieval_metrics import nearest_first, per_query
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
    metrics: dict[str, float]
    change: PairedDifference
    """Of the gate's metric: the codec minus the vectors in full."""
    good_enough: bool = False
    """Surely not worse by ``max_drop``, with the chance of a mistake shared by all codecs, and no category fell."""
    why: str = ""

    @property
    def bytes(self) -> int:
        return self.codec.bytes


@dataclass(frozen=True)
class Study:
    """All codecs of one encoded set, the smallest vectors last."""

    encoded: EncodedSet
    dim: int
    queries: int
    index: int
    full: dict[str, float]
    """The metrics of the vectors in full."""
    rows: list[Row]

    def cheapest(self, bytes_at_most: int | None = None, quantiser: str | None = None) -> Row | None:
        """The fewest bytes that are surely good enough; None where no codec is. ``quantiser`` narrows them."""
        kept = [
            row
            for row in self.rows
            if row.good_enough
            and (bytes_at_most is None or row.bytes <= bytes_at_most)
            and quantiser in (None, row.codec.quantiser)
        ]
        return min(kept, key=lambda row: (row.bytes, -row.change.value), default=None)


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

    def figures(self, asked: Floats, index: Floats) -> dict[str, NDArray[np.float64]]:
        """Each query's metrics, (Q,): ``asked`` (Q, K), ``index`` (N of the index, K)."""
        depth = min(_DEPTH, len(self.index) - bool((self._own >= 0).any()))
        neighbours = np.empty((len(self.queries), depth), np.int64)
        for first in range(0, len(self.queries), _BLOCK):
            block = slice(first, first + _BLOCK)
            near, own = asked[block] @ index.T, self._own[block]
            (rows,) = np.nonzero(own >= 0)
            near[rows, own[rows]] = -np.inf
            neighbours[block] = self.index[nearest_first(near, depth)]
        ranking = Ranking(self.queries, neighbours, np.zeros(neighbours.shape, np.float32))
        return per_query(*relevance_of(ranking, self.items, self.items.labels))


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
    full = questions.figures(asked, index)
    if np.isnan(full[questions.metric]).all():
        raise UserError(f"no photo of {encoded.dataset!r} has another one to find: nothing can be measured")
    rows, answers = [], {}
    for codec in tried(index, dims):
        figures = questions.figures(codec.linear.apply(asked), codec.decoded(index))
        metric, products = questions.metric, questions.items.products[questions.queries]
        confidence = settings.gates.confidence
        change = paired_difference(figures[metric], full[metric], products, max_drop, confidence)
        rows.append(Row(codec, _means(figures), change))
        answers[codec.name] = figures[metric]
        print(f"{codec.name}: {codec.bytes} bytes, {metric} {change.value:+.4f}", file=sys.stderr, flush=True)
    judged = _judged(settings, questions, encoded, full[questions.metric], rows, answers, max_drop)
    ordered = sorted(judged, key=lambda row: (-row.bytes, row.codec.name))
    return Study(encoded, index.shape[1], len(asked), len(index), _means(full), ordered)


def _means(figures: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    return {name: float(np.nanmean(figures[name])) for name in METRICS if name in figures}


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
            items.categories[places],
            items.learned[places],
        )
        refused = [
            check for check in held_against(Against("base", encoded), paired, [], thresholds) if not check.passed
        ]
        why = refused[0].detail if refused else f"surely within {max_drop:g}"
        judged.append(replace(row, good_enough=not refused, why=why))
    return judged
