"""Which of Milvus's collections `vitrine maintain` keeps."""

from datetime import timedelta
from typing import Any

import pytest

from evaluation.milvus.vector_index import VectorIndex
from evaluation.promotion.old_collections import drop_old
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import kept_bundles
from vitrine.setting_sections import MilvusSettings, NightlyDataset, NightlySettings
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, ENCODERS, PROMOTIONS, RUNS

SERVES, BEFORE, LONG_BEFORE, NIGHTLY, TRIED, FORGOTTEN = (digit * 16 for digit in "123456")


def version(settings: Settings, encoder_version: str) -> None:
    """One image, in the lake and in Milvus."""
    moment = lake.now()
    row = {"image_id": "d/a", "dataset": "d", "product_id": "d/p", "content_sha256": "0", "embedding": [1.0, 0.0]}
    row |= {"encoder": f"e{encoder_version[0]}", "encoder_version": encoder_version}
    lake.append(settings, EMBEDDINGS, [row | dict.fromkeys(("event_timestamp", "created_timestamp"), moment)])
    made = {"encoder_version": encoder_version, "encoder": row["encoder"], "state": "experiment", "backbone": "b"}
    made |= {"family": "supervised", "strategy": "pretrained", "dim": 2, "weights_uri": "hub", "licence": "MIT"}
    lake.append(settings, ENCODERS, [made | {"created_at": moment}])


def run(settings: Settings, encoder_version: str, days: float) -> None:
    facts = {"run_id": encoder_version, "verb": "evaluate", "dataset": "d", "encoder_version": encoder_version}
    facts |= {"state": "done", "seconds": 1.0, "peak_mib": 1.0, "figures": "{}"}
    lake.append(settings, RUNS, [facts | {"started_at": lake.now() - timedelta(days=days)}])


def test_what_serves_and_what_is_named_or_used_stays(settings: Settings) -> None:
    for encoder_version in (SERVES, BEFORE, LONG_BEFORE, NIGHTLY, TRIED, FORGOTTEN):
        version(settings, encoder_version)
    promotion: dict[str, Any] = {"dataset": "d", "encoder": "e", "catalog_version": "c", "gates": "{}", "forced": False}
    for encoder_version in (LONG_BEFORE, BEFORE, SERVES):
        lake.append(settings, PROMOTIONS, [promotion | {"encoder_version": encoder_version, "promoted_at": lake.now()}])
    run(settings, TRIED, 29)
    run(settings, FORGOTTEN, 31)
    hnsw = settings.model_copy(update={"milvus": MilvusSettings(index="HNSW")})
    with VectorIndex(settings) as milvus:
        for encoder_version in (BEFORE, LONG_BEFORE, NIGHTLY, TRIED, FORGOTTEN):
            milvus.sync(EncodedSet("d", "e", encoder_version))
    with VectorIndex(hnsw) as milvus:
        milvus.sync(EncodedSet("d", "e", SERVES), served=True)
        milvus.sync(EncodedSet("d", "e", BEFORE), served=True)
        milvus.point_alias(EncodedSet("d", "e", SERVES))
        milvus._client.create_collection("another__0123456789abcdef", dimension=2)

    nightly = NightlySettings(encoders=("e4",), datasets=(NightlyDataset(name="d", source="s"),))
    now = settings.model_copy(update={"nightly": nightly})  # and the index FLAT again
    for encoder_version in (SERVES, BEFORE, LONG_BEFORE):
        kept_bundles.folder(settings, encoder_version).mkdir(parents=True)
    dropped = [f"d__{BEFORE}__hnsw_16_200", f"d__{LONG_BEFORE}", f"d__{FORGOTTEN}"]
    assert drop_old(now) == {
        **{"collections_kept": 4, "collections_dropped": dropped},
        "bundles_dropped": [LONG_BEFORE],  # with its last collection
    }
    assert {path.name for path in kept_bundles.folder(settings, SERVES).parent.iterdir()} == {SERVES, BEFORE}
    with VectorIndex(now) as milvus:
        assert "another__0123456789abcdef" in milvus._client.list_collections()
        kept = [f"d__{SERVES}__hnsw_16_200", *(f"d__{kept}" for kept in (BEFORE, NIGHTLY, TRIED))]
        assert [name for name, *_ in milvus.collections()] == sorted(kept)
        assert milvus.alias_target("d") == SERVES


@pytest.mark.parametrize(("days", "kept"), [(0, 0), (40, 1)])
def test_how_long_is_a_setting(settings: Settings, days: int, kept: int) -> None:
    version(settings, TRIED)
    run(settings, TRIED, 31)
    with VectorIndex(settings) as milvus:
        milvus.sync(EncodedSet("d", "e", TRIED))
    now = settings.model_copy(update={"milvus": MilvusSettings(keep_days=days)})
    assert drop_old(now)["collections_kept"] == kept
