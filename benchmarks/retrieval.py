"""What an evaluation costs beside the search itself, and beside plain NumPy: seconds by part.

Every photo asks for the 100 nearest others, by vectors of unit length that are drawn: products are clusters on the
sphere, each of a category. Vitrine's parts, in one process:

- sync: vectors from the Delta table into Milvus Lite;
- search: the time within pymilvus's own ``search``;
- reading and ranking: all around it: query vectors from the table, answers brought into order, as arrays;
- metrics, and their intervals by the bootstrap, of all slices and of shuffled labels;
- writing ``query_results`` and ``metrics``.

NumPy's: the same blocks of queries against all vectors in memory, one matrix product and a partial sort each.
"Beside the search" is reading and ranking, metrics, intervals and writing, against search.

    python benchmarks/retrieval.py --photos 60000 --dim 768
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from evaluation.evaluate import write_results
from evaluation.metrics_table import write_scores
from evaluation.milvus.vector_index import VectorIndex
from evaluation.retrieval import neighbours
from evaluation.retrieval.neighbours import Items, read_items, relevance_of, shuffled
from evaluation.retrieval.slices import SHUFFLED, slice_scores
from evaluation.task import ALL, Task
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.retrieval_metrics import per_query
from vitrine.setting_sections import EvaluateSettings
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS
from vitrine.vectors import lists

VERSION, DATASET, DEPTH = "0123456789abcdef", "drawn", 100
TASK = Task(EncodedSet(DATASET, "drawn", VERSION), "c", ALL, ALL, "product_id")


class Clock:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started


class Timed:
    """A Milvus client whose searches are clocked."""

    def __init__(self, client: Any, clock: Clock) -> None:
        self._client, self._clock = client, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def search(self, *args: Any, **kwargs: Any) -> Any:
        with self._clock.part("search"):
            return self._client.search(*args, **kwargs)


def draw(settings: Settings, photos: int, dim: int, each: int, categories: int) -> np.ndarray:
    """The embeddings table, by parts; and its vectors, (N, D), in the order of their ids."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((photos // each + 1, dim), dtype=np.float32)
    vectors = np.empty((photos, dim), dtype=np.float32)
    for first in range(0, photos, 10_000):
        rows = np.arange(first, min(first + 10_000, photos))
        part = centres[rows // each] + 1.5 * random.standard_normal((len(rows), dim), dtype=np.float32)
        vectors[rows] = part / np.linalg.norm(part, axis=1, keepdims=True)
        lake.write(settings, EMBEDDINGS, table(rows, vectors[rows], each, categories))
    return vectors


def table(rows: np.ndarray, vectors: np.ndarray, each: int, categories: int) -> pa.Table:
    columns: dict[str, Any] = {
        "image_id": [f"{DATASET}/photo-{row:08d}.jpg" for row in rows],
        "product_id": [f"{DATASET}/{row // each}" for row in rows],
        "category": [f"kind {row // each % categories}" for row in rows],
        "content_sha256": [f"{row:064x}" for row in rows],
        "embedding": lists(vectors),
    }
    same = {"encoder_version": VERSION, "dataset": DATASET, "encoder": "drawn", "split": None}
    same |= dict.fromkeys(("event_timestamp", "created_timestamp"), lake.now())
    columns |= {name: [value] * len(rows) for name, value in same.items()}
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in EMBEDDINGS.schema})


def vitrines(settings: Settings, clock: Clock) -> dict[str, float]:
    with VectorIndex(settings) as milvus:
        with clock.part("sync"):
            at = {EMBEDDINGS.name: milvus.sync(TASK.encoded).to_version}
        milvus._client = Timed(milvus._client, clock)
        with clock.part("reading and ranking"):
            items = read_items(settings, TASK, at)
            found = neighbours.search(settings, milvus, TASK, items, at)
    clock.seconds["reading and ranking"] -= clock.seconds["search"]
    with clock.part("metrics"):
        relevance, n_relevant = relevance_of(found, items, items.labels)
        each = per_query(relevance, n_relevant)
        chance = per_query(*relevance_of(found, items, shuffled(items)))
    with clock.part("intervals"):
        products = items.products[found.queries]
        scores = slice_scores(each, products, items.values_of(found.queries)["category"], len(items.ids))
        scores += [replace(slice_scores(chance, products, [None] * len(products))[0], slice=SHUFFLED)]
    with clock.part("writing"):
        write_results(settings, TASK, items, found, relevance, n_relevant)
        about = {"encoder": "drawn", "run_id": "benchmark", "input_version": ""}
        write_scores(settings, TASK.key | {"classifier": "", "seed": 0}, about, scores)
    return scores[0].values


def numpys(vectors: np.ndarray, items: Items, clock: Clock) -> dict[str, float]:
    """The same figures by matrix products over all vectors in memory."""
    found, step = [], neighbours.BLOCK
    with clock.part("search"):
        for first in range(0, len(vectors), step):
            cosines = vectors[first : first + step] @ vectors.T
            rows = np.arange(len(cosines))
            cosines[rows, first + rows] = -np.inf
            nearest = np.argpartition(-cosines, DEPTH, axis=1)[:, :DEPTH]
            order = np.argsort(-np.take_along_axis(cosines, nearest, axis=1), axis=1)
            found.append(np.take_along_axis(nearest, order, axis=1))
    with clock.part("metrics"):
        relevance = items.labels[np.concatenate(found)] == items.labels[:, None]
        each = per_query(relevance, np.bincount(items.labels)[items.labels] - 1)
        return {name: float(np.nanmean(figures)) for name, figures in each.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=60_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--each", type=int, default=5, help="photos a product")
    parser.add_argument("--categories", type=int, default=12)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as made:
        settings = Settings(home=Path(made), evaluate=EvaluateSettings(depth=DEPTH, max_queries=given.photos))
        vectors = draw(settings, given.photos, given.dim, given.each, given.categories)
        ours, plain = Clock(), Clock()
        figures = vitrines(settings, ours)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        expected = numpys(vectors, read_items(settings, TASK, {}), plain)
    show(given, ours.seconds, plain.seconds)
    worst = max(abs(figures[name] - value) for name, value in expected.items())
    print(f"\nThe figures differ by up to {worst:.1g}; {peak:.1f} GiB at most, Milvus Lite in its process not counted.")


def show(given: argparse.Namespace, ours: dict[str, float], plain: dict[str, float]) -> None:
    print(f"{given.photos} queries against {given.photos} x {given.dim}, {os.cpu_count()} cores\n")
    print("| part | Vitrine, s | NumPy, s |\n|---|---|---|")
    for name, seconds in ours.items():
        print(f"| {name} | {seconds:.2f} | {f'{plain[name]:.2f}' if name in plain else ''} |")
    beside = sum(ours[name] for name in ("reading and ranking", "metrics", "intervals", "writing"))
    print(f"| beside the search | {beside:.2f}: {beside / ours['search']:.1%} | |")
    print(f"| search a second | {given.photos / ours['search']:.0f} | {given.photos / plain['search']:.0f} |")


if __name__ == "__main__":
    main()
