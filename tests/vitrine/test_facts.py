"""Is anything to be done? Asked of the tables without a JVM."""

from typing import Any

import pyarrow as pa
import pytest

from tests.support.filled_lake import D1, V1, V2
from vitrine import facts, lake
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, ENCODERS, LABELS, PRODUCT_EMBEDDINGS, Table

PHOTOS: list[dict[str, Any]] = [
    {
        "image_id": f"d/{number}",
        "dataset": "d",
        "product_id": f"d/p{number // 2}",
        "category": "mugs" if number % 2 else None,
        "split": "train",
        "content_sha256": str(number),
        "attributes": {"colour": "red"} if number else None,
    }
    for number in range(6)
]


def put(settings: Settings, table: Table, rows: list[dict[str, Any]]) -> None:
    """The whole table."""
    moment, same = lake.now(), {"uri": "/x.jpg", "size": 1, "width": 1, "height": 1, "encoder": "e", "embedding": [1.0]}
    times = dict.fromkeys(("modified_at", "content_seen_at", "updated_at", "valid_from"), moment)
    times |= dict.fromkeys(("event_timestamp", "created_timestamp"), moment)
    made = pa.Table.from_pylist([{**same, **times, **row} for row in rows], schema=table.schema)
    lake.write(settings, table, made, replacing={"dataset": "d"})


def put_vectors(settings: Settings, rows: list[dict[str, Any]]) -> None:
    put(settings, EMBEDDINGS, [{"encoder_version": V1, **row} for row in rows])


def put_products(settings: Settings) -> None:
    """As an embed leaves them."""
    sql = f"SELECT product_id, {facts._PRODUCT_MD5} AS images_md5 FROM embeddings WHERE {D1.where} GROUP BY product_id"
    same = {"dataset": "d", "encoder_version": V1, "n_images": 2}
    put(settings, PRODUCT_EMBEDDINGS, [{**same, **row} for row in lake.rows(settings, sql)])


@pytest.fixture
def done(settings: Settings) -> Settings:
    """A catalog of six photos of three products that has all its vectors."""
    about = {"encoder": "e", "encoder_version": V1, "state": "experiment", "backbone": "b", "family": "f", "dim": 1}
    about |= {"strategy": "pretrained", "weights_uri": "", "licence": "MIT", "created_at": lake.now()}
    lake.append(settings, ENCODERS, [about])
    put(settings, CATALOG, PHOTOS)
    put(settings, LABELS, PHOTOS)
    put_vectors(settings, PHOTOS)
    put_products(settings)
    return settings


def changed(at: int, **values: Any) -> list[dict[str, Any]]:
    return [row | values if number == at else row for number, row in enumerate(PHOTOS)]


def test_nothing_is_to_be_done(done: Settings):
    assert facts.settled(done, D1) == 6
    put_vectors(done, [*PHOTOS, *({**row, "encoder_version": V2} for row in PHOTOS[:2])])
    assert facts.settled(done, D1) == 6, "another version lacks photos"


@pytest.mark.parametrize(
    "values",
    [
        {"content_sha256": "another"},
        {"product_id": "d/p2"},
        {"category": "cups"},
        {"category": ""},
        {"category": None},
        {"split": None},
        {"attributes": {"colour": "blue"}},
        {"attributes": None},
    ],
)
def test_any_change_of_a_photo_is_to_be_done(done: Settings, values: dict[str, Any]):
    put(done, CATALOG, changed(1, **values))
    assert facts.settled(done, D1) is None


def test_photos_that_came_or_left_are_to_be_done(done: Settings):
    put(done, CATALOG, PHOTOS[:5])
    assert facts.settled(done, D1) is None
    put(done, CATALOG, [*PHOTOS, PHOTOS[0] | {"image_id": "d/new"}])
    assert facts.settled(done, D1) is None


def test_missing_photos_are_counted_range_by_range(done: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(facts, "_AT_ONCE", 1)  # photos
    assert facts.missing(done, D1) == 0 and facts.settled(done, D1) == len(PHOTOS)
    come = [{**PHOTOS[0], "image_id": f"d/{number}"} for number in range(20, 23)]
    put(done, CATALOG, [*changed(1, content_sha256="0" * 64), *come])
    assert facts.missing(done, D1) == 4
    put(done, CATALOG, PHOTOS[1:])  # one left, and its vector stays
    assert facts.missing(done, D1) == 0 and facts.settled(done, D1) is None


def test_another_versions_vector_of_a_photo_that_left_is_to_be_done(done: Settings):
    put_vectors(done, [*PHOTOS, PHOTOS[0] | {"image_id": "d/left", "encoder_version": V2}])
    assert facts.settled(done, D1) is None


def test_products_of_other_photos_are_to_be_done(done: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(facts, "_JOINED", 2)
    assert facts.products_settled(done, D1), "asked part by part"
    rows = lake.rows(done, "SELECT * FROM product_embeddings ORDER BY product_id")
    for wrong in (rows[:2], [rows[0] | {"images_md5": "another"}, *rows[1:]], [*rows, rows[0] | {"product_id": "d/x"}]):
        put(done, PRODUCT_EMBEDDINGS, wrong)
        assert not facts.products_settled(done, D1) and facts.settled(done, D1) is None


def test_labels_that_are_not_the_last(done: Settings):
    assert not facts.lacking_labels(done, "d")
    put(done, LABELS, PHOTOS[1:])
    assert facts.lacking_labels(done, "d")
    older = [row | {"valid_from": lake.now().replace(year=2000)} for row in changed(1, category="cups")]
    put(done, LABELS, [*PHOTOS, older[1]])
    assert not facts.lacking_labels(done, "d"), "they changed, and are the catalog's again"
    put(done, LABELS, [older[1], *PHOTOS[2:], PHOTOS[0]])
    assert facts.lacking_labels(done, "d")
