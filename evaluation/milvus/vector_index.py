"""Milvus follows the lake: one collection an encoder version and data set, brought to the lake's Delta version.

A collection has one index for good. The one that evaluation searches is FLAT, exact; what serves may have another
beside it with a faster index (``[milvus] index``), filled before the alias moves to it. Where the setting is FLAT,
both are the same collection.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.milvus import sync as milvus_sync
from evaluation.milvus.collection import (
    EXACT,
    IDENTITY,
    Collection,
    Hits,
    Labels,
    collection_name,
    parse_name,
    served_index,
)
from evaluation.milvus.connection import MilvusConnection
from evaluation.milvus.sync import Source, SyncResult
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.errors import VitrineError
from vitrine.names import check_name
from vitrine.tables import EMBEDDINGS


def alias_name(dataset: str) -> str:
    return f"{check_name(dataset, 'data set name')}_serving"


class VectorIndex(MilvusConnection):
    """Milvus as ``settings`` say, open between ``with VectorIndex(settings) as index:`` and the end of the block.

    ``served`` asks for the collection with the index of ``[milvus] index``, else it is the exact one. Every method
    raises VitrineError (at the end of the block) where Milvus fails.
    """

    def collection(self, encoded: EncodedSet, served: bool = False) -> Collection:
        """Raises UserError where the data set is no name or the version not 16 hex digits."""
        index = served_index(self._settings.milvus) if served else EXACT
        return Collection(self, self._client, collection_name(encoded.dataset, encoded.encoder_version, index), index)

    def sync(self, encoded: EncodedSet, served: bool = False) -> SyncResult:
        """As ``milvus_sync.sync``; no other process of this home writes to Milvus meanwhile."""
        collection = self.collection(encoded, served)
        with self.writing():
            return milvus_sync.sync(Source(self._settings, encoded), collection)

    def behind(self, encoded: EncodedSet, served: bool = False) -> int | None:
        """As ``milvus_sync.behind``."""
        collection = self.collection(encoded, served)
        return milvus_sync.behind(Source(self._settings, encoded), collection)

    def forget(self, encoded: EncodedSet) -> None:
        """Let the next sync of each of its collections write all rows again; meanwhile they serve as they are, but for
        those that hold no attributes: they are dropped."""
        for served in {False, not served_index(self._settings.milvus).exact}:
            collection = self.collection(encoded, served)
            if not collection.exists():
                continue
            if collection.has_attributes:
                collection.note(lake.identity(self._settings, EMBEDDINGS), None)
                continue
            if self.alias_collection(encoded.dataset) == collection.name:
                self.drop_alias(encoded.dataset)
            collection.drop()

    # Reading

    def count(self, encoded: EncodedSet, served: bool = False) -> int:
        """Rows of the collection; 0 where there is none."""
        collection = self.collection(encoded, served)
        if not collection.exists():
            return 0
        collection.load()
        return collection.count()

    def ids(self, encoded: EncodedSet, served: bool = False, low: str = "", high: str = "g") -> Iterator[str]:
        """The image ids of the collection whose SHA-256 is in [low, high), hexadecimal, in no order that means
        anything; none where there is no collection."""
        collection = self.collection(encoded, served)
        if collection.exists():
            collection.load()
            for rows in collection.pages("image_id", low, high):
                yield from (row["image_id"] for row in rows)

    def rows(self, encoded: EncodedSet, image_ids: list[str], served: bool = False) -> list[dict[str, Any]]:
        """``Collection.columns`` of those of ``image_ids`` that the collection has; some hundreds at once."""
        collection = self.collection(encoded, served)
        if not image_ids or not collection.exists():
            return []
        collection.load()
        return collection.rows(image_ids)

    def search(
        self,
        encoded: EncodedSet,
        vectors: NDArray[np.float32],
        limit: int,
        where: Labels = (),
        served: bool = False,
    ) -> Hits:
        """The ``limit`` nearest images of each query, of those with the labels ``where`` alone.

        Args:
            vectors: float32, (Q, D), unit length.

        Returns:
            Image ids and their cosine similarities, Q lists each, nearest first, equal ones by id; shorter than
            ``limit`` where the collection holds less.

        Raises:
            VitrineError: the collection is not there, or holds no attributes and is asked for one.
        """
        collection = self.collection(encoded, served)
        if not collection.exists():
            raise VitrineError(f"Milvus has no collection {collection.name!r}: run `vitrine index` first")
        collection.load()
        return collection.search(vectors, limit, where)

    # What serves

    def alias_collection(self, dataset: str) -> str | None:
        """The collection that ``<dataset>_serving`` names; None where there is no such alias."""
        alias = alias_name(dataset)
        # As a collection: servers of 2.3 list and describe the aliases of the default database only.
        if not self._client.has_collection(alias):
            return None
        return str(self._client.describe_collection(alias)["collection_name"])

    def alias_target(self, dataset: str) -> str | None:
        """The encoder version that ``<dataset>_serving`` names; None where there is no such alias."""
        parsed = parse_name(self.alias_collection(dataset) or "")
        return parsed[1] if parsed else None

    def point_alias(self, encoded: EncodedSet) -> bool:
        """Let ``<dataset>_serving`` name the served collection of ``encoded``; True where that is news.

        One step in Milvus: a search is answered from the old collection or from the new one.

        Raises:
            VitrineError: the collection is not there, or a fill of it was cut short.
        """
        collection, alias = self.collection(encoded, served=True), alias_name(encoded.dataset)
        if collection.held(lake.identity(self._settings, EMBEDDINGS)) is None:
            raise VitrineError(
                f"Milvus has no whole collection {collection.name!r} for the alias {alias!r}: fill it first"
            )
        target = self.alias_collection(encoded.dataset)
        if target == collection.name:
            return False
        collection.load()
        if target is None:
            self._client.create_alias(collection.name, alias)
        else:
            self._client.alter_alias(collection.name, alias)
        return True

    def drop_alias(self, dataset: str) -> None:
        """Let ``<dataset>_serving`` name nothing."""
        if self.alias_collection(dataset) is not None:
            self._client.drop_alias(alias_name(dataset))

    # Old collections

    def collections(self) -> list[tuple[str, str, str]]:
        """(name, data set, encoder version) of every collection that was made for this lake, by name."""
        identity = lake.identity(self._settings, EMBEDDINGS)
        named = ((name, parse_name(name)) for name in sorted(self._client.list_collections()))
        return [
            (name, *parsed)
            for name, parsed in named
            if parsed and Collection(self, self._client, name, EXACT).noted().get(IDENTITY) == identity
        ]

    def drop(self, name: str) -> None:
        """Remove a collection, where it is there.

        Raises:
            VitrineError: an alias names it: it serves.
        """
        collection = Collection(self, self._client, name, EXACT)
        if not collection.exists():
            return
        parsed = parse_name(name)
        if parsed and self.alias_collection(parsed[0]) == name:
            raise VitrineError(f"collection {name!r} serves: promote another version before dropping it")
        collection.drop()
