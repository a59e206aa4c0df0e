"""Do the tables agree with each other, and do those who follow them? By id, version and content.

The catalog is the truth about photos, ``embeddings`` about vectors. Tables are compared in SQL; vectors go by once,
some hundred at a time, and each follower (Feast's online store, a Milvus collection) is asked for the same ids: memory
does not grow with the catalog.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast.errors import FeatureServiceNotFoundException, FeatureViewNotFoundException
from numpy.typing import NDArray

from evaluation.consistency.differences import SHOWN, Differences
from vitrine import facts, feature_store, lake
from vitrine.encoded_set import EncodedSet
from vitrine.feature_store import IMAGES, KINDS, PRODUCTS, Kind
from vitrine.online.lookup import OnlineFeatures
from vitrine.settings import Settings

BATCH = 500
"""Ids that a follower is asked for at once."""
PRODUCT_PART = 40_000
"""Photos whose products' means are held at once."""
LABELS = ("product_id", "category", "split")
_SAME = 1e-6  # of a float32 of a unit vector that was copied, not computed again
_NORM = 1e-3
_COSINE = 0.9999  # of a mean that another library summed up


@dataclass(frozen=True)
class Version:
    """An encoder version of a data set; ``followed``: it belongs online and in Milvus, and is kept up every night."""

    settings: Settings
    dataset: str
    encoder: str
    version: str
    dim: int | None
    followed: bool

    @property
    def name(self) -> str:
        return f"{self.encoder} {self.version}"

    @property
    def encoded(self) -> EncodedSet:
        return EncodedSet(self.dataset, self.encoder, self.version)

    @property
    def where(self) -> str:
        return self.encoded.where


@dataclass(frozen=True)
class Row:
    """What a follower holds of a photo: a float32 vector, (D,), and its labels, as far as it keeps them."""

    embedding: NDArray[np.float32]
    labels: dict[str, str | None]


class Follower(Protocol):
    """A store that follows one encoder version's vectors; ``kind`` is ``online`` or ``milvus``."""

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...

    def fetch(self, ids: list[str]) -> dict[str, Row]:
        """What it holds of ``ids``, those that it has not left out."""

    def too_many(self) -> Iterator[str]:
        """Ids that it holds, and the version has no vector of."""


def of(dataset: str) -> str:
    """A condition for the rows of ``dataset``."""
    return f"dataset = {lake.quote(dataset)}"


def count(settings: Settings, table: str, where: str) -> int:
    return int(lake.rows(settings, f"SELECT count(*) AS n FROM {table} WHERE {where}")[0]["n"])


def versions(settings: Settings, dataset: str) -> list[Version]:
    """Every version that has a vector of ``dataset`` or serves it, by encoder and version."""
    followed = {each.encoder_version: each.encoder for each in feature_store.online(settings, dataset)}
    known = {row["encoder_version"]: row for row in lake.rows(settings, "SELECT * FROM encoders")}
    stored = lake.rows(
        settings,
        "SELECT encoder_version, max(encoder) AS encoder FROM embeddings "
        f"WHERE {of(dataset)} GROUP BY encoder_version ORDER BY 2, 1",
    )
    named = {row["encoder_version"]: row["encoder"] for row in stored}
    if (serves := facts.serving(settings, dataset)) and serves["encoder_version"] in known:
        named.setdefault(serves["encoder_version"], known[serves["encoder_version"]]["encoder"])
        followed.setdefault(serves["encoder_version"], serves["encoder"])
    return [
        Version(
            settings,
            dataset,
            known[version]["encoder"] if version in known else encoder,
            version,
            known[version]["dim"] if version in known else None,
            version in followed,
        )
        for version, encoder in named.items()
    ]


# Tables against tables


