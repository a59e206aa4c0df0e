"""Labels that an answer of ``vitrine serve`` has to have: as requests say them, and as searches obey them."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from evaluation.milvus.more_like_this import more_like_this
from evaluation.milvus.vector_index import VectorIndex
from evaluation.promotion.milvus_alias import follow as point
from tests.support.served_home import V1, add, follow, promote, register
from vitrine import feature_store, lake
from vitrine.errors import UserError
from vitrine.online.feature_server import make_app
from vitrine.online.lookup import OnlineFeatures
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, LABELS, PRODUCT_EMBEDDINGS


@pytest.fixture
def home(settings: Settings) -> Settings:
    """Six products of one photo each, every other one red."""
    register(settings, V1)
    for number in range(6):
        colour = {"colour": "it's red" if number % 2 else "blue"}
        add(settings, V1, {f"d/{number}": number + 1})
        key = f"product_id = 'd/{number}'"
        for table in (EMBEDDINGS, PRODUCT_EMBEDDINGS):
            rows = [
                row | {"attributes": colour} for row in lake.rows(settings, f"SELECT * FROM {table.name} WHERE {key}")
            ]
            lake.delta(settings, table).delete(key)
            lake.append(settings, table, rows)
        moment = {"image_id": f"d/{number}.jpg", "dataset": "d", "product_id": f"d/{number}", "valid_from": lake.now()}
        lake.append(settings, LABELS, [moment | {"attributes": colour}])
    promote(settings, V1)
    with VectorIndex(settings) as milvus:
        point(settings, milvus, "d")
    follow(settings, feature_store.open_store(settings))
    return settings


def test_similar_products_of_a_label_alone(home: Settings):
    online = OnlineFeatures(home)

    def similar(*where: tuple[str, str]) -> set[str]:
        found = more_like_this(home, online, "d", "d/1", 5, where)["similar"]
        assert all(row["attributes"].keys() == {"colour"} for row in found)
        return {row["product_id"] for row in found}

    assert similar() == {f"d/{number}" for number in (0, 2, 3, 4, 5)}
    assert similar(("colour", "it's red")) == {"d/3", "d/5"}
    assert similar(("colour", "it's red"), ("category", "cup")) == {"d/3", "d/5"}
    assert similar(("product_id", "d/4"), ("colour", "it's red")) == set()
    with pytest.raises(
        UserError, match="unknown label to search by 'color': choose one of category, colour, product_id"
    ):
        similar(("color", "red"))


def test_requests_say_labels(home: Settings):
    def asked(*arguments: Any) -> dict[str, Any]:
        return {"where": arguments[-1]}

    with TestClient(make_app(home, asked, asked), base_url="http://localhost") as client:
        where = {"where": ["colour=it's red", "category=a=b"]}
        expected = {"where": [["colour", "it's red"], ["category", "a=b"]]}
        assert client.get("/datasets/d/products/d%2F1/similar", params=where).json() == expected
        assert client.get("/datasets/d/products/d%2F1/similar").json() == {"where": []}
        photo = client.post("/datasets/d/search", params=where, content=b"a photo")
        assert photo.json() == expected
        for bad in ("colour", "=red", 'x"] or key=1'):
            assert client.post("/datasets/d/search", params={"where": bad}, content=b"x").status_code == 422, bad
