"""Do catalog, embeddings, Feast's online store, Milvus and promotions agree? By ids, contents and versions."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from evaluation.vector_index import VectorIndex
from vitrine import feature_store, lake
from vitrine.settings import Settings

_BATCH = 500


def check(settings: Settings, dataset: str) -> dict[str, Any]:
    """Counts by store and a list of differences, each a sentence; empty where all agree.

    Every encoder version that goes online is held against the catalog, and each collection against its vectors.
    """
    where = f"WHERE dataset = {lake.quote(dataset)}"
    catalog = _pairs(settings, f"SELECT image_id, content_sha256 FROM catalog {where}")
    serves = lake.serving(settings, dataset)
    report: dict[str, Any] = {"dataset": dataset, "catalog": len(catalog), "differences": []}
    say = report["differences"].append
    versions = feature_store.online(settings, dataset)
    with VectorIndex(settings) as index:
        target = index.alias_target(dataset)
        if target != (serves["encoder_version"] if serves else None):
            say(f"Milvus serves {target}, promotions say {serves['encoder_version'] if serves else None}")
        for encoder, version in versions:
            name = f"{encoder} {version}"
            mine = f"{where} AND encoder_version = {lake.quote(version)}"
            stored = _pairs(settings, f"SELECT image_id, content_sha256 FROM embeddings {mine}")
            refused = set(
                _pairs(
                    settings,
                    f"SELECT image_id, reason FROM quarantine {where} AND stage = 'embed' "
                    f"AND encoder = {lake.quote(encoder)}",
                )
            )
            wanted = {image: sha for image, sha in catalog.items() if image not in refused}
            _compare(say, f"embeddings of {name} and the catalog", stored, wanted)
            held = dict.fromkeys(index.ids(dataset, version), "") if index.count(dataset, version) else {}
            _compare(say, f"Milvus and the embeddings of {name}", held, dict.fromkeys(stored, ""))
            report[name] = {"embeddings": len(stored), "milvus": len(held)}
            report[name]["online"] = _check_online(settings, say, dataset, encoder, version, set(stored))
    _check_service(settings, say, dataset, serves)
    return report


def _pairs(settings: Settings, sql: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for batch in lake.stream(settings, sql):
        found.update(zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True))
    return found


def _compare(say: Any, what: str, have: dict[str, str], want: dict[str, str]) -> None:
    missing, extra = want.keys() - have.keys(), have.keys() - want.keys()
    other = {key for key in want.keys() & have.keys() if want[key] != have[key]}
    for kind, keys in (("missing", missing), ("too many", extra), ("of other content", other)):
        if keys:
            say(f"{what}: {len(keys)} {kind}, e.g. {min(keys)!r}")


def _check_online(settings: Settings, say: Any, dataset: str, encoder: str, version: str, stored: set[str]) -> int:
    """Every image that the data set ever had is looked up: a store of keys cannot say which it holds."""
    store = feature_store.open_store(settings)
    view = feature_store.image_view(encoder, version)
    ever = f"SELECT DISTINCT image_id, '' AS nothing FROM labels WHERE dataset = {lake.quote(dataset)}"
    there: dict[str, str] = {}
    for ids in _batches(stored | _pairs(settings, ever).keys()):
        found = store.get_online_features(
            features=[f"{view}:product_id", f"{view}:encoder_version"],
            entity_rows=[{"image_id": image_id} for image_id in ids],
        ).to_dict()
        there |= {i: "" for i, product in zip(ids, found["product_id"], strict=True) if product is not None}
    _compare(say, f"Feast's online store and the embeddings of {encoder} {version}", there, dict.fromkeys(stored, ""))
    return len(there)


def _check_service(settings: Settings, say: Any, dataset: str, serves: dict[str, Any] | None) -> None:
    if not serves:
        return
    from feast.errors import FeatureServiceNotFoundException

    try:
        service = feature_store.open_store(settings).get_feature_service(feature_store.images_serving(dataset))
        serving = service.tags.get("encoder_version")
    except FeatureServiceNotFoundException:
        serving = None
    if serving != serves["encoder_version"]:
        say(f"Feast's service serves {serving}, promotions say {serves['encoder_version']}")


def _batches(items: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch
