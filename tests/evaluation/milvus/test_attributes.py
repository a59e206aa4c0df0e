"""Attributes in Milvus: a field that a search can filter by, followed like the other labels."""

from typing import Any

import numpy as np
import pytest
from pymilvus import DataType

from evaluation.milvus.collection import Collection
from evaluation.milvus.sync import SyncResult
from evaluation.milvus.vector_index import VectorIndex
from evaluation.promotion.milvus_alias import follow
from tests.support.filled_lake import D1, HOSTILE, V1, row, unit
from vitrine import lake
from vitrine.errors import UserError, VitrineError
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, PROMOTIONS

VALUES = ["red", 'it\'s "red"\\', *HOSTILE, "\t\x01", "überblau", " ", '" or key != "']
VECTORS = unit(len(VALUES))


def rows(values: list[str]) -> list[dict[str, Any]]:
    return [
        row(f"d/{at}", VECTORS[at]) | {"attributes": {"colour": value} if value else None, "category": value}
        for at, value in enumerate(values)
    ]


def old_create(self: Collection, dim: int, identity: str) -> None:
    """As versions before made a collection."""
    schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=64)
    for text in ("image_id", "product_id", "category", "split"):
        schema.add_field(text, DataType.VARCHAR, max_length=65_535)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=dim)
    how = {"consistency_level": "Strong", "properties": {"vitrine.table": identity}}
    self._client.create_collection(self.name, schema=schema, **how)


def test_a_search_finds_the_photos_of_a_value_alone(settings: Settings):
    lake.append(settings, EMBEDDINGS, rows(VALUES))
    with VectorIndex(settings) as milvus:
        milvus.sync(D1)
        for at, value in enumerate(VALUES):
            for label in ("colour", "category"):
                found, _ = milvus.search(D1, VECTORS[:1], 5, [(label, value)])
                assert found == [[f"d/{at}"]], (label, value)
        both = [("colour", "red"), ("category", "überblau")]
        assert milvus.search(D1, VECTORS[:1], 5, both)[0] == [[]]
        assert milvus.search(D1, VECTORS[:1], 5, [("size", "red")])[0] == [[]]
        with pytest.raises(UserError, match="bad label"):
            milvus.search(D1, VECTORS[:1], 5, [('x"] or key', "red")])
        assert milvus.rows(D1, ["d/1"])[0]["attributes"] == {"colour": VALUES[1]}


def test_a_collection_of_an_earlier_version_goes_on_until_it_is_made_anew(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    lake.append(settings, EMBEDDINGS, rows([""] * 3))
    with monkeypatch.context() as patch, VectorIndex(settings) as milvus:
        patch.setattr(Collection, "create", old_create)
        milvus.sync(D1)
    lake.append(settings, EMBEDDINGS, rows(VALUES)[3:5])
    promotion = {"dataset": "d", "promoted_at": lake.now(), "encoder": "e", "encoder_version": V1, "forced": False}
    promotion |= {"gates": "{}", "catalog_version": "c", "reason": None, "previous_version": None}
    lake.append(settings, PROMOTIONS, [{k: v for k, v in promotion.items() if k in PROMOTIONS.schema.names}])
    with VectorIndex(settings) as milvus:
        follow(settings, milvus, "d")
        until = lake.version(settings, EMBEDDINGS)
        assert milvus.sync(D1) == SyncResult(0, 0, until, until, 5)
        assert len(milvus.search(D1, VECTORS[:1], 9)[0][0]) == 5
        with pytest.raises(VitrineError, match="was made before collections held attributes: run `vitrine index --fr"):
            milvus.search(D1, VECTORS[:1], 5, [("colour", VALUES[3])])
        milvus.forget(D1)
        assert milvus.sync(D1).upserted == 5 and milvus.alias_target("d") is None
        follow(settings, milvus, "d")
        assert milvus.alias_target("d") == V1
        assert milvus.search(D1, np.array(VECTORS[:1]), 5, [("colour", VALUES[3])])[0] == [["d/3"]]
