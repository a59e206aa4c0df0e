"""A small home whose rows say what they should be: products of one photo, or more, with the vector of a seed."""

from datetime import timedelta
from typing import Any

import numpy as np
from deltalake import DeltaTable
from feast import FeatureStore

from feature_repo import definitions
from vitrine import feature_store, lake
from vitrine.online import sync
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, ENCODERS, PRODUCT_EMBEDDINGS, PROMOTIONS, Table

V1, V2 = "00000000000000aa", "00000000000000bb"
DIM = 8


def vector(seed: int) -> list[float]:
    values = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    return [float(value) for value in values / np.linalg.norm(values)]


def blank(table: Table, **own: Any) -> dict[str, Any]:
    """A row of ``table`` with something in every column."""
    fill = {"string": "", "double": 0.0, "bool": False, "map<string, string>": None}
    kinds = {field.name: str(field.type) for field in table.schema}
    row = {name: lake.now() if kind.startswith("timestamp") else fill.get(kind, 0) for name, kind in kinds.items()}
    return row | own


def register(settings: Settings, *versions: str) -> None:
    rows = [blank(ENCODERS, encoder_version=version, encoder="small", dim=DIM) for version in versions]
    lake.append(settings, ENCODERS, rows)


def add(settings: Settings, version: str, seeds: dict[str, int], days_ago: int = 0) -> None:
    """An image and a product a key, each product of one image, with the vector of its seed, written then."""
    moment = lake.now() - timedelta(days=days_ago)
    of = {"dataset": "d", "encoder": "small", "encoder_version": version, "category": "cup"}
    of |= {"event_timestamp": moment, "created_timestamp": moment}
    images = [{"image_id": f"{key}.jpg", "product_id": key, "embedding": vector(seed)} for key, seed in seeds.items()]
    products = [{"product_id": key, "embedding": vector(seed), "n_images": seed} for key, seed in seeds.items()]
    lake.append(settings, EMBEDDINGS, [blank(EMBEDDINGS, **of, **row) for row in images])
    lake.append(settings, PRODUCT_EMBEDDINGS, [blank(PRODUCT_EMBEDDINGS, **of, **row) for row in products])


def remove(settings: Settings, *keys: str) -> None:
    for key in keys:
        for table in (EMBEDDINGS, PRODUCT_EMBEDDINGS):
            DeltaTable(str(table.path(settings))).delete(f"product_id = {lake.quote(key)}")


def promote(settings: Settings, version: str) -> None:
    row = blank(PROMOTIONS, dataset="d", encoder="small", encoder_version=version)
    lake.append(settings, PROMOTIONS, [row])


def follow(settings: Settings, store: FeatureStore) -> tuple[int, int]:
    """As ``vitrine features``: how many rows were written and overwritten."""
    feature_store.apply(store, definitions.objects(settings))
    found = sync.sync_all(settings, store, "d")
    feature_store.apply(store, definitions.serving_services(settings))
    return found["upserted"], found["deleted"]
