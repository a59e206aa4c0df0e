"""Do catalog, embeddings, Feast's online store, Milvus and promotions agree? By ids, contents and versions.

Ids are compared part by part, in ranges of their SHA-256: memory holds ``PART`` of them, whatever the catalog's size.
"""

from dataclasses import dataclass
from typing import Any

from evaluation.milvus_collection import PART, key_ranges
from evaluation.vector_index import VectorIndex
from vitrine import feature_store, lake
from vitrine.settings import Settings

BATCH = 500  # ids looked up at once

Hashes = tuple[str, str]
"""A range [low, high) of SHA-256, hexadecimal."""


class _Differences:
    """How many images differ, by what is compared and how; with one example each."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self._found: dict[tuple[str, str], tuple[int, str]] = {}

    def compare(self, what: str, have: dict[str, str], want: dict[str, str]) -> None:
        missing, extra = want.keys() - have.keys(), have.keys() - want.keys()
        other = {key for key in want.keys() & have.keys() if want[key] != have[key]}
        for kind, keys in (("missing", missing), ("too many", extra), ("of other content", other)):
            if keys:
                count, example = self._found.get((what, kind), (0, min(keys)))
                self._found[what, kind] = (count + len(keys), min(example, min(keys)))

    def told(self) -> list[str]:
        counted = (f"{what}: {n} {kind}, e.g. {example!r}" for (what, kind), (n, example) in self._found.items())
        return [*self.sentences, *counted]


def check(settings: Settings, dataset: str) -> dict[str, Any]:
    """Counts by store and a list of differences, each a sentence; empty where all agree.

    Every encoder version that goes online is held against the catalog, and each collection against its vectors.
    """
    serves = lake.serving(settings, dataset)
    found = _Differences()
    report: dict[str, Any] = {"dataset": dataset, "catalog": _count(settings, "catalog", _of(dataset))}
    serving = serves["encoder_version"] if serves else None
    with VectorIndex(settings) as milvus:
        _check_alias(found, milvus, dataset, serving)
        for encoder, version in feature_store.online(settings, dataset):
            of = _Version(settings, dataset, encoder, version, version == serving)
            _check_versions_in_milvus(found, milvus, of)
            parts = key_ranges(max(report["catalog"], _count(settings, "embeddings", of.where)), PART)
            counts = [_check_part(found, milvus, of, hashes) for hashes in parts]
            report[of.name] = {store: sum(part[store] for part in counts) for store in counts[0]}
    _check_service(settings, found, dataset, serving)
    return report | {"differences": found.told()}


@dataclass(frozen=True)
class _Version:
    """An encoder version of a data set."""

    settings: Settings
    dataset: str
    encoder: str
    version: str
    serves: bool

    @property
    def name(self) -> str:
        return f"{self.encoder} {self.version}"

    @property
    def where(self) -> str:
        return f"{_of(self.dataset)} AND encoder_version = {lake.quote(self.version)}"

    def copies(self) -> dict[str, bool]:
        """What to call each of its collections, and whether it is the served one."""
        served = {"Milvus, which serves,": True} if self.serves and self.settings.milvus.index != "FLAT" else {}
        return {"Milvus": False} | served


def _check_alias(found: _Differences, milvus: VectorIndex, dataset: str, serving: str | None) -> None:
    target = milvus.alias_target(dataset)
    if target != serving:
        found.sentences.append(f"Milvus serves {target}, promotions say {serving}")
    elif serving:
        name, wanted = milvus.alias_collection(dataset), milvus.collection(dataset, serving, served=True).name
        if name != wanted:
            found.sentences.append(f"Milvus serves {name}, the settings ask for {wanted}: run `vitrine index`")


def _check_versions_in_milvus(found: _Differences, milvus: VectorIndex, of: _Version) -> None:
    for what, served in of.copies().items():
        behind = milvus.behind(of.dataset, of.version, served)
        if behind is None:
            found.sentences.append(
                f"{what} notes no version of {of.name} that changes lead on from: run `vitrine index`"
            )
        elif behind:
            found.sentences.append(f"{what} lacks {behind} changes of {of.name}: run `vitrine index`")


def _check_part(found: _Differences, milvus: VectorIndex, of: _Version, hashes: Hashes) -> dict[str, int]:
    """The images whose id's SHA-256 is in the range; how many each store has."""
    settings = of.settings
    catalog = _pairs(settings, "image_id, content_sha256", "catalog", _of(of.dataset), hashes)
    stored = _pairs(settings, "image_id, content_sha256", "embeddings", of.where, hashes)
    failed = f"{_of(of.dataset)} AND stage = 'embed' AND encoder = {lake.quote(of.encoder)}"
    refused = _pairs(settings, "image_id, reason", "quarantine", failed, hashes)
    wanted = {image: sha for image, sha in catalog.items() if image not in refused}
    found.compare(f"embeddings of {of.name} and the catalog", stored, wanted)
    ids = dict.fromkeys(stored, "")
    counts = {"embeddings": len(stored)}
    for what, served in of.copies().items():
        held = dict.fromkeys(milvus.ids(of.dataset, of.version, served, *hashes), "")
        found.compare(f"{what} and the embeddings of {of.name}", held, ids)
        counts["milvus_serving" if served else "milvus"] = len(held)
    ever = _pairs(settings, "DISTINCT image_id, '' AS nothing", "labels", _of(of.dataset), hashes)
    online = _online(of, sorted(stored.keys() | ever.keys()))
    found.compare(f"Feast's online store and the embeddings of {of.name}", online, ids)
    return counts | {"online": len(online)}


def _online(of: _Version, ids: list[str]) -> dict[str, str]:
    """Those of ``ids`` that Feast has: a store of keys cannot say which it holds, so the images that the data set ever
    had are looked up."""
    store = feature_store.open_store(of.settings)
    view = feature_store.image_view(of.encoder, of.version)
    there: dict[str, str] = {}
    for start in range(0, len(ids), BATCH):
        asked = ids[start : start + BATCH]
        answer = store.get_online_features(
            features=[f"{view}:product_id", f"{view}:encoder_version"],
            entity_rows=[{"image_id": image_id} for image_id in asked],
        ).to_dict()
        there |= {i: "" for i, product in zip(asked, answer["product_id"], strict=True) if product is not None}
    return there


def _check_service(settings: Settings, found: _Differences, dataset: str, serving: str | None) -> None:
    if not serving:
        return
    from feast.errors import FeatureServiceNotFoundException

    try:
        service = feature_store.open_store(settings).get_feature_service(feature_store.images_serving(dataset))
        online = service.tags.get("encoder_version")
    except FeatureServiceNotFoundException:
        online = None
    if online != serving:
        found.sentences.append(f"Feast's service serves {online}, promotions say {serving}")


def _of(dataset: str) -> str:
    return f"dataset = {lake.quote(dataset)}"


def _count(settings: Settings, table: str, where: str) -> int:
    return int(lake.rows(settings, f"SELECT count(*) AS n FROM {table} WHERE {where}")[0]["n"])


def _pairs(settings: Settings, columns: str, table: str, where: str, hashes: Hashes) -> dict[str, str]:
    within = lake.hashed_between("image_id", *hashes)
    pairs: dict[str, str] = {}
    for batch in lake.stream(settings, f"SELECT {columns} FROM {table} WHERE {where} AND {within}"):
        pairs.update(zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True))
    return pairs
