"""How long search takes over vectors in full and over a codec's, on this machine, by Faiss: exact, and in lists.

One bit is searched as product quantisation whose centroids are all signs of eight dimensions, many vectors by Faiss's
fast scan (André et al., VLDB 2015) before; int8 as the codes
themselves, by queries that are multiplied by each dimension's step (what its lowest level adds is the same for
all vectors). So the query stays in floats, and finds what the study's search finds. 4 bits are Faiss's own, whose ends
are not clipped.

The approximate search goes through the same codes in about sqrt(N) lists (Faiss's IVF: a list a centroid of k-means,
ten rounds; codes are of the vectors themselves, not of what they differ from their centroid by), of which a query asks
the ``LISTS_ASKED`` nearest.
"""

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from vitrine.encoders.codecs import CANDIDATES, Codec, Levels, parts_of
from vitrine.vectors import Floats

LISTS_ASKED = 16
_SCALAR = {
    "fp16": faiss.ScalarQuantizer.QT_fp16,
    "4 bits": faiss.ScalarQuantizer.QT_4bit,
}
_CODES = faiss.ScalarQuantizer.QT_8bit_direct_signed
_INNER, _ROUNDS = faiss.METRIC_INNER_PRODUCT, 10
_DEPTH, _WARM, _ONE_BY_ONE, _AT_ONCE = 10, 5, 100, 1_000
_BLOCK = 64  # queries whose candidates are decoded at once
_SCANNED = 20_000
"""So many vectors are scanned first, and what comes nearest then ranked: of fewer, that takes longer."""
_ROUNDING = 1e-5  # of a similarity in float32
Done = TypeVar("Done")


class Found(NamedTuple):
    """What Q queries find, the nearest first."""

    similarities: Floats
    """(Q, depth)."""
    places: NDArray[np.int64]
    """(Q, depth): -1 past the end."""


Search = Callable[[Floats], Found]
"""From queries, float32 (Q, D), to their 10 nearest."""
_Nearest = Callable[[Floats, int], Found]
"""The same of as many as asked for, by queries that went through the codec's linear part."""


class _Encoded(NamedTuple):
    """An index of Faiss."""

    index: Any
    given: Floats
    """(N, K): what it was given to encode."""
    scale: "Floats | float" = 1.0
    """What queries are multiplied by, (K,)."""
    signs: bool = False
    """Is it one bit a dimension?"""


@dataclass(frozen=True)
class Searchable:
    """Vectors that can be searched."""

    exact: Search
    in_lists: Callable[[], Search]
    """Makes the approximate search over the same codes."""


@dataclass(frozen=True)
class Speed:
    """Of search for the 10 nearest; a query's linear part is in it."""

    latency_ms: float
    """Median of one query by itself, on one thread."""
    queries_per_second: float
    """Of many at once, on all threads."""
    build_seconds: float
    """To encode the index; what the codec itself is fitted by is in it where Faiss fits it."""
    lists_latency_ms: float
    """The same three of the approximate search."""
    lists_queries_per_second: float
    lists_build_seconds: float
    """Beside ``build_seconds``: finding the lists, and filling them."""
    lists_recall: float
    """recall@10: of the 10 that are found in lists, the share that are as near as the 10 that the exact search over the
    same codes finds. Codes of few bits tie: any of equally near ones will do."""


def speed(make: Callable[[], Searchable], asked: Floats) -> Speed:
    """Of what ``make`` makes, by queries ``asked``, (Q, D)."""
    made, built = _timed(make)
    in_lists, listed = _timed(made.in_lists)
    latency, per_second, wanted = _asked(made.exact, asked)
    lists_latency, lists_per_second, found = _asked(in_lists, asked)
    recall = float((found.similarities >= wanted.similarities[:, -1:] - _ROUNDING).mean())
    return Speed(latency, per_second, built, lists_latency, lists_per_second, listed, recall)


def in_full(index: Floats) -> Searchable:
    """Search over ``index``, float32 (N, D), as it is."""
    flat = faiss.IndexFlatIP(index.shape[1])
    flat.add(index)
    return _once(_Encoded(flat, index), index, 0, lambda asked: asked)


