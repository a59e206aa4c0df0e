"""Rows of ``embeddings`` with random unit vectors, without Spark or a network."""

from typing import Any

import numpy as np

from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS

V1, V2 = "00000000000000aa", "00000000000000bb"
D1, D2 = EncodedSet("d", "e", V1), EncodedSet("d", "e", V2)
HOSTILE = ['d/it\'s "q"', "d/line\nbreak\r\n", "d/back\\slash\\", "d/ünï💡", "d/' OR 1=1 --", "d/..", "d/{x}%s"]


def unit(count: int, dim: int = 24, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def row(image_id: str, vector: np.ndarray, split: str | None = None, version: str = V1, dataset: str = "d") -> dict:
    return {
        "image_id": image_id,
        "encoder_version": version,
        "dataset": dataset,
        "product_id": "d/p",
        "category": None,
        "split": split,
        "encoder": "e",
        "content_sha256": "0",
        "embedding": vector.tolist(),
        "event_timestamp": lake.now(),
        "created_timestamp": lake.now(),
    }


def fill_lake(settings: Settings, count: int = 300, **kind: Any) -> tuple[list[str], np.ndarray]:
    ids = HOSTILE + [f"d/{i:04}" for i in range(count - len(HOSTILE))]
    vectors = unit(count)
    lake.append(
        settings,
        EMBEDDINGS,
        [row(i, v, "train" if n % 3 else "test", **kind) for n, (i, v) in enumerate(zip(ids, vectors, strict=True))],
    )
    return ids, vectors