def check_catalog(settings: Settings, found: Differences, dataset: str) -> None:
    """The catalog, its labels and its quarantine; what serves is known and has vectors."""
    mine = of(dataset)
    _add(settings, found, "catalog.twice", "", _twice("catalog", "image_id", mine))
    said = (
        "SELECT image_id, last_value(product_id ORDER BY valid_from) AS product_id, "
        f"last_value(category ORDER BY valid_from) AS category FROM labels WHERE {mine} GROUP BY image_id"
    )
    same = "c.product_id = s.product_id AND (c.category IS NOT DISTINCT FROM s.category)"
    unsaid = (
        f"SELECT c.image_id FROM (SELECT image_id, product_id, category FROM catalog WHERE {mine}) c "
        f"LEFT ANTI JOIN ({said}) s ON c.image_id = s.image_id AND {same}"
    )
    _add(settings, found, "labels.missing", "", unsaid)
    both = (
        f"SELECT q.image_id FROM (SELECT image_id FROM quarantine WHERE {mine} AND stage = 'ingest') q "
        f"JOIN (SELECT image_id FROM catalog WHERE {mine}) c ON q.image_id = c.image_id"
    )
    _add(settings, found, "quarantine.in_catalog", "", both)
    left = (
        f"SELECT q.image_id FROM (SELECT image_id FROM quarantine WHERE {mine} AND stage = 'embed') q "
        f"LEFT ANTI JOIN (SELECT image_id FROM catalog WHERE {mine}) c ON q.image_id = c.image_id"
    )
    _add(settings, found, "quarantine.left", "", left)
    serves = facts.serving(settings, dataset)
    if serves is None:
        return
    version = lake.quote(serves["encoder_version"])
    if not lake.rows(settings, f"SELECT 1 FROM encoders WHERE encoder_version = {version}"):
        found.add("promotions.unknown", serves["encoder_version"], [], 1)
    if not facts.embedded(settings, EncodedSet.of(serves)):
        found.add("promotions.no_vectors", f"{serves['encoder']} {serves['encoder_version']}", [], 1)


def check_embeddings(settings: Settings, found: Differences, version: Version) -> None:
    """A version's rows against the catalog; one that no night keeps up may be behind it, but not beyond."""
    mine, where, name = of(version.dataset), version.where, version.name
    catalog = f"(SELECT image_id, content_sha256, {', '.join(LABELS)} FROM catalog WHERE {mine}) c"
    stored = f"(SELECT image_id, content_sha256, {', '.join(LABELS)} FROM embeddings WHERE {where}) e"
    refused = f"{mine} AND stage = 'embed' AND encoder = {lake.quote(version.encoder)}"
    refused = f"(SELECT image_id FROM quarantine WHERE {refused}) q"
    if version.dim is None:
        found.add("encoders.missing", name, [], 1)
    _add(settings, found, "embeddings.twice", name, _twice("embeddings", "image_id", where))
    _add(settings, found, "products.twice", name, _twice("product_embeddings", "product_id", where))
    both = "e.image_id = c.image_id"
    orphaned = f"SELECT e.image_id FROM {stored} LEFT ANTI JOIN {catalog} ON {both}"
    _add(settings, found, "embeddings.orphaned", name, orphaned)
    if not version.followed:
        return
    missing = f"SELECT c.image_id FROM {catalog} LEFT ANTI JOIN {stored} ON {both}"
    missing += f" LEFT ANTI JOIN {refused} ON c.image_id = q.image_id"
    _add(settings, found, "embeddings.missing", name, missing)
    embedded = f"SELECT q.image_id FROM {refused} JOIN {stored} ON q.image_id = e.image_id"
    _add(settings, found, "quarantine.embedded", name, embedded)
    joined = f"SELECT e.image_id FROM {stored} JOIN {catalog} ON {both} WHERE e.content_sha256"
    _add(settings, found, "embeddings.stale", name, f"{joined} <> c.content_sha256")
    other = " OR ".join(f"(e.{label} IS DISTINCT FROM c.{label})" for label in LABELS)
    _add(settings, found, "embeddings.relabelled", name, f"{joined} = c.content_sha256 AND ({other})")


def _twice(table: str, key: str, where: str) -> str:
    return f"SELECT {key} FROM {table} WHERE {where} GROUP BY {key} HAVING count(*) > 1"


