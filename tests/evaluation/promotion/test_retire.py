"""An encoder leaves, and what is needed stays."""

from typing import Any

import pytest

from evaluation.milvus.vector_index import VectorIndex
from evaluation.promotion import retire as module
from evaluation.promotion.promote import promote
from evaluation.promotion.retire import bring_back, retire
from feature_repo import definitions
from vitrine import facts, feature_store, lake
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError
from vitrine.online.sync import sync_all
from vitrine.setting_sections import NightlyDataset, NightlySettings
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, ENCODERS, PRODUCT_EMBEDDINGS, PROMOTIONS

SERVES, OLD, HEAD = (digit * 16 for digit in "123")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A data set that ``serves`` serves; ``old`` beside it, and ``head``, which computes from ``old``."""
    nightly = NightlySettings(encoders=("serves", "old"), datasets=(NightlyDataset(name="d", source="s"),))
    settings = settings.model_copy(update={"nightly": nightly})
    now = lake.now()
    photo = {"image_id": "d/a", "dataset": "d", "product_id": "d/p", "uri": "u", "content_sha256": "0", "size": 1}
    photo |= {"width": 1, "height": 1, **dict.fromkeys(("modified_at", "content_seen_at", "updated_at"), now)}
    lake.append(settings, CATALOG, [photo])
    for name, version in (("serves", SERVES), ("old", OLD), ("head", HEAD)):
        row = {"dataset": "d", "product_id": "d/p", "encoder": name, "encoder_version": version}
        row |= {"embedding": [1.0, 0.0], **dict.fromkeys(("event_timestamp", "created_timestamp"), now)}
        lake.append(settings, EMBEDDINGS, [row | {"image_id": "d/a", "content_sha256": "0"}])
        lake.append(settings, PRODUCT_EMBEDDINGS, [row | {"n_images": 1, "images_md5": "0"}])
        made = {"encoder_version": version, "encoder": name, "state": "nightly", "backbone": "b", "dim": 2}
        made |= {"family": "supervised", "strategy": "pretrained", "weights_uri": "hub", "licence": "MIT"}
        made |= {"created_at": now, "base_version": OLD if name == "head" else None}
        lake.append(settings, ENCODERS, [made])
    promotion: dict[str, Any] = {"dataset": "d", "encoder": "serves", "encoder_version": SERVES, "promoted_at": now}
    lake.append(settings, PROMOTIONS, [promotion | {"catalog_version": "c", "gates": "{}", "forced": False}])
    return settings


def online(settings: Settings) -> list[str]:
    return [each.encoder for each in facts.belong_online(settings, "d")]


def test_what_serves_and_what_another_computes_from_is_refused(settings: Settings) -> None:
    for name in ("serves", SERVES):
        with pytest.raises(UserError, match="serves 'd'"):
            retire(settings, name)
    with pytest.raises(UserError, match="'head' computes from it"):
        retire(settings, "old")
    with pytest.raises(UserError, match="unknown encoder 'odl': choose one of head, old, serves"):
        retire(settings, "odl")
    assert {row["state"] for row in lake.rows(settings, "SELECT state FROM encoders")} == {"nightly"}


def test_a_retired_encoder_is_out_everywhere_and_a_cut_retirement_is_finished(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = feature_store.open_store(settings)
    feature_store.apply(store, definitions.objects(settings))
    with VectorIndex(settings) as milvus:
        for version in (SERVES, OLD):
            milvus.sync(EncodedSet("d", "e", version))
    sync_all(settings, store, "d")
    assert online(settings) == ["old", "serves"]
    retire(settings, "head")

    with monkeypatch.context() as killed:
        killed.setattr(module, "_drop_collections", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            retire(settings, "old")
    done = retire(settings, "old")
    assert done["collections_dropped"] == [f"d__{OLD}"] and done["still_nightly"] == ["old"]
    assert f"images_old_{OLD}" in done["feast_removed"]
    assert online(settings) == ["serves"]
    names = [view.name for view in feature_store.open_store(settings).list_feature_views()]
    assert f"images_serves_{SERVES}" in names and not any(OLD in name for name in names)
    assert not any(OLD in item.name for item in definitions.objects(settings))
    assert facts.embedded(settings, EncodedSet("d", "", OLD)) == 1, "its rows stay"
    with pytest.raises(UserError, match="is retired"):
        promote(settings, EncodedSet("d", "old", OLD), force=True, reason="a test")

    again = retire(settings, "old", delete_rows=True)
    assert (again["collections_dropped"], again["feast_removed"], again["rows_deleted"]) == ([], [], 1)
    left = "SELECT DISTINCT encoder FROM {} ORDER BY encoder"
    for table in ("embeddings", "product_embeddings"):
        assert [row["encoder"] for row in lake.rows(settings, left.format(table))] == ["head", "serves"]
    assert retire(settings, "old", delete_rows=True)["rows_deleted"] == 0

    bring_back(settings, "old")
    bring_back(settings, "head")
    states = lake.rows(settings, "SELECT encoder, state FROM encoders ORDER BY encoder")
    assert [row["state"] for row in states] == ["experiment", "nightly", "nightly"]
