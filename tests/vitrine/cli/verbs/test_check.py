"""``vitrine check``: each thing damaged once in one small home is named, and derived again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from evaluation.consistency.check import state
from evaluation.consistency.differences import NAMES
from evaluation.milvus.collection import row_key
from evaluation.milvus.vector_index import VectorIndex
from tests.support.small_shop import CONFIG
from vitrine import facts, feature_store, lake
from vitrine.encoded_set import EncodedSet
from vitrine.errors import VitrineError
from vitrine.settings import Settings, load_settings
from vitrine.tables import (
    CATALOG,
    EMBEDDINGS,
    ENCODERS,
    LABELS,
    PRODUCT_EMBEDDINGS,
    PROMOTIONS,
    QUARANTINE,
    TAGS,
    Table,
)

LATER = {
    *("milvus.alias", "online.service", "quarantine.in_catalog", "promotions.no_vectors", "photos.lost"),
    *("tags.twice", "tags.orphaned", "tags.unknown"),
}
"""Of all kinds, those that are not among the tables' damage."""


def run(*arguments: str) -> None:
    from vitrine.cli.main import app

    app(list(arguments), standalone_mode=False)


@pytest.fixture
def home(spark: object, tmp_path: Path, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A data set of 18 photos, embedded, served and followed."""
    draw(6, 3)
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    run("ingest", "photos", "--dataset", "shop")
    run("embed", "--encoder", "small")
    run("promote", "small", "--dataset", "shop", "--force", "--reason", "test")
    return load_settings(tmp_path)


class Damage:
    """Rows of the tables, changed behind everybody's back."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ids = [row["image_id"] for row in lake.rows(settings, "SELECT image_id FROM catalog ORDER BY image_id")]
        found = lake.rows(settings, "SELECT DISTINCT product_id FROM catalog ORDER BY product_id")
        self.products = [row["product_id"] for row in found]
        self.version = lake.rows(settings, "SELECT encoder_version FROM encoders")[0]["encoder_version"]

    def row(self, table: Table, key: str, value: str) -> dict[str, Any]:
        return lake.rows(self.settings, f"SELECT * FROM {table.name} WHERE {key} = {lake.quote(value)}")[0]

    def delete(self, table: Table, key: str, value: str) -> None:
        DeltaTable(str(table.path(self.settings))).delete(f"{key} = {lake.quote(value)}")

    def add(self, table: Table, row: dict[str, Any], **other: Any) -> None:
        lake.append(self.settings, table, [row | other])

    def change(self, table: Table, key: str, value: str, **other: Any) -> None:
        row = self.row(table, key, value)
        self.delete(table, key, value)
        self.add(table, row, **other)

    def tables(self) -> None:
        ids, products = self.ids, self.products
        self.add(CATALOG, self.row(CATALOG, "image_id", ids[0]))
        self.delete(LABELS, "image_id", ids[1])
        self.delete(EMBEDDINGS, "image_id", ids[2])
        self.add(EMBEDDINGS, self.row(EMBEDDINGS, "image_id", ids[3]), image_id="shop/ghost")
        self.change(EMBEDDINGS, "image_id", ids[4], content_sha256="0" * 64)
        self.change(EMBEDDINGS, "image_id", ids[5], split="test")
        self.add(EMBEDDINGS, self.row(EMBEDDINGS, "image_id", ids[6]))
        doubled = [2 * x for x in self.row(EMBEDDINGS, "image_id", ids[7])["embedding"]]
        self.change(EMBEDDINGS, "image_id", ids[7], embedding=doubled)
        self.delete(ENCODERS, "encoder_version", self.version)
        self.delete(PRODUCT_EMBEDDINGS, "product_id", products[3])
        made = self.row(PRODUCT_EMBEDDINGS, "product_id", products[4])
        self.add(PRODUCT_EMBEDDINGS, made, product_id="shop/ghost")
        self.add(PRODUCT_EMBEDDINGS, made)
        self.change(PRODUCT_EMBEDDINGS, "product_id", products[5], n_images=7)
        bad = {"dataset": "shop", "stage": "embed", "encoder": "small", "uri": "x", "code": "x", "reason": "x"}
        bad |= dict.fromkeys(("first_seen", "last_seen"), lake.now())
        self.add(QUARANTINE, bad, image_id=ids[8])
        self.add(QUARANTINE, bad, image_id="shop/gone")

    def followers(self) -> None:
        """One row missing and one otherwise in each; too many is what the tables do not have any more."""
        import pandas as pd

        vector = self.row(EMBEDDINGS, "image_id", self.ids[9])["embedding"]
        shop = EncodedSet("shop", "small", self.version)
        with VectorIndex(self.settings) as milvus:
            collection = milvus.collection(shop)
            (row,) = milvus.rows(shop, [self.ids[10]])
            collection.upsert(pa.RecordBatch.from_pylist([row | {"embedding": vector[::-1]}]))
            milvus._client.delete(collection.name, ids=[row_key(self.ids[12])])
            milvus.drop_alias("shop")
        store = feature_store.open_store(self.settings)
        view = feature_store.IMAGES.view("small", self.version)
        times = dict.fromkeys(("event_timestamp", "created_timestamp"), lake.now())
        said = {"image_id": self.ids[13], "product_id": "shop/x", "category": None, "encoder_version": self.version}
        gone = dict.fromkeys(("product_id", "category", "embedding"))
        gone |= {"image_id": self.ids[14], "encoder_version": self.version}
        store.write_to_online_store(view, pd.DataFrame([times | said | {"embedding": vector}, times | gone]))
        store.registry.delete_feature_service(feature_store.IMAGES.serving("shop"), store.project)


def names(found: dict[str, Any]) -> set[str]:
    return {difference["name"] for difference in found["differences"]}


def test_what_agrees_has_no_differences_and_what_does_not_is_named_and_repaired(home: Settings):
    assert state(home, "shop")["differences"] == []
    damage = Damage(home)
    damage.followers()
    before = names(state(home, "shop"))
    assert before == {
        *("milvus.missing", "milvus.other", "milvus.alias", "online.missing", "online.other", "online.service"),
    }
    run("check", "--repair", "--json")
    assert state(home, "shop")["differences"] == []

    damage.tables()
    found = state(home, "shop")
    by_name = {difference["name"]: difference for difference in found["differences"]}
    assert NAMES.keys() - by_name.keys() == LATER
    assert by_name["embeddings.missing"]["ids"] == [damage.ids[2]]
    assert by_name["embeddings.orphaned"]["ids"] == ["shop/ghost"]
    assert by_name["embeddings.twice"]["count"] == 1
    with pytest.raises(VitrineError, match=r"shop: .*embeddings\.missing.*vitrine check --repair"):
        run("check")
    run("check", "--repair")
    assert state(home, "shop")["differences"] == []
    assert len(lake.rows(home, "SELECT * FROM catalog")) == len(damage.ids)

    bad = {"dataset": "shop", "stage": "ingest", "encoder": "", "uri": "x", "code": "x", "reason": "x"}
    bad |= dict.fromkeys(("first_seen", "last_seen"), lake.now())
    damage.add(QUARANTINE, bad, image_id=damage.ids[0])
    damage.add(PROMOTIONS, facts.serving(home, "shop") or {}, encoder_version="f" * 16, promoted_at=lake.now())
    damage.change(CATALOG, "image_id", damage.ids[1], uri="https://shop.example/1.jpg")
    said = {"label": "category", "dataset": "shop", "value": "x", "probability": 1.0, "runner_up": "y"}
    said |= {"abstained": False, "classifier_version": "0" * 16, "encoder_version": damage.version}
    said |= {"content_sha256": "", "tagged_at": lake.now()}
    for image_id in (damage.ids[2], damage.ids[2], "shop/ghost"):
        damage.add(TAGS, said, image_id=image_id)
    noticed = {"quarantine.in_catalog", "promotions.unknown", "promotions.no_vectors", "photos.lost"}
    noticed |= {"tags.twice", "tags.orphaned", "tags.unknown"}
    found = state(home, "shop")
    assert names(found) >= noticed
    by_name = {difference["name"]: difference for difference in found["differences"]}
    assert by_name["tags.twice"]["ids"] == [damage.ids[2]] and by_name["tags.orphaned"]["ids"] == ["shop/ghost"]
    assert by_name["tags.unknown"]["count"] == 3
