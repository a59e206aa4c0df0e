"""Average precision over the ranking of the whole index: exact, by NumPy, block by block from vectors on disk."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.retrieval.neighbours import Ints, Items
from evaluation.task import Task
from vitrine import lake
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS
from vitrine.vectors import matrix

MAP = "MAP"
_BLOCK_BYTES = 256_000_000  # of cosines held at once
_COLUMNS = 8_192  # index vectors multiplied at once

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]


@contextmanager
def staged_vectors(settings: Settings, task: Task, items: Items, at: dict[str, int]) -> Iterator[Vectors]:
    """The vectors of ``items`` by position, float32 (N, D), in a file that is gone after the block."""
    source = f"FROM {EMBEDDINGS.name} WHERE {task.encoded.where}"
    first = lake.query(settings, f"SELECT embedding {source} LIMIT 1", at)
    shape = (len(items.ids), len(first.column("embedding")[0]))
    with tempfile.TemporaryDirectory(prefix="ranking-", dir=settings.home) as folder:
        vectors = np.memmap(Path(folder) / "vectors", dtype=np.float32, mode="w+", shape=shape)
        for batch in lake.stream(settings, f"SELECT image_id, embedding {source}", at):
            vectors[items.positions(batch.column("image_id"))] = matrix(batch.column("embedding"))
        yield vectors


def average_precisions(vectors: Vectors, labels: Ints, in_index: NDArray[np.bool_], queries: Ints) -> Floats:
    """Each query's average precision: float64 (Q,), NaN where nothing in the index is relevant.

    (1 / n) * sum of j / r_j, j = 1..n, where r_j is the rank of the j-th relevant item in the whole index (Manning,
    Raghavan and Schuetze, Introduction to Information Retrieval, 8.4). The query is not in its own ranking; equal
    cosines rank by position.

    Args:
        vectors: float32 (N, D), unit length.
        labels: int (N,), -1 where there is none, relevant to nothing.
        in_index: bool (N,): what is searched.
        queries: int (Q,): positions.
    """
    index = np.flatnonzero(in_index)
    labelled = index[labels[index] >= 0]
    ordered = labelled[np.argsort(labels[labelled], kind="stable")]
    starts, ends = (np.searchsorted(labels[ordered], labels[queries], side=side) for side in ("left", "right"))
    result = np.full(len(queries), np.nan)
    step = max(1, _BLOCK_BYTES // (4 * len(index)))
    for first in range(0, len(queries), step):
        block = slice(first, first + step)
        cosines = _cosines(vectors, queries[block], index)
        for at, query in enumerate(queries[block], first):
            relevant = ordered[starts[at] : ends[at]]
            relevant = np.searchsorted(index, relevant[relevant != query])
            if in_index[query]:
                cosines[at - first, np.searchsorted(index, query)] = -np.inf
            if len(relevant):
                result[at] = _average_precision(cosines[at - first], relevant)
    return result


def _cosines(vectors: Vectors, queries: Ints, index: Ints) -> Vectors:
    asked = vectors[queries]
    cosines = np.empty((len(queries), len(index)), dtype=np.float32)
    for first in range(0, len(index), _COLUMNS):
        part = slice(first, first + _COLUMNS)
        np.matmul(asked, vectors[index[part]].T, out=cosines[:, part])
    return cosines


def _average_precision(cosines: Vectors, relevant: Ints) -> float:
    """Of one ranking: ``relevant`` are places in ``cosines``."""
    own = cosines[relevant]
    near = np.sort(cosines[cosines >= own.min()])  # only what ranks before the last relevant one
    upto = np.searchsorted(near, own, side="right")
    ranks = len(near) - upto + 1
    for at in np.flatnonzero(upto - np.searchsorted(near, own) > 1):
        ranks[at] += np.count_nonzero(cosines[: relevant[at]] == own[at])
    return float((np.arange(1, len(ranks) + 1) / np.sort(ranks)).mean())
