"""Each query's nearest items, and which of them are relevant: vectors from the lake, searched in Milvus.

Vectors are searched in Milvus as it follows the lake; query vectors and labels are read from the lake, all at the one
Delta version that Milvus was brought to.
"""

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from evaluation.milvus.vector_index import VectorIndex
from evaluation.retrieval.slices import CATEGORY
from evaluation.task import ALL, Task
from vitrine import facts, lake
from vitrine.errors import VitrineError
from vitrine.names import LEARNED_SPLIT
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS
from vitrine.vectors import matrix

SEED = 0
BLOCK = 1_000  # queries searched at once
ROUNDING = 1e-5  # of a cosine in float32
_TOLD_APART = 24
"""Digits of a content's SHA-256: 96 bits."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Items:
    """The rows of the encoder version and data set, by image id; a position is a place in this order."""

    ids: pa.Array
    labels: Ints
    """(N,): a number for what counts as relevant, -1 where there is none."""
    products: Ints
    """(N,): a number for each product."""
    contents: Ints
    """(N,): a number for each content: equal files have one."""
    values: dict[str, pa.DictionaryArray]
    """(N,) by label that figures are sliced by, ``category`` and attributes: names, null where there is none."""
    in_index: NDArray[np.bool_]
    learned: NDArray[np.bool_]
    """(N,): does its product have a photo in the split that tuning learns from?"""

    def values_of(self, places: Ints) -> dict[str, list[str | None]]:
        """By label the values of the items at ``places``."""
        return {label: values.take(pa.array(places)).to_pylist() for label, values in self.values.items()}

    def positions(self, image_ids: pa.Array) -> Ints:
        """Of each id its position.

        Raises:
            VitrineError: an id is none of these items'.
        """
        places = pc.index_in(image_ids, value_set=self.ids)
        if places.null_count:  # Milvus is a server, and another process synced it meanwhile
            strange = image_ids.filter(places.is_null())[0]
            raise VitrineError(f"Milvus moved on during the evaluation (image {str(strange)!r}): run it again")
        return places.to_numpy().astype(np.int64)


@dataclass(frozen=True)
class Ranking:
    """Each query's neighbours in rank order, queries by position."""

    queries: Ints
    """(Q,): positions."""
    neighbours: Ints
    """(Q, depth): positions, -1 past the end of a short list; the query itself is never among them."""
    similarities: NDArray[np.float32]
    """(Q, depth): cosine; NaN past the end."""


def read_items(settings: Settings, task: Task, at: dict[str, int]) -> Items:
    sliced = {name: f"slice_{at}" for at, name in enumerate((CATEGORY, *settings.evaluate.slices))}
    in_index = "true" if task.index_split == ALL else f"coalesce({lake.matches(split=task.index_split)}, false)"
    # Of each content as much as tells it apart, of names a number each: a large catalog's whole text would be most of
    # what an evaluation holds.
    columns = [
        *("image_id", "product_id", f"substr(content_sha256, 1, {_TOLD_APART}) AS content"),
        *(f"{in_index} AS in_index", f"coalesce({lake.matches(split=LEARNED_SPLIT)}, false) AS learned"),
        *(
            f"arrow_cast({facts.label_in_sql(name)}, 'Dictionary(Int32, Utf8)') AS {own}"
            for name, own in sliced.items()
        ),
    ]
    encoded = ("label", "product_id", "content", *sliced.values())
    whole = lake.columns(settings, facts.labelled(task.encoded, task.relevant, columns), encoded, at)
    ids = whole.pop("image_id").combine_chunks()
    order = pc.sort_indices(ids)
    ids = ids.take(order)
    label, product, content = (_numbers(whole.pop(name), order) for name in ("label", "product_id", "content"))
    flags = {name: whole[name].to_numpy()[order.to_numpy()] for name in ("in_index", "learned")}
    return Items(
        ids,
        label,
        product,
        content,
        {name: whole[column].combine_chunks().take(order) for name, column in sliced.items()},
        flags["in_index"],
        np.isin(product, product[flags["learned"]]),
    )


