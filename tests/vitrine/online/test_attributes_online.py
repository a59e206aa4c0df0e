"""Attributes online: string features of images and products, beside a view of before that has none."""

from typing import Any

import numpy as np
import pyarrow as pa

from feature_repo import definitions
from tests.support.served_home import DIM, V1, add, follow, promote, register, vector
from vitrine import feature_store, lake
from vitrine.feature_store import IMAGES, PRODUCTS
from vitrine.online.feature_server import arrow_stream
from vitrine.online.lookup import OnlineFeatures
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, LABELS, PRODUCT_EMBEDDINGS, Table


def say(settings: Settings, table: Table, **attributes: str) -> None:
    """As an ingest and an embed leave it: every row has these attributes."""
    rows = lake.rows(settings, f"SELECT * FROM {table.name}")
    for row in rows:
        row["attributes"] = attributes
    lake.write(settings, table, pa.Table.from_pylist(rows, schema=table.schema), replacing={"dataset": "d"})


def remember(settings: Settings, **attributes: str) -> None:
    row: dict[str, Any] = {"image_id": "d/a.jpg", "dataset": "d", "product_id": "d/a", "valid_from": lake.now()}
    lake.append(settings, LABELS, [row | {"attributes": attributes}])


def test_attributes_are_features_of_images_and_products(settings: Settings):
    register(settings, V1)
    add(settings, V1, {"d/a": 1, "d/b": 2})
    promote(settings, V1)
    store = feature_store.open_store(settings)
    assert follow(settings, store) == (4, 0)
    online = OnlineFeatures(settings, store)
    before = online.lookup("d", ["d/a.jpg"])[0]
    assert before.keys() == {"image_id", *IMAGES.features}

    remember(settings, colour="red", n_images="x")  # what products' rows have is no attribute of theirs
    assert {field.name for field in definitions.encoder_view(settings, IMAGES, row_of(settings)).features} == {
        *IMAGES.features,
        "colour",
        "n_images",
    }
    feature_store.apply(store, definitions.objects(settings))
    online.refresh()
    unsaid = online.lookup("d", ["d/a.jpg"])[0]
    assert unsaid["colour"] is None and np.array_equal(unsaid["embedding"], before["embedding"]), "not stored yet"
    for table in (EMBEDDINGS, PRODUCT_EMBEDDINGS):
        say(settings, table, colour='it\'s "rød"')
    assert follow(settings, store)[0] == 4
    online.refresh()
    image, unknown = online.lookup("d", ["d/b.jpg", "d/nobody.jpg"])
    assert image["colour"] == 'it\'s "rød"' and np.allclose(image["embedding"], vector(2))
    assert set(unknown.values()) == {"d/nobody.jpg", None}
    (product,) = online.lookup("d", ["d/b"], PRODUCTS)
    assert (product["colour"], product["n_images"]) == ('it\'s "rød"', 2)
    table = pa.ipc.open_stream(arrow_stream(PRODUCTS, [product])).read_all()
    assert table.column("colour").to_pylist() == ['it\'s "rød"'] and len(table.column("embedding")[0]) == DIM


def row_of(settings: Settings) -> dict[str, Any]:
    (row,) = lake.rows(settings, "SELECT * FROM encoders")
    return row
