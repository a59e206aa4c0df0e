"""How well an encoder finds again what belongs together: one evaluation, from vectors to the ``metrics`` table."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from evaluation.classification.predictions import score_predictions
from evaluation.metrics_table import ALL_QUERIES, Scores, read_scores, write_scores
from evaluation.milvus.vector_index import VectorIndex
from evaluation.retrieval.full_ranking import MAP, average_precisions, staged_vectors
from evaluation.retrieval.neighbours import (
    SEED,
    Ints,
    Items,
    Ranking,
    count_queries,
    is_sampled,
    read_items,
    relevance_of,
    search,
    shuffled,
    without_duplicates,
)
from evaluation.retrieval.search_latency import search_latency
from evaluation.retrieval.slices import (
    KNOWN_PRODUCTS,
    MACRO_CATEGORY,
    MACRO_PRODUCT,
    NEW_PRODUCTS,
    SHUFFLED,
    WITHOUT_DUPLICATES,
    by_knowledge,
    by_label,
    macro_slice,
    slice_scores,
)
from evaluation.task import ALL, Task
from vitrine import facts, lake, runs
from vitrine.datasets import registry
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError, unknown
from vitrine.retrieval_metrics import metric_names, per_query
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, QUERY_RESULTS

PROTOCOLS = (("test", "train"), ("query", "gallery"))
_ROWS = 5_000  # of query_results written at once


def evaluate(
    settings: Settings,
    encoded: EncodedSet,
    queries: str | None = None,
    index: str | None = None,
    relevant: str = "product_id",
    *,
    run_id: str,
    full_map: bool = False,
    again: bool = False,
) -> dict[str, Any]:
    """Search each query's neighbours, score them, and write ``query_results`` and ``metrics`` in one commit each.

    ``queries`` and ``index`` are splits; left out: those that a published data set is measured by; else test against
    train, or query against gallery, where the data set has both; else every image against all the others (``all``), in
    a large data set a fixed sample of the images (``settings.evaluate.max_queries``, the first by SHA-256 of the image
    id). Rows of an earlier run with the same key are replaced. ``shuffled`` holds the same neighbours scored with the
    index's labels permuted: what chance gives. ``full_map`` adds ``MAP``, over the ranking of the whole index.

    Where ``metrics`` has the figures already, of the same vectors, labels and settings, they are read back and
    ``computed`` is False; ``again`` computes them anyway. Rows of ``predictions`` are scored too.

    Returns:
        The object that ``evaluate --json`` prints: figures as floats in [0, 1] with their 95 % intervals (null where
        none is defined), counts, seconds, and, where it searched, the ``latency`` of one query.

    Raises:
        UserError: the data set, a split or ``relevant`` is unknown, one split is given without the other, there
            is nothing embedded, or no query has anything relevant in the index.
    """
    started = time.monotonic()
    task = plan(settings, encoded, queries, index, relevant)
    scores = {} if again else read_scores(settings, _key(task), _input_version(settings, task))
    known = ALL_QUERIES in scores and (not full_map or MAP in scores[ALL_QUERIES].values)
    latency = None
    if not known:
        scores, latency = _compute(settings, task, run_id, full_map)
    classifiers, left_out = score_predictions(settings, task, run_id=run_id, again=again)
    return {
        "dataset": encoded.dataset,
        "encoder": encoded.encoder,
        **_figures(settings, task, scores, full_map),
        "sampled": is_sampled(settings, task, count_queries(settings, task)),
        "computed": not known,
        "latency": latency and asdict(latency),
        "classifiers": classifiers,
        "classifiers_left_out": left_out,
        "seconds": round(time.monotonic() - started, 3),
    }


def _figures(settings: Settings, task: Task, scores: dict[str, Scores], full_map: bool) -> dict[str, Any]:
    everything, ranked = scores[ALL_QUERIES], metric_names(settings.evaluate.depth)
    macros = (MACRO_CATEGORY, *map(macro_slice, settings.evaluate.slices))
    names = [*ranked, MAP] if full_map else ranked
    return {
        **{name: value for name, value in task.key.items() if name != "dataset"},
        "queries": everything.queries,
        "queries_left_out": everything.queries_left_out,
        "index": everything.index_size,
        **everything.figures(names),
        "slices": {
            name: scores[name].figures(ranked if name == WITHOUT_DUPLICATES else names)
            | {"queries": scores[name].queries}
            for name in (MACRO_PRODUCT, *macros, KNOWN_PRODUCTS, NEW_PRODUCTS, WITHOUT_DUPLICATES)
            if name in scores
        },
        "shuffled": scores[SHUFFLED].figures(ranked)["metrics"],
    }


def _key(task: Task) -> dict[str, Any]:
    """What keys the rows of ``metrics``."""
    return task.key | {"classifier": "", "seed": SEED}


def _input_version(settings: Settings, task: Task, at: dict[str, int] | None = None) -> str:
    """A fingerprint of all that decides the figures beside the key, as of Delta versions ``at``."""
    embedded = facts.embedded_version(settings, task.encoded, (*settings.evaluate.slices, task.relevant), at)
    most = settings.evaluate.max_queries if task.query_split == ALL else None
    return hashlib.sha256(f"{embedded}/{settings.evaluate.depth}/{most}".encode()).hexdigest()[:16]


def plan(settings: Settings, encoded: EncodedSet, queries: str | None, index: str | None, relevant: str) -> Task:
    """What ``evaluate`` is asked for by the same arguments; raises what it raises."""
    if (queries is None) != (index is None):
        raise UserError(f"--queries {queries!r} and --index {index!r}: give both splits, or neither")
    dataset = encoded.dataset
    facts.check_dataset(settings, dataset)
    facts.check_label(settings, dataset, relevant)
    rows = facts.labelled(encoded, relevant, ["split"])
    counts = lake.rows(settings, f"SELECT split, count(label) AS labelled FROM ({rows}) GROUP BY split")
    if not counts:
        raise UserError(
            f"data set {dataset!r} has no vector of encoder {encoded.encoder!r}: "
            f"run `vitrine embed --encoder {encoded.encoder} --dataset {dataset}` first"
        )
    if not any(row["labelled"] for row in counts):
        others = [name for name in (*facts.LABELS_OF_ALL, *facts.attributes(settings, dataset)) if name != relevant]
        raise UserError(f"no image of data set {dataset!r} has a {relevant}: --relevant may be {', '.join(others)}")
    splits = {row["split"] for row in counts} - {None}
    if queries is None or index is None:
        own = registry.protocol(runs.layout(settings, dataset))
        protocols = (own, *PROTOCOLS) if own else PROTOCOLS
        queries, index = next((pair for pair in protocols if splits.issuperset(pair)), (ALL, ALL))
    else:
        for split in (queries, index):
            if split not in splits - {ALL}:  # of an older catalog: it would be taken for all photos
                raise unknown(f"split of data set {dataset!r}", split, splits)
    return Task(encoded, facts.catalog_version(settings, dataset, relevant), queries, index, relevant)


def _compute(settings: Settings, task: Task, run_id: str, full_map: bool) -> tuple[dict[str, Scores], runs.Latency]:
    """All slices' figures, written, and how long a search took.

    ``metrics`` is written last, so that its rows say that all the others are there.
    """
    with VectorIndex(settings) as milvus:
        at = {EMBEDDINGS.name: milvus.sync(task.encoded).to_version}
        items = read_items(settings, task, at)
        ranking = search(settings, milvus, task, items, at)
        latency = search_latency(settings, milvus, task, at)
    relevance, n_relevant = relevance_of(ranking, items, items.labels)
    if not n_relevant.any():
        raise UserError(
            f"none of the {len(ranking.queries)} queries ({task.query_split}) of {task.encoded.dataset!r} has an item "
            f"with its {task.relevant} in the index ({task.index_split}): choose other splits or another --relevant"
        )
    each = per_query(relevance, n_relevant)
    if full_map:
        with staged_vectors(settings, task, items, at) as vectors:
            each[MAP] = average_precisions(vectors, items.labels, items.in_index, ranking.queries)
    size, products = int(items.in_index.sum()), items.products[ranking.queries]
    slices = by_label(each, products, items.values_of(ranking.queries), size)
    slices += by_knowledge(each, products, items.learned[ranking.queries], size)
    others = {SHUFFLED: relevance_of(ranking, items, shuffled(items))}
    if unlike := without_duplicates(ranking, items, relevance, n_relevant):
        others[WITHOUT_DUPLICATES] = unlike
    for name, hits in others.items():
        alike = slice_scores(per_query(*hits), products, [None] * len(products), size)[:1]
        slices += [replace(one, slice=name) for one in alike]
    write_results(settings, task, items, ranking, relevance, n_relevant)
    about = {"encoder": task.encoded.encoder, "run_id": run_id, "input_version": _input_version(settings, task, at)}
    write_scores(settings, _key(task), about, slices)
    return {one.slice: one for one in slices}, latency


def write_results(
    settings: Settings, task: Task, items: Items, ranking: Ranking, relevance: NDArray[np.bool_], n_relevant: Ints
) -> None:
    """Replace the task's rows of ``query_results``, some thousand queries in memory at a time."""

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(ranking.queries), _ROWS):
            yield _result_rows(task, items, ranking, relevance, n_relevant, slice(start, start + _ROWS))

    rows = pa.RecordBatchReader.from_batches(QUERY_RESULTS.schema, batches())
    lake.write(settings, QUERY_RESULTS, rows, replacing=task.key)


def _result_rows(
    task: Task, items: Items, ranking: Ranking, relevance: NDArray[np.bool_], n_relevant: Ints, part: slice
) -> pa.RecordBatch:
    queries, neighbours = ranking.queries[part], ranking.neighbours[part]
    there = neighbours >= 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32))

    def lists(values: Any) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, values)

    columns = {name: pa.repeat(value, len(queries)) for name, value in task.key.items()} | {
        "query_id": items.ids.take(pa.array(queries)),
        "neighbours": lists(items.ids.take(pa.array(neighbours[there]))),
        "similarities": lists(pa.array(ranking.similarities[part][there])),
        "relevance": lists(pa.array(relevance[part][there])),
        "n_relevant": pa.array(n_relevant[part]),
    }
    return pa.record_batch([columns[name] for name in QUERY_RESULTS.schema.names], schema=QUERY_RESULTS.schema)