def _numbers(names: pa.ChunkedArray, order: pa.Array) -> Ints:
    """(N,), in that order: a number for each of ``names``, by first appearance; -1 where there is none."""
    codes = names.combine_chunks().indices.take(order)
    return codes.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)


def count_queries(settings: Settings, task: Task, at: dict[str, int] | None = None) -> int:
    """How many queries there are to take."""
    sql = f"SELECT count(*) AS n FROM {EMBEDDINGS.name} WHERE {task.within(task.query_split)}"
    return int(lake.query(settings, sql, at).column("n")[0].as_py())


def is_sampled(settings: Settings, task: Task, total: int) -> bool:
    return task.query_split == ALL and total > settings.evaluate.max_queries


def search(settings: Settings, milvus: VectorIndex, task: Task, items: Items, at: dict[str, int]) -> Ranking:
    """The nearest items of the index to each query, or to each of the sample."""
    depth = settings.evaluate.depth
    parts: list[tuple[Ints, Ints, NDArray[np.float32]]] = []
    done = 0
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(f"searching {task.encoded.dataset}", total=None)
        for query_ids, vectors in _query_vectors(settings, _chosen_queries(settings, task, at), at):
            ids, cosines = milvus.search(task.encoded, vectors, depth + 1, task.searched)
            parts.append(ranked(items, query_ids, ids, cosines, depth))
            done += len(query_ids)
            progress.update(bar, completed=done)
    if not parts:
        raise VitrineError(f"data set {task.encoded.dataset!r} lost its queries ({task.query_split}): run it again")
    queries, neighbours, similarities = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(queries)
    return Ranking(queries[order], neighbours[order], similarities[order])


def _chosen_queries(settings: Settings, task: Task, at: dict[str, int]) -> str:
    """The SQL condition of the queries: all, or the first by SHA-256 of their ids where they are too many."""
    within = task.within(task.query_split)
    if not is_sampled(settings, task, count_queries(settings, task, at)):
        return within
    digest, last = "encode(sha256(image_id), 'hex')", settings.evaluate.max_queries - 1
    sql = f"SELECT {digest} AS digest FROM {EMBEDDINGS.name} WHERE {within} ORDER BY digest LIMIT 1 OFFSET {last}"
    return f"{within} AND {digest} <= {lake.quote(lake.query(settings, sql, at).column('digest')[0].as_py())}"


def _query_vectors(
    settings: Settings, where: str, at: dict[str, int]
) -> Iterator[tuple[pa.Array, NDArray[np.float32]]]:
    sql = f"SELECT image_id, embedding FROM {EMBEDDINGS.name} WHERE {where}"
    for batch in lake.stream(settings, sql, at):
        for start in range(0, batch.num_rows, BLOCK):
            part = batch.slice(start, BLOCK)
            yield part.column("image_id"), matrix(part.column("embedding"))


def ranked(
    items: Items, query_ids: pa.Array, ids: list[list[str]], cosines: list[list[float]], depth: int
) -> tuple[Ints, Ints, NDArray[np.float32]]:
    """Milvus's answers of up to ``depth + 1`` hits as arrays, each without the query itself, wherever it ranks.

    Copies of one photo are in the order of their ids.

    Returns:
        As ``Ranking``: queries (Q,), neighbours and similarities (Q, depth).
    """
    lengths = np.array([len(hits) for hits in ids])
    rows = np.repeat(np.arange(len(ids)), lengths)
    ranks = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    neighbours = np.full((len(ids), depth + 1), -1, dtype=np.int64)
    similarities = np.full(neighbours.shape, np.nan, dtype=np.float32)
    neighbours[rows, ranks] = items.positions(pa.array(list(itertools.chain.from_iterable(ids)), pa.string()))
    similarities[rows, ranks] = np.fromiter(itertools.chain.from_iterable(cosines), np.float32, len(rows))
    neighbours, similarities = _with_copies_together(items.contents, neighbours, similarities)
    queries = items.positions(query_ids)
    # Last comes what is cut off: the query itself, or else the hit beyond the depth.
    order = np.argsort(neighbours == queries[:, None], axis=1, kind="stable")[:, :depth]
    return queries, np.take_along_axis(neighbours, order, axis=1), np.take_along_axis(similarities, order, axis=1)


