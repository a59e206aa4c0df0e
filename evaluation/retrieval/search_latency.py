"""How long one search takes: a few queries, one at a time, as a shop's page asks."""

import time

import numpy as np

from evaluation.milvus.collection import EXACT
from evaluation.milvus.vector_index import VectorIndex
from evaluation.task import Task
from vitrine import lake
from vitrine.runs import Latency
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS
from vitrine.vectors import matrix

QUERIES = 20
LIMIT = 10


def search_latency(settings: Settings, milvus: VectorIndex, task: Task, at: dict[str, int]) -> Latency:
    """Clock time of searching the exact collection of ``task``, from this process to Milvus and back.

    The queries are the first ``QUERIES`` of the task by SHA-256 of the image id; the first is asked once before the
    clock starts.
    """
    within = task.within(task.query_split)
    sql = f"SELECT embedding FROM {EMBEDDINGS.name} WHERE {within} ORDER BY sha256(image_id) LIMIT {QUERIES}"
    vectors = matrix(lake.query(settings, sql, at).column("embedding"))
    clock = []
    for vector in (vectors[0], *vectors):
        started = time.perf_counter()
        milvus.search(task.encoded, vector[None, :], LIMIT, task.searched)
        clock.append(1000 * (time.perf_counter() - started))
    timed = np.array(clock[1:])
    return Latency(
        milliseconds=round(float(np.median(timed)), 3),
        low=round(float(timed.min()), 3),
        high=round(float(timed.max()), 3),
        queries=len(timed),
        limit=LIMIT,
        index=EXACT.kind,
        milvus="Lite" if milvus.lite else "server",
    )
