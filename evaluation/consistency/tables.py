"""Do the tables agree with each other? The catalog is the truth about photos, ``embeddings`` about vectors.

Tables are compared in SQL, and vectors pass once, in batches: memory does not grow with the catalog.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from evaluation.consistency.differences import SHOWN, Differences
from vitrine import facts, lake
from vitrine.encoded_set import EncodedSet
from vitrine.lake import matches
from vitrine.settings import Settings
from vitrine.tables import CATALOG, CLASSIFIERS, EMBEDDINGS, ENCODERS, PRODUCT_EMBEDDINGS, QUARANTINE, TAGS, Table
from vitrine.vectors import ragged

PRODUCT_PART = 40_000
"""Photos whose products' means are held at once."""
_COSINE = 0.9999  # of a mean that another library summed up
_DIFFERENCE_OF_STATE = {
    "missing": "embeddings.missing",
    "stale": "embeddings.stale",
    "relabelled": "embeddings.relabelled",
    "left over": "embeddings.orphaned",
}


@dataclass(frozen=True)
class StoredVersion:
    """An encoder version that has vectors of a data set, or serves it."""

    encoded: EncodedSet
    dim: int | None
    """Of its vectors; None where ``encoders`` has no such version."""
    followed: bool
    """Does it belong online and in Milvus, and is it kept up every night?"""

    @property
    def name(self) -> str:
        return f"{self.encoded.encoder} {self.encoded.encoder_version}"


def versions(settings: Settings, dataset: str) -> list[StoredVersion]:
    """Every version that has a vector of ``dataset`` or serves it, by encoder and version."""
    followed = {each.encoder_version for each in facts.belong_online(settings, dataset)}
    known = {row["encoder_version"]: row for row in lake.rows(settings, f"SELECT * FROM {ENCODERS.name}")}
    stored = lake.rows(
        settings,
        f"SELECT encoder_version, max(encoder) AS encoder FROM {EMBEDDINGS.name} "
        f"WHERE {matches(dataset=dataset)} GROUP BY encoder_version ORDER BY 2, 1",
    )
    names = {row["encoder_version"]: row["encoder"] for row in stored}
    serves = facts.serving_set(settings, dataset)
    if serves and serves.encoder_version in known:
        names.setdefault(serves.encoder_version, serves.encoder)
        followed.add(serves.encoder_version)
    rows = {version: known.get(version, {"encoder": name}) for version, name in names.items()}
    return [
        StoredVersion(EncodedSet(dataset, row["encoder"], version), row.get("dim"), version in followed)
        for version, row in rows.items()
    ]


def check_catalog(settings: Settings, differences: Differences, dataset: str) -> None:
    """The catalog, its labels and its quarantine; what serves is known and has vectors."""
    here = matches(dataset=dataset)
    _add(settings, differences, "catalog.twice", "", _twice(CATALOG, "image_id", here))
    for part in facts.unlabelled(settings, dataset):
        _add(settings, differences, "labels.missing", "", part)
    photos = f"(SELECT image_id FROM {CATALOG.name} WHERE {here}) c ON q.image_id = c.image_id"
    wrongly_refused = ("quarantine.in_catalog", "ingest", "JOIN"), ("quarantine.left", "embed", "LEFT ANTI JOIN")
    for name, stage, join in wrongly_refused:
        refused = f"SELECT image_id FROM {QUARANTINE.name} WHERE {matches(dataset=dataset, stage=stage)}"
        _add(settings, differences, name, "", f"SELECT q.image_id FROM ({refused}) q {join} {photos}")
    serves = facts.serving_set(settings, dataset)
    if serves is None:
        return
    if facts.find_encoder(settings, serves.encoder_version) is None:
        differences.add("promotions.unknown", serves.encoder_version, [], 1)
    if not facts.embedded(settings, serves):
        differences.add("promotions.no_vectors", f"{serves.encoder} {serves.encoder_version}", [], 1)


