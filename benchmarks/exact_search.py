"""Exact search over vectors of fewer bytes, beside floats: milliseconds of one query, and queries a second of many.

Floats are searched by Faiss's ``IndexFlatIP`` and by NumPy (one product of matrices, and the 10 largest), the others
as ``vitrine compress`` times them: each dimension in int8 by Faiss, one bit of each (the query stays in floats) by
Faiss's product quantisation. Vectors are drawn. One query at a time has one thread; many at once have all. Three
rounds in turns: the median, and the least and the most beside it.

    python benchmarks/exact_search.py --rows 1000000 --dim 512
"""

import argparse
import functools
import time
from collections.abc import Callable, Iterator

import faiss
import numpy as np
from served_bits import vectors
from threadpoolctl import threadpool_limits

from evaluation.compression import speed
from vitrine.encoders import processor
from vitrine.encoders.codecs import Codec, as_it_is
from vitrine.vectors import Floats

ROUNDS, ALONE, NEAREST = 3, 15, 10


def by_numpy(index: Floats, queries: Floats) -> Floats:
    """The similarities of the nearest, (Q, 10)."""
    nearness = queries @ index.T
    return np.partition(nearness, -NEAREST, axis=1)[:, -NEAREST:]


def searches(index: Floats) -> Iterator[tuple[str, int, Callable[[Floats], object]]]:
    """Name, bytes a vector, and search."""
    dim = index.shape[1]
    yield "floats, Faiss", 4 * dim, speed.in_full(index).exact
    yield "floats, NumPy", 4 * dim, functools.partial(by_numpy, index)
    for quantiser in ("int8", "1 bit"):
        codec = Codec(as_it_is(dim), quantiser)
        yield f"{quantiser}, Faiss", codec.bytes, speed.over(codec, index).exact


def took(search: Callable[[Floats], object], queries: Floats) -> tuple[float, float]:
    """Milliseconds of one query alone, the median; and queries a second, all at once."""
    threads, alone = faiss.omp_get_max_threads(), []
    faiss.omp_set_num_threads(1)
    with threadpool_limits(1):
        for query in queries[:ALONE]:
            started = time.perf_counter()
            search(query[None])
            alone.append(1000 * (time.perf_counter() - started))
    faiss.omp_set_num_threads(threads)
    started = time.perf_counter()
    search(queries)
    return float(np.median(alone)), len(queries) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=256)
    given = parser.parse_args()
    index, queries = vectors(given.rows, given.dim, 1), vectors(given.queries, given.dim, 0)
    made = list(searches(index))
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name, *_ in made}
    for _ in range(ROUNDS):
        for name, _, search in made:
            seen[name].append(took(search, queries))
    print(f"{given.rows:,} x {given.dim}; {processor.model()} ({processor.instruction_set()})\n")
    print("| search | bytes a vector | ms of one query | times | queries a second | times |\n|---|---|---|---|---|---|")
    base_ms, base_rate = np.median(seen[made[0][0]], axis=0)
    for name, size, _ in made:
        ms, rate = np.median(seen[name], axis=0)
        (least_ms, least_rate), (most_ms, most_rate) = np.min(seen[name], axis=0), np.max(seen[name], axis=0)
        alone = f"{ms:,.1f} ({least_ms:,.1f} to {most_ms:,.1f}) | {base_ms / ms:.1f}"
        many = f"{rate:,.1f} ({least_rate:,.1f} to {most_rate:,.1f}) | {rate / base_rate:.1f}"
        print(f"| {name} | {size:,} | {alone} | {many} |", flush=True)


if __name__ == "__main__":
    main()
