"""How well an encoder finds again what belongs together: one evaluation, from vectors to the ``metrics`` table.

Vectors are searched in Milvus as it follows the lake; query vectors and labels are read from the lake, all at the one
Delta version that Milvus was brought to.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from evaluation.milvus_collection import as_matrix
from evaluation.retrieval_metrics import RetrievalMetrics, retrieval_metrics
from evaluation.vector_index import VectorIndex
from vitrine import lake
from vitrine.errors import UserError, VitrineError, unknown
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, METRICS, QUERY_RESULTS

RELEVANT = ("product_id", "category")
ALL, SHUFFLED = "all", "shuffled_labels"
PROTOCOLS = (("test", "train"), ("query", "gallery"))
SEED = 0
BLOCK = 1_000  # queries searched at once

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Task:
    """What is evaluated: the values that key its rows."""

    encoder_version: str
    dataset: str
    catalog_version: str
    query_split: str
    index_split: str
    relevant: str

    @property
    def where(self) -> str:
        version, dataset = lake.quote(self.encoder_version), lake.quote(self.dataset)
        return f"encoder_version = {version} AND dataset = {dataset}"

    def within(self, split: str) -> str:
        return self.where if split == ALL else f"{self.where} AND split = {lake.quote(split)}"


@dataclass(frozen=True)
class _Items:
    """The rows of the encoder version and data set, by image id; a position is a place in this order."""

    ids: pa.Array
    labels: Ints
    """(N,): a number for each label, -1 where there is none."""
    in_index: NDArray[np.bool_]

    @property
    def positions(self) -> dict[str, int]:
        return {image_id: n for n, image_id in enumerate(self.ids.to_pylist())}


@dataclass(frozen=True)
class _Found:
    """Each query's neighbours in rank order, queries by position."""

    queries: Ints
    """(Q,): positions."""
    neighbours: Ints
    """(Q, depth): positions, -1 past the end of a short list; the query itself is never among them."""
    similarities: NDArray[np.float32]
    """(Q, depth): cosine; NaN past the end."""


def evaluate(
    settings: Settings,
    encoder: str,
    encoder_version: str,
    dataset: str,
    queries: str | None = None,
    index: str | None = None,
    relevant: str = "product_id",
    *,
    run_id: str,
) -> dict[str, Any]:
    """Search each query's neighbours, score them, and write ``metrics`` and ``query_results`` in one commit each.

    ``queries`` and ``index`` are splits; left out: test against train, or query against gallery, where the data set
    has both; else every image against all the others (``all``), in a large data set a fixed sample of the images
    (``settings.evaluate.max_queries``, the first by SHA-256 of the image id). Rows of an earlier run with the same key
    are replaced. ``shuffled`` holds the same neighbours scored with the index's labels permuted: what chance gives.

    Returns:
        The object that ``evaluate --json`` prints: figures as floats in [0, 1], counts, seconds.

    Raises:
        UserError: the data set, a split or ``relevant`` is unknown, one split is given without the other, there
            is nothing embedded, or no query has anything relevant in the index.
    """
    started = time.monotonic()
    task = _plan(settings, encoder, encoder_version, dataset, queries, index, relevant)
    with VectorIndex(settings) as milvus:
        at = {EMBEDDINGS.name: milvus.sync(dataset, encoder_version).to_version}
        items = _read_items(settings, task, at)
        chosen, total = _choose_queries(settings, task, at)
        found = _search(settings, milvus, task, items, f"{task.within(task.query_split)}{chosen}", at)
    relevance, n_relevant = _relevance(found, items, items.labels)
    scores = retrieval_metrics(relevance, n_relevant)
    if not scores.queries:
        raise UserError(
            f"none of the {len(found.queries)} queries ({task.query_split}) of {dataset!r} has an item with its "
            f"{relevant} in the index ({task.index_split}): choose other splits or another --relevant"
        )
    shuffled = retrieval_metrics(*_relevance(found, items, _shuffled(items)))
    size = int(items.in_index.sum())
    _write_metrics(settings, task, encoder, run_id, size, {ALL: scores, SHUFFLED: shuffled})
    _write_results(settings, task, items, found, relevance, n_relevant)
    return {
        "dataset": dataset,
        "encoder": encoder,
        "encoder_version": encoder_version,
        "catalog_version": task.catalog_version,
        "query_split": task.query_split,
        "index_split": task.index_split,
        "relevant": relevant,
        "queries": scores.queries,
        "queries_left_out": scores.queries_left_out,
        "index": size,
        "sampled": len(found.queries) < total,
        "metrics": dict(scores.values),
        "shuffled": dict(shuffled.values),
        "seconds": round(time.monotonic() - started, 3),
    }