def check_tags(settings: Settings, differences: Differences, dataset: str) -> None:
    """Tags are of photos that are there, once each, and by a classifier that was let through."""
    here = matches(dataset=dataset)
    tags = f"(SELECT * FROM {TAGS.name} WHERE {here}) t"
    twice = f"SELECT image_id FROM {TAGS.name} WHERE {here} GROUP BY image_id, label HAVING count(*) > 1"
    photos = f"(SELECT image_id FROM {CATALOG.name} WHERE {here}) c ON c.image_id = t.image_id"
    known = f"(SELECT DISTINCT classifier_version FROM {CLASSIFIERS.name} WHERE {here}) k"
    _add(settings, differences, "tags.twice", "", twice)
    _add(settings, differences, "tags.orphaned", "", f"SELECT t.image_id FROM {tags} LEFT ANTI JOIN {photos}")
    _add(
        settings,
        differences,
        "tags.unknown",
        "",
        f"SELECT t.image_id FROM {tags} LEFT ANTI JOIN {known} ON k.classifier_version = t.classifier_version",
    )


def check_embeddings(settings: Settings, differences: Differences, version: StoredVersion) -> None:
    """A version's rows against the catalog; one that no night keeps up may be behind it, but not beyond."""
    where, of = version.encoded.where, version.name
    if version.dim is None:
        differences.add("encoders.missing", of, [], 1)
    _add(settings, differences, "embeddings.twice", of, _twice(EMBEDDINGS, "image_id", where))
    _add(settings, differences, "products.twice", of, _twice(PRODUCT_EMBEDDINGS, "product_id", where))
    noticed = f"SELECT * FROM ({facts.photo_states(version.encoded)}) WHERE state <> 'current' OR refused"
    for batch in lake.stream(settings, noticed):
        for photo in batch.to_pylist():
            state, refused = photo["state"], photo["refused"]
            wanted = version.followed and not (state == "missing" and refused)
            if state == "left over" or (wanted and state != "current"):
                differences.add(_DIFFERENCE_OF_STATE[state], of, [photo["image_id"]])
            if version.followed and refused and state != "missing":
                differences.add("quarantine.embedded", of, [photo["image_id"]])


def _twice(table: Table, key: str, where: str) -> str:
    return f"SELECT {key} FROM {table.name} WHERE {where} GROUP BY {key} HAVING count(*) > 1"


def _add(settings: Settings, differences: Differences, name: str, of: str, sql: str) -> None:
    """Each row of ``sql``, whose first column are ids, is a difference."""
    for batch in lake.stream(settings, sql):
        differences.add(name, of, batch.column(0).slice(0, SHOWN).to_pylist(), batch.num_rows)


# ---- products ----


def check_products(settings: Settings, differences: Differences, version: StoredVersion) -> None:
    """Each product's vector is the mean of its images', and no other has one."""
    for low, high in lake.key_ranges(facts.embedded(settings, version.encoded), PRODUCT_PART):
        where = f"{version.encoded.where} AND {lake.hashed_between('product_id', low, high)}"
        _compare_products(settings, differences, version.name, where)


def _compare_products(settings: Settings, differences: Differences, of: str, where: str) -> None:
    sums: dict[str, tuple[int, NDArray[np.float64]]] = {}
    for batch in lake.stream(settings, f"SELECT product_id, embedding FROM {EMBEDDINGS.name} WHERE {where}"):
        for product, vector in zip(batch.column("product_id").to_pylist(), _vectors(batch), strict=True):
            count, total = sums.get(product, (0, np.zeros(len(vector))))
            if total.shape == vector.shape:  # one of another length is told as a bad vector
                total += vector
            sums[product] = count + 1, total
    lacking = {product for product, (_, total) in sums.items() if not np.linalg.norm(total) < 1e-9}
    columns = f"SELECT product_id, n_images, embedding FROM {PRODUCT_EMBEDDINGS.name}"
    for batch in lake.stream(settings, f"{columns} WHERE {where}"):
        names, counts = (batch.column(name).to_pylist() for name in ("product_id", "n_images"))
        for product, count, vector in zip(names, counts, _vectors(batch), strict=True):
            if product not in sums:
                differences.add("products.too_many", of, [product])
            elif count != sums[product][0] or not _cosine(vector, sums[product][1]) > _COSINE:
                differences.add("products.other", of, [product])
            lacking.discard(product)
    differences.add("products.missing", of, lacking)


def _vectors(batch: pa.RecordBatch) -> list[NDArray[np.float32]]:
    return ragged(batch.column("embedding"))


def _cosine(one: NDArray[Any], other: NDArray[Any]) -> float:
    if one.shape != other.shape:
        return -1.0
    product = np.linalg.norm(one.astype(np.float64)) * np.linalg.norm(other)
    return float(one @ other / product) if product else -1.0
