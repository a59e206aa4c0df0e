"""The gates on the served index: does it find what an exact search finds, and what shows the same product?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.gates.data_docs import Decision, validate
from evaluation.gates.regression import verdict
from evaluation.milvus.collection import Hits
from evaluation.milvus.vector_index import VectorIndex
from evaluation.statistics.bootstrap import paired_difference
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.retrieval_metrics import MMP_DEPTH, per_query
from vitrine.runs import GateFigures
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS
from vitrine.vectors import Floats, matrix

QUERIES = 1_000
_NOISE = 1e-5  # of a cosine in float32, summed in another order
_ROWS = 500
"""Photos that Milvus is asked for at once."""


Photos = dict[str, tuple[str, Floats]]
"""By image id: the product, and the vector, (D,), float32."""


@dataclass(frozen=True)
class Queries:
    """Photos of the data set whose neighbours are asked for."""

    ids: list[str]
    vectors: Floats
    """(Q, D), of unit length."""
    products: NDArray[np.object_]
    relevant: NDArray[np.int64]
    """(Q,): other photos of the query's product."""


def gate_index(settings: Settings, encoded: EncodedSet, milvus: VectorIndex, run_id: str | None = None) -> GateFigures:
    """Fill the served collection of the version, beside what serves, and hold its answers against the exact one's: by
    recall, and by what they are worth, query by query.

    The queries are vectors of the data set itself, always the same: the first by SHA-256 of the image id.
    """
    at = milvus.sync(encoded).to_version
    milvus.sync(encoded, served=True)
    queries = _queries(settings, encoded, at)
    most = max(settings.gates.recall_at, MMP_DEPTH) + 1
    answers = [milvus.search(encoded, queries.vectors, most, served=kind)[0] for kind in (False, True)]
    photos = _photos(milvus, encoded, {image_id for ids in (*answers[0], *answers[1]) for image_id in ids})
    # What was embedded between the two fills is in one collection alone.
    answers = [[[image_id for image_id in ids if image_id in photos] for ids in each] for each in answers]
    exact, served = (_measured(queries, ids, photos) for ids in answers)
    name = milvus.collection(encoded, served=True).name
    decisions = [_recall(settings, queries, exact, served, name)]
    worth = [_worth(queries, ids, photos) for ids in answers]
    if not np.isnan(worth[0]).all():
        decisions.append(_as_good(settings, queries, *worth))
    return validate(settings, "index", f"{encoded.dataset} {encoded.encoder}", decisions, run_id)


def _queries(settings: Settings, encoded: EncodedSet, version: int) -> Queries:
    here = f"SELECT image_id, product_id, embedding FROM {EMBEDDINGS.name} WHERE {encoded.where}"
    counts = f"SELECT product_id, count(*) AS n FROM {EMBEDDINGS.name} WHERE {encoded.where} GROUP BY product_id"
    chosen = f"{here} ORDER BY sha256(image_id) LIMIT {QUERIES}"
    sql = f"SELECT q.*, c.n - 1 AS others FROM ({chosen}) q JOIN ({counts}) c ON q.product_id = c.product_id"
    rows = lake.query(settings, f"{sql} ORDER BY sha256(q.image_id)", {EMBEDDINGS.name: version})
    products = np.array(rows["product_id"].to_pylist(), dtype=object)
    return Queries(rows["image_id"].to_pylist(), matrix(rows["embedding"]), products, rows["others"].to_numpy())


def _photos(milvus: VectorIndex, encoded: EncodedSet, ids: set[str]) -> Photos:
    """The photos that were found, from the exact collection."""
    found = sorted(ids)
    asked = (milvus.rows(encoded, found[start : start + _ROWS]) for start in range(0, len(found), _ROWS))
    return {
        row["image_id"]: (row["product_id"], np.asarray(row["embedding"], np.float32)) for rows in asked for row in rows
    }


def _measured(queries: Queries, answers: list[list[str]], photos: Photos) -> Hits:
    """Answers with the cosines of the vectors in full: an index of fewer bits knows only its own."""
    cosines = [
        [float(vector @ photos[image_id][1]) for image_id in ids]
        for vector, ids in zip(queries.vectors, answers, strict=True)
    ]
    return answers, cosines


def _recall(settings: Settings, queries: Queries, exact: Hits, served: Hits, collection: str) -> Decision:
    most, least = settings.gates.recall_at, settings.gates.min_recall
    value = recall(queries.ids, exact, served, most)
    figures: dict[str, Any] = {"value": value, "min_recall": least, "recall_at": most, "queries": len(queries.ids)}
    text = f"{settings.milvus.index} finds at least {least:.1%} of the exact {most} nearest"
    return Decision(text, value >= least, figures | {"collection": collection})


def _worth(queries: Queries, answers: list[list[str]], photos: Photos) -> NDArray[np.float64]:
    """mMP@5 of each query, (Q,), the query itself left out; NaN where its product has no other photo."""
    hits = np.zeros((len(answers), MMP_DEPTH), bool)
    for row, (product, nearest) in enumerate(zip(queries.products, _others(queries.ids, answers), strict=True)):
        shown = [photos[image_id][0] == product for image_id in nearest[:MMP_DEPTH]]
        hits[row, : len(shown)] = shown
    return per_query(hits, queries.relevant)[f"mMP@{MMP_DEPTH}"]


def _others(query_ids: list[str], answers: list[list[str]]) -> Iterator[list[str]]:
    for query, ids in zip(query_ids, answers, strict=True):
        yield [image_id for image_id in ids if image_id != query]


def _as_good(settings: Settings, queries: Queries, exact: NDArray[np.float64], served: NDArray[np.float64]) -> Decision:
    """Refused where it is worse beyond the margin with the confidence asked for, as every gate that compares."""
    most = settings.gates.max_drop
    change = paired_difference(served, exact, queries.products, most, settings.gates.confidence)
    text = (
        f"what {settings.milvus.index} finds is worth what an exact search finds: mMP@{MMP_DEPTH} "
        f"{np.nanmean(served):.4f} against {np.nanmean(exact):.4f}, down to {-most:+.4f} allowed; {verdict(change)}"
    )
    figures = {"value": float(np.nanmean(served)), "exact": float(np.nanmean(exact)), "difference": change.value}
    return Decision(text, not change.worse, figures | {"max_drop": most, "queries": change.queries})


def recall(query_ids: list[str], exact: Hits, served: Hits, most: int) -> float:
    """recall@most, averaged over the queries: the share of the ``most`` nearest that ``served`` holds.

    The query itself is left out of both answers. What is as near as the last of the exact ones counts as found,
    whichever of several equally near images it is (as ann-benchmarks counts, by distance: plotting/metrics.py,
    ``knn``). 1 where no query has a neighbour: nothing is missed.
    """
    shares = []
    for query, ids, cosines, served_ids, served_cosines in zip(query_ids, *exact, *served, strict=True):
        wanted = [value for image_id, value in zip(ids, cosines, strict=True) if image_id != query][:most]
        near = [value for image_id, value in zip(served_ids, served_cosines, strict=True) if image_id != query][:most]
        if wanted:
            shares.append(sum(value >= wanted[-1] - _NOISE for value in near) / len(wanted))
    return float(np.mean(shares)) if shares else 1.0