def _plan(
    settings: Settings,
    encoder: str,
    encoder_version: str,
    dataset: str,
    queries: str | None,
    index: str | None,
    relevant: str,
) -> _Task:
    if relevant not in RELEVANT:
        raise unknown("label for --relevant", relevant, RELEVANT)
    if (queries is None) != (index is None):
        raise UserError(f"--queries {queries!r} and --index {index!r}: give both splits, or neither")
    lake.check_dataset(settings, dataset)
    where = f"encoder_version = {lake.quote(encoder_version)} AND dataset = {lake.quote(dataset)}"
    sql = f"SELECT split, count({relevant}) AS labelled FROM {EMBEDDINGS.name} WHERE {where} GROUP BY split"
    found = lake.rows(settings, sql)
    if not found:
        raise UserError(
            f"data set {dataset!r} has no vector of encoder {encoder!r}: "
            f"run `vitrine embed --encoder {encoder} --dataset {dataset}` first"
        )
    if not any(row["labelled"] for row in found):
        raise UserError(f"no image of data set {dataset!r} has a {relevant}: choose one of {', '.join(RELEVANT)}")
    splits = {row["split"] for row in found} - {None}
    if queries is None or index is None:
        queries, index = next((pair for pair in PROTOCOLS if splits.issuperset(pair)), (ALL, ALL))
    else:
        for split in (queries, index):
            if split not in splits:
                raise unknown(f"split of data set {dataset!r}", split, splits)
    version = lake.catalog_version(settings, dataset)
    return _Task(encoder_version, dataset, version, queries, index, relevant)


def _read_items(settings: Settings, task: _Task, at: dict[str, int]) -> _Items:
    columns = f"image_id, {task.relevant} AS label, split"
    sql = f"SELECT {columns} FROM {EMBEDDINGS.name} WHERE {task.where} ORDER BY image_id"
    rows = lake.query(settings, sql, at)
    labels = rows.column("label").combine_chunks().dictionary_encode().indices.fill_null(-1)
    splits = np.array(rows.column("split").to_pylist(), dtype=object)
    return _Items(
        rows.column("image_id").combine_chunks(),
        labels.to_numpy(zero_copy_only=False).astype(np.int64),
        np.ones(len(rows), dtype=bool) if task.index_split == ALL else splits == task.index_split,
    )


def _choose_queries(settings: Settings, task: _Task, at: dict[str, int]) -> tuple[str, int]:
    """SQL that narrows the queries down to the sample, empty where all are taken; and how many there are to take."""
    source = f"FROM {EMBEDDINGS.name} WHERE {task.within(task.query_split)}"
    total = int(lake.query(settings, f"SELECT count(*) AS n {source}", at).column("n")[0].as_py())
    most = settings.evaluate.max_queries
    if task.query_split != ALL or total <= most:
        return "", total
    digest = "encode(sha256(image_id), 'hex')"
    sql = f"SELECT {digest} AS digest {source} ORDER BY digest LIMIT 1 OFFSET {most - 1}"
    last = lake.query(settings, sql, at).column("digest")[0].as_py()
    return f" AND {digest} <= {lake.quote(last)}", total


def _query_vectors(
    settings: Settings, where: str, at: dict[str, int]
) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    sql = f"SELECT image_id, embedding FROM {EMBEDDINGS.name} WHERE {where}"
    for batch in lake.stream(settings, sql, at):
        for start in range(0, batch.num_rows, BLOCK):
            part = batch.slice(start, BLOCK)
            yield part.column("image_id").to_pylist(), as_matrix(part.column("embedding"))


def _search(
    settings: Settings, milvus: VectorIndex, task: _Task, items: _Items, where: str, at: dict[str, int]
) -> _Found:
    depth, positions = settings.evaluate.depth, items.positions
    split = None if task.index_split == ALL else task.index_split
    parts: list[tuple[Ints, Ints, NDArray[np.float32]]] = []
    done = 0
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(f"searching {task.dataset}", total=None)
        for query_ids, vectors in _query_vectors(settings, where, at):
            ids, cosines = milvus.search(task.dataset, task.encoder_version, vectors, depth + 1, split)
            try:
                parts.append(_ranked(query_ids, ids, cosines, positions, depth))
            except KeyError as error:  # a server, and another process synced it meanwhile
                raise VitrineError(f"Milvus moved on during the evaluation (image {error}): run it again") from error
            done += len(query_ids)
            progress.update(bar, completed=done)
    if not parts:
        raise VitrineError(f"data set {task.dataset!r} lost its queries ({task.query_split}): run it again")
    queries, neighbours, similarities = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(queries)
    return _Found(queries[order], neighbours[order], similarities[order])


def _ranked(
    query_ids: list[str],
    ids: list[list[str]],
    cosines: list[list[float]],
    positions: dict[str, int],
    depth: int,
) -> tuple[Ints, Ints, NDArray[np.float32]]:
    """The answers as arrays, each without the query itself (found by its id, wherever it ranks)."""
    neighbours = np.full((len(query_ids), depth), -1, dtype=np.int64)
    similarities = np.full((len(query_ids), depth), np.nan, dtype=np.float32)
    for row, (query_id, hits, values) in enumerate(zip(query_ids, ids, cosines, strict=True)):
        kept = [(positions[hit], value) for hit, value in zip(hits, values, strict=True) if hit != query_id]
        for rank, (position, value) in enumerate(kept[:depth]):
            neighbours[row, rank] = position
            similarities[row, rank] = value
    return np.array([positions[query_id] for query_id in query_ids], dtype=np.int64), neighbours, similarities


def _shuffled(items: _Items) -> Ints:
    """The labels with those of the index permuted, always in the same way."""
    labels = items.labels.copy()
    labels[items.in_index] = np.random.default_rng(SEED).permutation(labels[items.in_index])
    return labels


def _relevance(found: _Found, items: _Items, index_labels: Ints) -> tuple[NDArray[np.bool_], Ints]:
    """Which neighbours have the query's own label: bool (Q, depth), and int (Q,) how many of the index do.

    ``index_labels``: (N,), the labels that the index is taken to have; queries keep theirs. An item without a label
    is relevant to nothing and has nothing relevant.
    """
    own = items.labels[found.queries]
    theirs = np.where(found.neighbours >= 0, index_labels[found.neighbours], -1)
    relevance = (theirs == own[:, None]) & (theirs >= 0)
    counted = index_labels[items.in_index & (index_labels >= 0)]
    counts = np.bincount(counted, minlength=int(np.max(items.labels, initial=0)) + 1)
    itself = items.in_index[found.queries] & (index_labels[found.queries] == own)
    return relevance, np.where(own >= 0, counts[own] - itself, 0)


def _write_metrics(
    settings: Settings, task: _Task, encoder: str, run_id: str, size: int, slices: dict[str, RetrievalMetrics]
) -> None:
    shared = vars(task) | {"encoder": encoder, "classifier": "", "seed": SEED, "index_size": size, "run_id": run_id}
    rows = [
        shared
        | {"slice": name, "metric": metric, "value": value, "computed_at": lake.now()}
        | {"queries": scores.queries, "queries_left_out": scores.queries_left_out}
        for name, scores in slices.items()
        for metric, value in scores.values.items()
    ]
    table = pa.Table.from_pylist(rows, schema=METRICS.schema)
    lake.write(settings, METRICS, table, replacing=vars(task) | {"classifier": ""})


def _write_results(
    settings: Settings,
    task: _Task,
    items: _Items,
    found: _Found,
    relevance: NDArray[np.bool_],
    n_relevant: Ints,
) -> None:
    there = found.neighbours >= 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32))

    def lists(values: Any) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, values)

    columns = {name: pa.repeat(value, len(found.queries)) for name, value in vars(task).items()} | {
        "query_id": items.ids.take(pa.array(found.queries)),
        "neighbours": lists(items.ids.take(pa.array(found.neighbours[there]))),
        "similarities": lists(pa.array(found.similarities[there])),
        "relevance": lists(pa.array(relevance[there])),
        "n_relevant": pa.array(n_relevant),
    }
    table = pa.table([columns[name] for name in QUERY_RESULTS.schema.names], schema=QUERY_RESULTS.schema)
    lake.write(settings, QUERY_RESULTS, table, replacing=vars(task))
