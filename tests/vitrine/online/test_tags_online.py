"""Tags online: a view for each label, services that name them, and rows that follow the lake by version."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from feature_repo import definitions
from vitrine import feature_store, lake
from vitrine.feast_parts import FeatureStore
from vitrine.online import sync
from vitrine.settings import Settings, load_settings
from vitrine.tables import CLASSIFIERS, PRODUCT_TAGS, TAGS, Table

V, MOMENT = "cccccccc33333333", datetime(2026, 3, 1, 2, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    return load_settings(tmp_path)


def tag(settings: Settings, label: str, tags: dict[str, str | None], table: Table = TAGS, later: int = 0) -> None:
    """The tags of ``label`` are these; None: abstained on."""
    key = table.key[0]
    rows = [
        {key: f"d/{name}", "label": label, "dataset": "d", "value": value or "hat", "probability": 0.75}
        | {"runner_up": "mug", "abstained": value is None, "reason": None if value else "unsure"}
        | {"classifier_version": V, "encoder_version": "e", "tagged_at": MOMENT + timedelta(minutes=later)}
        | ({"content_sha256": "0"} if table is TAGS else {"images_md5": "0"})
        for name, value in tags.items()
    ]
    made = pa.Table.from_pylist(rows, schema=table.schema)
    lake.write(settings, table, made, replacing={"dataset": "d", "label": label})


def classify(settings: Settings, label: str) -> None:
    row = {"dataset": "d", "label": label, "promoted_at": MOMENT, "classifier_version": V, "encoder": "small"}
    row |= {"encoder_version": "e", "kind": "ridge", "training_set": "t", "threshold": 0.5, "gate": "{}"}
    lake.append(settings, CLASSIFIERS, [row])


def bring(settings: Settings) -> tuple[FeatureStore, dict[str, Any]]:
    store = feature_store.open_store(settings)
    feature_store.apply(store, definitions.objects(settings))
    figures = sync.sync_all(settings, store, "d")
    feature_store.apply(store, definitions.serving_services(settings))
    return store, figures


def asked(store: FeatureStore, service: str, key: str, names: list[str]) -> dict[str, list[Any]]:
    rows = [{key: f"d/{name}"} for name in names]
    return store.get_online_features(store.get_feature_service(service), rows).to_dict()


def test_services_answer_and_follow(settings: Settings) -> None:
    for label in ("category", "product_id"):
        classify(settings, label)
    tag(settings, "category", {"a": "mug", "b": None, "c": "hat"})
    tag(settings, "product_id", {"a": "d/p"})
    tag(settings, "category", {"p": "mug"}, PRODUCT_TAGS)
    store, figures = bring(settings)
    assert (figures["upserted"], figures["deleted"], len(figures["views"])) == (5, 0, 3)
    said = asked(store, "d_image_tags_serving", "image_id", ["a", "b", "nothing"])
    assert said["category_tag"] == ["mug", "hat", None] and said["product_id_tag"] == ["d/p", None, None]
    assert said["category_tag_abstained"] == [False, True, None] and said["category_tag_reason"][1] == "unsure"
    assert said["category_tag_probability"] == [0.75, 0.75, None]
    assert said["category_tag_classifier_version"] == [V, V, None]
    assert asked(store, "d_product_tags_serving", "product_id", ["p"])["category_tag"] == ["mug"]
    assert sync.lag(settings, "d") is None
    assert sync.sync_all(settings, store, "d")["upserted"] == 0

    tag(settings, "category", {"a": "cap", "c": "hat"}, later=1)  # one is another, one left
    assert sync.lag(settings, "d") == "Feast has not the newest rows of image_tags_d_category"
    store, figures = bring(settings)
    assert figures["deleted"] == 1
    assert asked(store, "d_image_tags_serving", "image_id", ["a", "b", "c"])["category_tag"] == ["cap", None, "hat"]


def test_tables_of_an_earlier_version_have_no_change_feed_and_are_followed_all_the_same(settings: Settings) -> None:
    lake.create_tables(settings)
    deltalake.DeltaTable.create(TAGS.uri(settings), TAGS.schema, mode="overwrite", partition_by=["dataset"])
    classify(settings, "category")
    lake.append(settings, definitions.LABELS, [said("a"), said("b")])
    tag(settings, "category", {"a": "mug", "b": "hat"})
    store, _ = bring(settings)
    tag(settings, "category", {"a": "cap"}, later=1)
    store, figures = bring(settings)
    assert figures["deleted"] >= 1
    assert asked(store, "d_image_tags_serving", "image_id", ["a", "b"])["category_tag"] == ["cap", None]


def said(name: str) -> dict[str, Any]:
    return {"image_id": f"d/{name}", "dataset": "d", "product_id": "d/p", "category": None, "valid_from": MOMENT}