def _add(settings: Settings, found: Differences, kind: str, name: str, sql: str) -> None:
    """Each row of ``sql``, whose first column are ids, is a difference."""
    for batch in lake.stream(settings, sql):
        found.add(kind, name, batch.column(0).slice(0, SHOWN).to_pylist(), batch.num_rows)


# Vectors, and who follows them


def check_vectors(settings: Settings, found: Differences, version: Version, followers: Sequence[Follower]) -> None:
    """Each vector is one of unit length, and every follower holds the same and no others."""
    compare_vectors(settings, found, version, followers)
    for follower in followers:
        for image_id in follower.too_many():
            found.add(f"{follower.kind}.too_many", follower.name, [image_id])


def compare_vectors(
    settings: Settings, found: Differences, version: Version, followers: Sequence[Follower], which: str = ""
) -> None:
    """Each vector is one of unit length, and every follower holds the same; ``which`` ends the SQL that asks."""
    columns = ", ".join(("image_id", *LABELS, "embedding"))
    for batch in lake.stream(settings, f"SELECT {columns} FROM embeddings WHERE {version.where} {which}"):
        for start in range(0, batch.num_rows, BATCH):
            part = batch.slice(start, BATCH)
            ids = part.column("image_id").to_pylist()
            vectors = _vectors(part.column("embedding"))
            bad = [i for i, vector in zip(ids, vectors, strict=True) if not _is_unit(vector, version.dim)]
            found.add("embeddings.bad_vector", version.name, bad)
            labels = part.select(list(LABELS)).to_pylist()
            for follower in followers:
                _compare(found, follower, ids, vectors, labels)


def _vectors(column: pa.Array) -> list[NDArray[np.float32]]:
    """Each row's floats, whatever their number."""
    if not len(column):
        return []
    ends = np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False))
    return np.split(column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False), ends[:-1])


def _is_unit(vector: NDArray[np.float32], dim: int | None) -> bool:
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return (dim is None or len(vector) == dim) and abs(length - 1) <= _NORM  # NaN is within of nothing


def _compare(
    found: Differences,
    follower: Follower,
    ids: list[str],
    vectors: list[NDArray[np.float32]],
    labels: list[dict[str, str | None]],
) -> None:
    held = follower.fetch(ids)
    found.add(f"{follower.kind}.missing", follower.name, [image_id for image_id in ids if image_id not in held])
    other = [
        image_id
        for image_id, vector, said in zip(ids, vectors, labels, strict=True)
        if (row := held.get(image_id)) and not (_equal(vector, row.embedding) and _says(row.labels, said))
    ]
    found.add(f"{follower.kind}.other", follower.name, other)


def _says(labels: dict[str, str | None], said: dict[str, str | None]) -> bool:
    return all((value or None) == (said[name] or None) for name, value in labels.items())  # Milvus has no null