def over(codec: Codec, index: Floats) -> Searchable:
    """Search over what ``codec`` makes of ``index``, float32 (N, D); by both passes, where it has two: lists are of
    the first."""
    rows = codec.linear.apply(index)
    missing = -rows.shape[1] % 8 if codec.quantiser == "1 bit" else 0
    first = _encoded(rows, codec.quantiser)
    if codec.again is None:
        return _once(first, rows, missing, codec.linear.apply)
    longer = _encoded(codec.again.linear.apply(index), codec.again.quantiser)
    twice = functools.partial(_twice, codec, codec.again, longer, len(rows))
    return Searchable(twice(_exact(first, missing)), lambda: twice(_nearest(_in_lists(first, rows, missing), missing)))


# ---- by one pass, and by two ----


def _once(made: _Encoded, rows: Floats, missing: int, linear: Callable[[Floats], Floats]) -> Searchable:
    depth = min(_DEPTH, len(rows))

    def through(nearest: _Nearest) -> Search:
        return lambda asked: nearest(linear(asked), depth)

    return Searchable(
        through(_exact(made, missing)), lambda: through(_nearest(_in_lists(made, rows, missing), missing))
    )


def _twice(codec: Codec, again: Codec, longer: _Encoded, size: int, first: _Nearest) -> Search:
    def search(asked: Floats) -> Found:
        candidates = first(codec.linear.apply(asked), min(CANDIDATES, size)).places
        return _ranked(longer, again.linear.apply(asked), candidates, _DEPTH)

    return search


def _nearest(made: _Encoded, missing: int) -> _Nearest:
    """``missing``: dimensions that queries lack, which fill up the last byte."""
    return lambda asked, depth: Found(*made.index.search(_padded(asked * made.scale, missing), depth))


def _exact(made: _Encoded, missing: int) -> _Nearest:
    """As ``_nearest``. Of one bit and many vectors, Faiss's fast scan finds candidates, by similarities that are
    rounded to a byte for each four dimensions; these are ranked by their signs as they are."""
    if not made.signs or len(made.given) < _SCANNED:
        return _nearest(made, missing)
    scan = _fast_scan(made.index)

    def nearest(asked: Floats, depth: int) -> Found:
        asked = _padded(asked, missing)
        return _ranked(made, asked, scan.search(asked, max(CANDIDATES, 2 * depth))[1], depth)

    return nearest


def _ranked(made: _Encoded, asked: Floats, candidates: NDArray[np.int64], depth: int) -> Found:
    """The first ``depth`` of ``candidates``, (Q, C), by queries ``asked``, (Q, K)."""
    found = []
    for first in range(0, len(asked), _BLOCK):
        places = candidates[first : first + _BLOCK]
        rows = made.index.reconstruct_batch(np.maximum(places, 0).ravel()).reshape(*places.shape, -1)
        nearness = np.einsum("qck,qk->qc", rows, asked[first : first + _BLOCK] * made.scale)
        nearness[places < 0] = -np.inf
        order = np.argsort(-nearness, axis=1, kind="stable")[:, :depth]
        found.append([np.take_along_axis(each, order, axis=1) for each in (nearness, places)])
    return Found(*(np.concatenate(each) for each in zip(*found, strict=True)))


# ---- Faiss's indexes ----


def _encoded(rows: Floats, quantiser: str) -> _Encoded:
    """An exact index of ``rows``, (N, K)."""
    dim = rows.shape[1]
    made: Any
    if quantiser == "1 bit":
        return _Encoded(_signs(rows), rows, signs=True)
    if quantiser == "int8":
        levels = Levels.of(rows, quantiser)
        made, codes = faiss.IndexScalarQuantizer(dim, _CODES, _INNER), levels.codes(rows) - 128
        made.add(codes)
        return _Encoded(made, codes, levels.step)
    if parts := parts_of(quantiser):
        made = faiss.IndexPQ(dim, parts, 8, _INNER)
        made.pq.cp.min_points_per_centroid = 1
    elif quantiser in _SCALAR:
        made = faiss.IndexScalarQuantizer(dim, _SCALAR[quantiser], _INNER)
    else:
        made = faiss.IndexFlatIP(dim)
    made.train(rows)
    made.add(rows)
    return _Encoded(made, rows)


