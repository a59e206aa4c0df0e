"""Is each vector sound, and do those who follow the lake hold the same?

Vectors pass once, some hundred at a time, and each follower (Feast's online store, a Milvus collection) is asked for
the same ids: memory does not grow with the catalog.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from evaluation.consistency.differences import Differences
from evaluation.consistency.tables import StoredVersion
from vitrine import lake
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, LABEL_COLUMNS
from vitrine.vectors import ragged

BATCH = 500
"""Ids that a follower is asked for at once."""
SAME = 1e-6
"""Of a float32 of a unit vector that was copied, not computed again."""
_NORM = 1e-3


@dataclass(frozen=True)
class HeldVector:
    """What a follower holds of a photo or product: a float32 vector, (D,), and its labels, as far as it keeps them."""

    embedding: NDArray[np.float32]
    labels: dict[str, str | None]
    within: float = SAME
    """How far each dimension may lie from the lake's."""


class Follower(Protocol):
    """A store that follows one encoder version's vectors; ``kind`` is ``online`` or ``milvus``."""

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...

    def fetch(self, ids: list[str]) -> dict[str, HeldVector]:
        """What it holds of ``ids``, those that it has not left out."""

    def too_many(self) -> Iterator[str]:
        """Ids that it holds, and the version has no vector of."""


def check_vectors(
    settings: Settings, differences: Differences, version: StoredVersion, followers: Sequence[Follower]
) -> None:
    """Each vector is one of unit length, and every follower holds the same and no others."""
    compare_vectors(settings, differences, version, followers)
    for follower in followers:
        add_too_many(differences, follower)


def add_too_many(differences: Differences, follower: Follower) -> None:
    """The follower holds nothing that the lake has not."""
    for key in follower.too_many():
        differences.add(f"{follower.kind}.too_many", follower.name, [key])


def compare_vectors(
    settings: Settings, differences: Differences, version: StoredVersion, followers: Sequence[Follower], tail: str = ""
) -> None:
    """Each vector is one of unit length, and every follower holds the same; ``tail`` ends the SQL that asks."""
    columns = ", ".join(("image_id", *LABEL_COLUMNS, "embedding"))
    sql = f"SELECT {columns} FROM {EMBEDDINGS.name} WHERE {version.encoded.where} {tail}"
    for part in parts(settings, sql):
        ids, vectors = part.column("image_id").to_pylist(), ragged(part.column("embedding"))
        bad = [image_id for image_id, vector in zip(ids, vectors, strict=True) if not _is_unit(vector, version.dim)]
        differences.add("embeddings.bad_vector", version.name, bad)
        for follower in followers:
            compare(differences, follower, ids, vectors, part.select(list(LABEL_COLUMNS)).to_pylist())


def parts(settings: Settings, sql: str) -> Iterator[pa.RecordBatch]:
    """The rows of ``sql``, up to ``BATCH`` at a time."""
    for batch in lake.stream(settings, sql):
        for start in range(0, batch.num_rows, BATCH):
            yield batch.slice(start, BATCH)


def compare(
    differences: Differences,
    follower: Follower,
    keys: list[str],
    vectors: list[NDArray[np.float32]],
    labels: list[dict[str, str | None]],
) -> None:
    """The follower holds these vectors and labels, one of each a key."""
    held = follower.fetch(keys)
    differences.add(f"{follower.kind}.missing", follower.name, [key for key in keys if key not in held])
    other = [
        key
        for key, vector, label in zip(keys, vectors, labels, strict=True)
        if key in held and not (_equal(vector, held[key]) and _same_labels(held[key].labels, label))
    ]
    differences.add(f"{follower.kind}.other", follower.name, other)


def _is_unit(vector: NDArray[np.float32], dim: int | None) -> bool:
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return (dim is None or len(vector) == dim) and abs(length - 1) <= _NORM  # False where the length is NaN


def _equal(vector: NDArray[np.float32], held: HeldVector) -> bool:
    kept = held.embedding
    return vector.shape == kept.shape and bool(np.all(np.abs(vector - kept) <= held.within))


def _same_labels(held: dict[str, str | None], label: dict[str, str | None]) -> bool:
    return all((value or None) == (label[name] or None) for name, value in held.items())  # Milvus has no null