def _equal(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return one.shape == other.shape and bool(np.all(np.abs(one - other) <= _SAME))


class OnlineStore:
    """Feast's rows of a version, of images or products. A store of keys cannot say which it holds: those are asked for
    that the data set ever had, which ``labels`` knows."""

    kind = "online"

    def __init__(self, version: Version, of: Kind = IMAGES) -> None:
        self._version, self._of = version, of
        self.name = version.name if of is IMAGES else f"{version.name} {of.name}"
        self._store = feature_store.open_store(version.settings)
        self._online = OnlineFeatures(version.settings, self._store)
        self.there = 0
        """Of those asked for, how many were there."""

    def fetch(self, ids: list[str]) -> dict[str, Row]:
        try:
            view = self._store.get_feature_view(self._of.view(self._version.encoder, self._version.version))
            answer = self._online.rows(view, ids, self._of)
        except (FeatureViewNotFoundException, sqlite3.OperationalError):  # never applied, or the file was lost
            return {}
        labels = [name for name in ("product_id", "category") if name in self._of.features]
        rows = {
            row[self._of.key]: Row(row["embedding"], {name: row[name] for name in labels})
            for row in answer
            if row["embedding"] is not None and row["encoder_version"] == self._version.version
        }
        self.there += len(rows)
        return rows

    def too_many(self) -> Iterator[str]:
        key, where = self._of.key, self._version.where
        gone = (
            f"SELECT DISTINCT l.{key} FROM labels l LEFT ANTI JOIN (SELECT {key} FROM {self._of.table.name} "
            f"WHERE {where}) e ON l.{key} = e.{key} WHERE l.{of(self._version.dataset)}"
        )
        for batch in lake.stream(self._version.settings, gone):
            ids = batch.column(0).to_pylist()
            for start in range(0, len(ids), BATCH):
                yield from self.fetch(ids[start : start + BATCH])


def check_online_products(settings: Settings, found: Differences, version: Version) -> None:
    """Feast holds each product's vector, and no others."""
    follower = OnlineStore(version, PRODUCTS)
    for batch in lake.stream(
        settings, f"SELECT product_id, category, embedding FROM product_embeddings WHERE {version.where}"
    ):
        for start in range(0, batch.num_rows, BATCH):
            part = batch.slice(start, BATCH)
            ids, labels = part.column("product_id").to_pylist(), part.select(["category"]).to_pylist()
            _compare(found, follower, ids, _vectors(part.column("embedding")), labels)
    for product_id in follower.too_many():
        found.add("online.too_many", follower.name, [product_id])


def check_service(settings: Settings, found: Differences, dataset: str) -> None:
    """Feast's serving services are of the version that the newest promotion says."""
    serves = facts.serving(settings, dataset)
    if serves is None:
        return
    store = feature_store.open_store(settings)
    for kind in KINDS:
        try:
            version = store.get_feature_service(kind.serving(dataset)).tags.get("encoder_version")
        except FeatureServiceNotFoundException:
            version = None
        if version != serves["encoder_version"]:
            found.add("online.service", kind.serving(dataset), [str(version)], 1)


# Products


def check_products(settings: Settings, found: Differences, version: Version) -> None:
    """Each product's vector is the mean of its images', and no other has one."""
    parts = count(settings, "embeddings", version.where) // PRODUCT_PART + 1
    bounds = ["", *(f"{part * 16**8 // parts:08x}" for part in range(1, parts)), "g"]
    for low, high in pairwise(bounds):
        within = lake.hashed_between("product_id", low, high)
        _compare_products(settings, found, version, f"{version.where} AND {within}")


def _compare_products(settings: Settings, found: Differences, version: Version, where: str) -> None:
    sums: dict[str, tuple[int, NDArray[np.float64]]] = {}
    for batch in lake.stream(settings, f"SELECT product_id, embedding FROM embeddings WHERE {where}"):
        for product, vector in zip(
            batch.column("product_id").to_pylist(), _vectors(batch.column("embedding")), strict=True
        ):
            n, total = sums.get(product, (0, np.zeros(len(vector))))
            if total.shape == vector.shape:  # one that is not is told as a bad vector
                total += vector
            sums[product] = n + 1, total
    wanted = {product for product, (_, total) in sums.items() if not np.linalg.norm(total) < 1e-9}
    for batch in lake.stream(settings, f"SELECT product_id, n_images, embedding FROM product_embeddings WHERE {where}"):
        names, counts = (batch.column(name).to_pylist() for name in ("product_id", "n_images"))
        for product, n, vector in zip(names, counts, _vectors(batch.column("embedding")), strict=True):
            if product not in sums:
                found.add("products.too_many", version.name, [product])
            elif n != sums[product][0] or not _cosine(vector, sums[product][1]) > _COSINE:
                found.add("products.other", version.name, [product])
            wanted.discard(product)
    found.add("products.missing", version.name, wanted)


def _cosine(one: NDArray[Any], other: NDArray[Any]) -> float:
    if one.shape != other.shape:
        return -1.0
    product = np.linalg.norm(one.astype(np.float64)) * np.linalg.norm(other)
    return float(one @ other / product) if product else -1.0
