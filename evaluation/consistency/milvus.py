"""Do Milvus and what serves agree with the lake? The part of ``vitrine check`` that asks Milvus."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evaluation.consistency.differences import Differences
from evaluation.consistency.tables import Row, Version, count
from evaluation.milvus.collection import COLUMNS, PART, key_ranges
from evaluation.milvus.vector_index import VectorIndex
from vitrine import facts, lake
from vitrine.settings import Settings


@dataclass
class MilvusRows:
    """A version's collection; ``served``: the one that the alias may name, where its index is not FLAT."""

    milvus: VectorIndex
    version: Version
    served: bool = False

    kind = "milvus"

    @property
    def name(self) -> str:
        return self.version.name + (" (served)" if self.served else "")

    def fetch(self, ids: list[str]) -> dict[str, Row]:
        rows = self.milvus.rows(self.version.encoded, ids, self.served)
        return {
            row["image_id"]: Row(np.array(row["embedding"], np.float32), {name: row[name] for name in COLUMNS[1:-1]})
            for row in rows
        }

    def too_many(self) -> Iterator[str]:
        for _, strange in self.apart():
            yield from strange

    def apart(self) -> Iterator[tuple[set[str], set[str]]]:
        """The ids that it lacks and those that the lake has not, part by part, in ranges of their SHA-256: memory holds
        ``PART`` of each."""
        settings, where = self.version.settings, self.version.where
        held = self.milvus.count(self.version.encoded, self.served)
        for low, high in key_ranges(max(held, count(settings, "embeddings", where)), PART):
            within = f"{where} AND {lake.hashed_between('image_id', low, high)}"
            wanted = {
                image_id
                for batch in lake.stream(settings, f"SELECT image_id FROM embeddings WHERE {within}")
                for image_id in batch.column(0).to_pylist()
            }
            there = set(self.milvus.ids(self.version.encoded, self.served, low, high))
            yield wanted - there, there - wanted


def check_ids(found: Differences, rows: MilvusRows) -> None:
    """The collection holds every photo of the version, and no other."""
    for lacking, strange in rows.apart():
        found.add("milvus.missing", rows.name, lacking)
        found.add("milvus.too_many", rows.name, strange)


def followers(milvus: VectorIndex, version: Version) -> list[MilvusRows]:
    """Its collections: the exact one and, of what serves, that of ``[milvus] index`` where it is another."""
    serves = facts.serving(version.settings, version.dataset)
    served = serves is not None and serves["encoder_version"] == version.version
    if served and version.settings.milvus.index != "FLAT":
        return [MilvusRows(milvus, version), MilvusRows(milvus, version, served=True)]
    return [MilvusRows(milvus, version)]


def check_versions(found: Differences, milvus: VectorIndex, version: Version) -> None:
    """Each collection holds all changes of the lake, by the version that it notes."""
    for rows in followers(milvus, version):
        behind = milvus.behind(version.encoded, rows.served)
        if behind is None:
            behind = count(version.settings, "embeddings", version.where)
        found.add("milvus.behind", rows.name, [], behind)


def check_alias(settings: Settings, found: Differences, milvus: VectorIndex, dataset: str) -> None:
    """The alias names the served collection of what the newest promotion says; none where nothing serves."""
    serves = facts.serving_set(settings, dataset)
    wanted = milvus.collection(serves, served=True).name if serves else None
    named = milvus.alias_collection(dataset)
    if named != wanted:
        found.add("milvus.alias", dataset, [str(named)], 1)
