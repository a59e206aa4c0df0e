"""Does Feast's online store agree with the lake, and do its services point to what serves?"""

import sqlite3
from collections.abc import Iterator

from evaluation.consistency.differences import Differences
from evaluation.consistency.tables import StoredVersion
from evaluation.consistency.vectors import SAME, HeldVector, add_too_many, compare, parts
from vitrine import facts, feature_store
from vitrine.feast_parts import FeatureServiceNotFoundException, FeatureViewNotFoundException
from vitrine.feature_store import IMAGES, KINDS, PRODUCTS, Kind
from vitrine.lake import matches
from vitrine.online.lookup import OnlineFeatures
from vitrine.online.values import PACKED_ERROR
from vitrine.settings import Settings
from vitrine.tables import LABELS
from vitrine.vectors import ragged


class OnlineStore:
    """Feast's rows of a version, of images or products. A store of keys cannot say which it holds: those are asked for
    that the data set ever had, which ``labels`` knows."""

    kind = "online"

    def __init__(self, settings: Settings, version: StoredVersion, of: Kind = IMAGES) -> None:
        self._settings, self._encoded, self._of = settings, version.encoded, of
        self.name = version.name if of is IMAGES else f"{version.name} {of.name}"
        self._store = feature_store.open_store(settings)
        self._online = OnlineFeatures(settings, self._store)
        self.there = 0
        """Of those asked for, how many were there."""

    def fetch(self, ids: list[str]) -> dict[str, HeldVector]:
        version = self._encoded.encoder_version
        try:
            view = self._store.get_feature_view(self._of.view(self._encoded.encoder, version))
            answers = self._online.rows(view, ids, self._of)
        except (FeatureViewNotFoundException, sqlite3.OperationalError):  # never applied, or the file was lost
            return {}
        within = PACKED_ERROR if self._settings.feast.vectors == "int8" else SAME
        labels = [name for name in ("product_id", "category") if name in self._of.features]
        held = {
            row[self._of.key]: HeldVector(row["embedding"], {name: row[name] for name in labels}, within)
            for row in answers
            if row["embedding"] is not None and row["encoder_version"] == version
        }
        self.there += len(held)
        return held

    def too_many(self) -> Iterator[str]:
        key = self._of.key
        gone = (
            f"SELECT DISTINCT l.{key} FROM {LABELS.name} l LEFT ANTI JOIN (SELECT {key} FROM {self._of.table.name} "
            f"WHERE {self._encoded.where}) e ON l.{key} = e.{key} WHERE {matches('l', dataset=self._encoded.dataset)}"
        )
        for part in parts(self._settings, gone):
            yield from self.fetch(part.column(0).to_pylist())


def check_products(settings: Settings, differences: Differences, version: StoredVersion) -> None:
    """Feast holds each product's vector, and no others."""
    follower = OnlineStore(settings, version, PRODUCTS)
    columns = f"SELECT product_id, category, embedding FROM {PRODUCTS.table.name}"
    for part in parts(settings, f"{columns} WHERE {version.encoded.where}"):
        labels = part.select(["category"]).to_pylist()
        compare(differences, follower, part.column("product_id").to_pylist(), ragged(part.column("embedding")), labels)
    add_too_many(differences, follower)


def check_services(settings: Settings, differences: Differences, dataset: str) -> None:
    """Feast's serving services are of the version that the newest promotion says."""
    serves = facts.serving_set(settings, dataset)
    if serves is None:
        return
    store = feature_store.open_store(settings)
    for kind in KINDS:
        try:
            version = store.get_feature_service(kind.serving(dataset)).tags.get("encoder_version")
        except FeatureServiceNotFoundException:
            version = None
        if version != serves.encoder_version:
            differences.add("online.service", kind.serving(dataset), [str(version)], 1)
