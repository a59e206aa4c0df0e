"""Do Milvus's collections and its alias agree with the lake?"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evaluation.consistency.differences import Differences
from evaluation.consistency.tables import StoredVersion
from evaluation.consistency.vectors import HeldVector
from evaluation.milvus.collection import ATTRIBUTES, PART
from evaluation.milvus.vector_index import VectorIndex
from vitrine import facts, lake
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, LABEL_COLUMNS


@dataclass(frozen=True)
class MilvusRows:
    """A version's collection; ``served``: the one that the alias may name, where its index is not FLAT."""

    settings: Settings
    milvus: VectorIndex
    version: StoredVersion
    served: bool = False

    kind = "milvus"

    @property
    def name(self) -> str:
        return self.version.name + (" (served)" if self.served else "")

    @property
    def count(self) -> int:
        return self.milvus.count(self.version.encoded, self.served)

    @property
    def behind(self) -> int | None:
        """As ``VectorIndex.behind``."""
        return self.milvus.behind(self.version.encoded, self.served)

    def fetch(self, ids: list[str]) -> dict[str, HeldVector]:
        labels = (*LABEL_COLUMNS, ATTRIBUTES)
        return {
            row["image_id"]: HeldVector(
                np.array(row["embedding"], np.float32), {name: row[name] for name in labels if name in row}
            )
            for row in self.milvus.rows(self.version.encoded, ids, self.served)
        }

    def too_many(self) -> Iterator[str]:
        for _, strange in self.apart():
            yield from strange

    def apart(self) -> Iterator[tuple[set[str], set[str]]]:
        """The ids that it lacks and those that the lake has not, part by part, in ranges of their SHA-256: memory holds
        ``PART`` of each."""
        encoded = self.version.encoded
        for low, high in lake.key_ranges(max(self.count, facts.embedded(self.settings, encoded)), PART):
            where = f"{encoded.where} AND {lake.hashed_between('image_id', low, high)}"
            batches = lake.stream(self.settings, f"SELECT image_id FROM {EMBEDDINGS.name} WHERE {where}")
            wanted = {image_id for batch in batches for image_id in batch.column(0).to_pylist()}
            held = set(self.milvus.ids(encoded, self.served, low, high))
            yield wanted - held, held - wanted


def check_ids(differences: Differences, rows: MilvusRows) -> None:
    """The collection holds every photo of the version, and no other."""
    for lacking, strange in rows.apart():
        differences.add("milvus.missing", rows.name, lacking)
        differences.add("milvus.too_many", rows.name, strange)


def collections(settings: Settings, milvus: VectorIndex, version: StoredVersion) -> list[MilvusRows]:
    """The version's: the exact one and, of what serves, that of ``[milvus] index`` where it is another."""
    exact, served = (MilvusRows(settings, milvus, version, served) for served in (False, True))
    serves = facts.serving_set(settings, version.encoded.dataset)
    is_served = serves is not None and serves.encoder_version == version.encoded.encoder_version
    return [exact, served] if is_served and settings.milvus.index != "FLAT" else [exact]


def check_behind(settings: Settings, differences: Differences, rows: MilvusRows) -> None:
    """The collection holds all changes of the lake, by the version that it notes."""
    behind = rows.behind
    lacking = facts.embedded(settings, rows.version.encoded) if behind is None else behind
    differences.add("milvus.behind", rows.name, [], lacking)


def check_alias(settings: Settings, differences: Differences, milvus: VectorIndex, dataset: str) -> None:
    """The alias names the served collection of what the newest promotion says; none where nothing serves."""
    serves = facts.serving_set(settings, dataset)
    wanted = milvus.collection(serves, served=True).name if serves else None
    named = milvus.alias_collection(dataset)
    if named != wanted:
        differences.add("milvus.alias", dataset, [str(named)], 1)
