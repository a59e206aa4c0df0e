"""The gate on the served index: does it find what an exact search finds?"""

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from evaluation.gates.data_docs import GateResult, rule, validate
from evaluation.milvus.collection import Hits
from evaluation.milvus.sync import Source
from evaluation.milvus.vector_index import VectorIndex
from vitrine.encoded_set import EncodedSet
from vitrine.settings import Settings
from vitrine.vectors import matrix

QUERIES = 1_000
_NOISE = 1e-5  # of a cosine in float32, summed in another order


def gate_index(
    settings: Settings,
    milvus: VectorIndex,
    dataset: str,
    encoder: str,
    encoder_version: str,
    run_id: str | None = None,
) -> GateResult:
    """Fill the served collection of the version, beside what serves, and measure its recall against the exact one.

    The queries are vectors of the data set itself, always the same: the first by SHA-256 of the image id.
    """
    encoded = EncodedSet(dataset, encoder, encoder_version)
    at = milvus.sync(encoded).to_version
    milvus.sync(encoded, served=True)
    ids, vectors = _queries(Source(settings, encoded), at)
    most = settings.gates.recall_at
    exact, served = (milvus.search(encoded, vectors, most + 1, served=kind) for kind in (False, True))
    value, least = recall(ids, exact, served, most), settings.gates.min_recall
    name, how = milvus.collection(encoded, served=True).name, settings.milvus.index
    text = f"{how} finds at least {least:.1%} of the exact {most} nearest"
    figures = {"value": value, "min_recall": least, "recall_at": most, "queries": len(ids), "collection": name}
    asked = rule("ExpectColumnValuesToBeBetween", text, figures, column="recall", min_value=least)
    return validate(settings, "index", f"{dataset} {encoder}", pd.DataFrame({"recall": [value]}), [asked], run_id)


def recall(query_ids: list[str], exact: Hits, served: Hits, most: int) -> float:
    """recall@most, averaged over the queries: the share of the ``most`` nearest that ``served`` holds.

    The query itself is left out of both answers. What is as near as the last of the exact ones counts as found,
    whichever of several equally near images it is (as ann-benchmarks counts, by distance: plotting/metrics.py,
    ``knn``). 1 where no query has a neighbour: nothing is missed.
    """
    shares = []
    for query, ids, cosines, found_ids, found in zip(query_ids, *exact, *served, strict=True):
        wanted = [value for image_id, value in zip(ids, cosines, strict=True) if image_id != query][:most]
        near = [value for image_id, value in zip(found_ids, found, strict=True) if image_id != query][:most]
        if wanted:
            shares.append(sum(value >= wanted[-1] - _NOISE for value in near) / len(wanted))
    return float(np.mean(shares)) if shares else 1.0


def _queries(source: Source, at: int) -> tuple[list[str], NDArray[np.float32]]:
    batches = source.rows("image_id, embedding", at, f"ORDER BY sha256(image_id) LIMIT {QUERIES}")
    rows = pa.Table.from_batches(batches).combine_chunks()
    return rows.column("image_id").to_pylist(), matrix(rows.column("embedding"))