def _with_copies_together(
    contents: Ints, neighbours: Ints, similarities: NDArray[np.float32]
) -> tuple[Ints, NDArray[np.float32]]:
    """Order (Q, hits) again, so that copies of one photo stand together.

    Copies have one vector. Their cosines differ by rounding alone, which depends on where each row lies in Milvus's
    segments: all of them get the highest one. Hits of equal similarity are ordered by image id.
    """
    own = np.where(neighbours >= 0, contents[neighbours], -1)
    grouped = np.lexsort((-similarities, own), axis=-1)
    neighbours, similarities, own = (np.take_along_axis(a, grouped, axis=1) for a in (neighbours, similarities, own))
    begins = (np.diff(own, axis=1, prepend=-2) != 0) | (np.diff(similarities, axis=1, prepend=np.inf) < -ROUNDING)
    highest = np.maximum.accumulate(np.where(begins, np.arange(own.shape[1]), 0), axis=1)
    similarities = np.take_along_axis(similarities, highest, axis=1)
    order = np.lexsort((neighbours, -similarities), axis=-1)  # NaN, past the end of a short list, goes last
    return np.take_along_axis(neighbours, order, axis=1), np.take_along_axis(similarities, order, axis=1)


def shuffled(items: Items) -> Ints:
    """The labels with those of the index permuted, always in the same way."""
    labels = items.labels.copy()
    labels[items.in_index] = np.random.default_rng(SEED).permutation(labels[items.in_index])
    return labels


def relevance_of(ranking: Ranking, items: Items, index_labels: Ints) -> tuple[NDArray[np.bool_], Ints]:
    """Which neighbours have the query's own label: bool (Q, depth), and int (Q,) how many of the index do.

    ``index_labels``: (N,), the labels that the index is taken to have; queries keep theirs. An item without a label
    is relevant to nothing and has nothing relevant.
    """
    own = items.labels[ranking.queries]
    theirs = np.where(ranking.neighbours >= 0, index_labels[ranking.neighbours], -1)
    relevance = (theirs == own[:, None]) & (theirs >= 0)
    counted = index_labels[items.in_index & (index_labels >= 0)]
    counts = np.bincount(counted, minlength=int(np.max(items.labels, initial=0)) + 1)
    itself = items.in_index[ranking.queries] & (index_labels[ranking.queries] == own)
    return relevance, np.where(own >= 0, counts[own] - itself, 0)


def without_duplicates(
    ranking: Ranking, items: Items, relevance: NDArray[np.bool_], n_relevant: Ints
) -> tuple[NDArray[np.bool_], Ints] | None:
    """The same as if no item with the query's own content were in the index; None where none is.

    ``relevance`` and ``n_relevant`` are those of ``relevance_of`` on the items' own labels. What is left of a list
    moves up, and the list ends earlier.
    """
    labelled = np.column_stack([items.contents, items.labels])
    _, both = np.unique(labelled, axis=0, return_inverse=True)  # same content and same label
    equal = _others(items.contents, items, ranking.queries)
    equal_and_relevant = np.where(items.labels[ranking.queries] >= 0, _others(both.ravel(), items, ranking.queries), 0)
    if not equal.any():
        return None
    theirs = np.where(ranking.neighbours >= 0, items.contents[ranking.neighbours], -1)
    order = np.argsort(theirs == items.contents[ranking.queries][:, None], axis=1, kind="stable")
    kept = np.take_along_axis(theirs, order, axis=1) != items.contents[ranking.queries][:, None]
    return np.take_along_axis(relevance, order, axis=1) & kept, n_relevant - equal_and_relevant


def _others(codes: Ints, items: Items, queries: Ints) -> Ints:
    """Of each query, how many items of the index have its code, itself not counted."""
    counts = np.bincount(codes[items.in_index], minlength=int(codes.max()) + 1)
    return np.asarray(counts[codes[queries]] - items.in_index[queries])