def _in_lists(exact: _Encoded, rows: Floats, missing: int) -> _Encoded:
    """An approximate index of ``rows``, (N, K), by the quantiser of ``exact``, fitted already."""
    rows, given = _padded(rows, missing), _padded(exact.given, missing)
    dim, lists = rows.shape[1], max(1, round(math.sqrt(len(rows))))
    means: Any = faiss.Kmeans(dim, lists, niter=_ROUNDS, spherical=True, min_points_per_centroid=1)
    means.train(rows)
    placing, coarse = faiss.IndexFlatIP(dim), faiss.IndexFlatIP(dim)
    placing.add(means.centroids)
    coarse.add(np.ascontiguousarray(means.centroids / exact.scale, np.float32))  # queries come multiplied by it
    made: Any
    if isinstance(exact.index, faiss.IndexPQ):
        made = faiss.IndexIVFPQ(coarse, dim, lists, exact.index.pq.M, 8, _INNER)
        made.by_residual, made.pq = False, exact.index.pq
    elif isinstance(exact.index, faiss.IndexScalarQuantizer):
        made = faiss.IndexIVFScalarQuantizer(coarse, dim, lists, exact.index.sq.qtype, _INNER, False)
        made.sq = exact.index.sq
    else:
        made = faiss.IndexIVFFlat(coarse, dim, lists, _INNER)
    made.is_trained, made.nprobe = True, min(LISTS_ASKED, lists)
    nearest = np.ascontiguousarray(placing.search(rows, 1)[1].ravel())
    made.add_core(len(rows), faiss.swig_ptr(given), None, faiss.swig_ptr(nearest))
    return _Encoded(made, given, exact.scale)


def _signs(rows: Floats) -> faiss.IndexPQ:
    """One bit a dimension, (N, K): each eight of them have the 256 centroids that signs times mean sizes make."""
    missing = -rows.shape[1] % 8
    sizes = _padded(np.abs(rows).mean(0)[None], missing)[0].reshape(-1, 8)
    signs = np.where((np.arange(256)[:, None] >> np.arange(8)) & 1, 1, -1).astype(np.float32)
    made = faiss.IndexPQ(8 * len(sizes), len(sizes), 8, _INNER)
    faiss.copy_array_to_vector((sizes[:, None] * signs).astype(np.float32).ravel(), made.pq.centroids)
    made.is_trained = True
    bits = np.packbits(_padded(rows, missing) > 0, axis=1, bitorder="little")
    faiss.copy_array_to_vector(np.ascontiguousarray(bits).ravel(), made.codes)
    made.ntotal = len(rows)
    return made


def _fast_scan(signs: faiss.IndexPQ) -> faiss.IndexPQFastScan:
    """The same signs for Faiss's fast scan, which takes four dimensions at a time."""
    sizes = np.abs(faiss.vector_to_array(signs.pq.centroids).reshape(-1, 256, 8)[:, 0]).reshape(-1, 4)
    four = np.where((np.arange(16)[:, None] >> np.arange(4)) & 1, 1, -1).astype(np.float32)
    made = faiss.IndexPQFastScan(signs.d, signs.d // 4, 4, _INNER)
    faiss.copy_array_to_vector((sizes[:, None] * four).astype(np.float32).ravel(), made.pq.centroids)
    made.is_trained = True
    for first in range(0, signs.ntotal, _SCANNED):
        made.add(signs.reconstruct_n(first, min(_SCANNED, signs.ntotal - first)))
    return made


def _padded(rows: Floats, missing: int) -> Floats:
    return np.ascontiguousarray(np.pad(rows, ((0, 0), (0, missing))) if missing else rows, np.float32)


# ---- the clock ----


def _timed(work: Callable[[], Done]) -> tuple[Done, float]:
    started = time.perf_counter()
    done = work()
    return done, time.perf_counter() - started


def _asked(search: Search, asked: Floats) -> tuple[float, float, Found]:
    """Milliseconds, the median of one query on one thread; queries a second, many at once; and what these found."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        ones = range(min(len(asked), _WARM + _ONE_BY_ONE))
        seconds = [_timed(functools.partial(search, asked[at : at + 1]))[1] for at in ones]
    finally:
        faiss.omp_set_num_threads(threads)
    many = asked[:_AT_ONCE]
    found, at_once = _timed(functools.partial(search, many))
    return 1000 * float(np.median(seconds[_WARM:] or seconds)), len(many) / max(at_once, 1e-9), found
