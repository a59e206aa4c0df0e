"""The gate on the served index: does it find what an exact search finds?"""

from typing import Any

import numpy as np

from evaluation.gates.data_docs import Decision, validate
from evaluation.milvus.collection import Hits
from evaluation.milvus.vector_index import VectorIndex
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.runs import GateFigures
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS
from vitrine.vectors import matrix

QUERIES = 1_000
_NOISE = 1e-5  # of a cosine in float32, summed in another order


def gate_index(settings: Settings, encoded: EncodedSet, milvus: VectorIndex, run_id: str | None = None) -> GateFigures:
    """Fill the served collection of the version, beside what serves, and measure its recall against the exact one.

    The queries are vectors of the data set itself, always the same: the first by SHA-256 of the image id.
    """
    at = milvus.sync(encoded).to_version
    milvus.sync(encoded, served=True)
    chosen = f"{encoded.where} ORDER BY sha256(image_id) LIMIT {QUERIES}"
    sql = f"SELECT image_id, embedding FROM {EMBEDDINGS.name} WHERE {chosen}"
    queries = lake.query(settings, sql, {EMBEDDINGS.name: at})
    ids, vectors = queries.column("image_id").to_pylist(), matrix(queries.column("embedding"))
    most, least = settings.gates.recall_at, settings.gates.min_recall
    exact, served = (milvus.search(encoded, vectors, most + 1, served=kind) for kind in (False, True))
    value = recall(ids, exact, served, most)
    figures: dict[str, Any] = {"value": value, "min_recall": least, "recall_at": most, "queries": len(ids)}
    figures |= {"collection": milvus.collection(encoded, served=True).name}
    text = f"{settings.milvus.index} finds at least {least:.1%} of the exact {most} nearest"
    subject = f"{encoded.dataset} {encoded.encoder}"
    return validate(settings, "index", subject, [Decision(text, value >= least, figures)], run_id)


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
