"""How long exact search takes over vectors in full and over a codec's, on this machine, by Faiss.

One bit is searched as product quantisation whose centroids are all signs of eight dimensions: the query stays in
floats, and finds what the study's search finds. int8 and 4 bits are Faiss's own, whose ends are not clipped.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vitrine.encoders.codecs import CANDIDATES, Codec, parts_of
from vitrine.vectors import Floats

_SCALAR = {
    "fp16": faiss.ScalarQuantizer.QT_fp16,
    "int8": faiss.ScalarQuantizer.QT_8bit,
    "4 bits": faiss.ScalarQuantizer.QT_4bit,
}
_DEPTH, _WARM, _ONE_BY_ONE, _AT_ONCE = 10, 5, 100, 1_000
Found = NDArray[np.int64]
Search = Callable[[Floats], Found]


@dataclass(frozen=True)
class Speed:
    """Of exact search for the 10 nearest; a query's linear part is in it."""

    latency_ms: float
    """Median of one query by itself, on one thread."""
    queries_per_second: float
    """Of many at once, on all threads."""
    build_seconds: float
    """To encode the index; what the codec itself is fitted by is in it where Faiss fits it."""


def speed(search_over: Callable[[], Search], asked: Floats) -> Speed:
    """Of what ``search_over`` makes, by queries ``asked``, (Q, D)."""
    started = time.perf_counter()
    search = search_over()
    built = time.perf_counter() - started
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        seconds = []
        for at in range(min(len(asked), _WARM + _ONE_BY_ONE)):
            started = time.perf_counter()
            search(asked[at : at + 1])
            seconds.append(time.perf_counter() - started)
    finally:
        faiss.omp_set_num_threads(threads)
    many = asked[:_AT_ONCE]
    started = time.perf_counter()
    search(many)
    at_once = time.perf_counter() - started
    return Speed(1000 * float(np.median(seconds[_WARM:] or seconds)), len(many) / max(at_once, 1e-9), built)


def in_full(index: Floats) -> Search:
    """Search over ``index``, float32 (N, D), as it is."""
    flat = faiss.IndexFlatIP(index.shape[1])
    flat.add(index)
    return lambda asked: np.asarray(flat.search(asked, min(_DEPTH, len(index)))[1])


def over(codec: Codec, index: Floats) -> Search:
    """Search over what ``codec`` makes of ``index``, float32 (N, D); by both passes, where it has two."""
    first = _encoded(codec, index)
    if codec.again is None:
        return lambda asked: np.asarray(first.search(codec.linear.apply(asked), min(_DEPTH, len(index)))[1])
    again, longer = codec.again, _encoded(codec.again, index)

    def search(asked: Floats) -> Found:
        candidates = first.search(codec.linear.apply(asked), min(CANDIDATES, len(index)))[1]
        rows = longer.reconstruct_batch(candidates.ravel()).reshape(*candidates.shape, -1)
        nearness = np.einsum("qck,qk->qc", rows, again.linear.apply(asked))
        order = np.argsort(-nearness, axis=1, kind="stable")[:, :_DEPTH]
        return np.asarray(np.take_along_axis(candidates, order, axis=1))

    return search


def _encoded(codec: Codec, index: Floats) -> Any:
    rows, inner = codec.linear.apply(index), faiss.METRIC_INNER_PRODUCT
    dim = rows.shape[1]
    made: Any
    if codec.quantiser == "1 bit":
        return _signs(rows)
    if parts := parts_of(codec.quantiser):
        made = faiss.IndexPQ(dim, parts, 8, inner)
        made.pq.cp.min_points_per_centroid = 1
    elif codec.quantiser in _SCALAR:
        made = faiss.IndexScalarQuantizer(dim, _SCALAR[codec.quantiser], inner)
    else:
        made = faiss.IndexFlatIP(dim)
    made.train(rows)
    made.add(rows)
    return made


class _Padded:
    """A search whose queries lack the dimensions that fill up the last byte."""

    def __init__(self, made: faiss.IndexPQ, missing: int) -> None:
        self._made, self._missing = made, missing

    def search(self, asked: Floats, depth: int) -> tuple[Floats, Found]:
        found: tuple[Floats, Found] = self._made.search(_padded(asked, self._missing), depth)
        return found


def _signs(rows: Floats) -> _Padded:
    """One bit a dimension, (N, K): each eight of them have the 256 centroids that signs times mean sizes make."""
    missing = -rows.shape[1] % 8
    sizes = _padded(np.abs(rows).mean(0)[None], missing)[0].reshape(-1, 8)
    signs = np.where((np.arange(256)[:, None] >> np.arange(8)) & 1, 1, -1).astype(np.float32)
    made = faiss.IndexPQ(8 * len(sizes), len(sizes), 8, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector((sizes[:, None] * signs).astype(np.float32).ravel(), made.pq.centroids)
    made.is_trained = True
    bits = np.packbits(_padded(rows, missing) > 0, axis=1, bitorder="little")
    faiss.copy_array_to_vector(np.ascontiguousarray(bits).ravel(), made.codes)
    made.ntotal = len(rows)
    return _Padded(made, missing)


def _padded(rows: Floats, missing: int) -> Floats:
    return np.ascontiguousarray(np.pad(rows, ((0, 0), (0, missing))), np.float32)
