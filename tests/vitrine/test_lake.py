"""vitrine.lake: the Delta tables without a JVM."""

import json
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from vitrine import facts, lake
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, ENCODERS, METRICS, PROMOTIONS, RUNS, TABLES, Table

HOSTILE = ["d/it's", 'd/"q"', "d/line\nbreak", "d/back\\slash", "d/ünï💡", "d/'; DROP TABLE catalog --", "d/%s{x}"]


def photo(image_id: str, **other: Any) -> dict[str, Any]:
    row = {
        "image_id": image_id,
        "dataset": "d",
        "product_id": "d/p",
        "category": None,
        "split": None,
        "uri": "/x.jpg",
        "size": 1,
        "modified_at": lake.now(),
        "content_sha256": "0",
        "width": 1,
        "height": 1,
        "content_seen_at": lake.now(),
        "updated_at": lake.now(),
    }
    return row | other


def version_of(settings: Settings, photos: list[dict[str, Any]]) -> str:
    lake.write(settings, CATALOG, pa.Table.from_pylist(photos, schema=CATALOG.schema), replacing={"dataset": "d"})
    return facts.catalog_version(settings, "d")


def test_every_table_is_made_once_with_its_key_and_feed(settings: Settings):
    lake.create_tables(settings)
    first = {name: lake.identity(settings, table) for name, table in TABLES.items()}
    lake.create_tables(settings)
    for name, table in TABLES.items():
        stored = DeltaTable(str(table.path(settings)))
        assert str(stored.metadata().id) == first[name] and stored.version() == 0
        assert set(table.key) <= set(table.schema.names), name
        assert set(stored.metadata().partition_columns) == set(table.partition_by)
        assert [field.name for field in stored.schema().fields] == table.schema.names
    for table in (CATALOG, EMBEDDINGS):
        configuration = DeltaTable(str(table.path(settings))).metadata().configuration
        assert configuration["delta.enableChangeDataFeed"] == "true"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_comes_back_through_sql(settings: Settings, text: str):
    lake.append(settings, CATALOG, [photo(text), photo("d/other")])
    found = lake.rows(settings, f"SELECT image_id FROM catalog WHERE image_id = {lake.quote(text)}")
    assert found == [{"image_id": text}]


def test_writing_replaces_its_own_rows_alone_in_one_commit(settings: Settings):
    lake.append(settings, CATALOG, [photo("d/1"), photo("e/1", dataset="e")])
    lake.write(
        settings, CATALOG, pa.Table.from_pylist([photo("d/2")], schema=CATALOG.schema), replacing={"dataset": "d"}
    )
    assert lake.version(settings, CATALOG) == 2
    assert lake.rows(settings, "SELECT image_id FROM catalog ORDER BY image_id") == [
        {"image_id": "d/2"},
        {"image_id": "e/1"},
    ]
    old = lake.query(settings, "SELECT image_id FROM catalog", {"catalog": 1})
    assert sorted(old["image_id"].to_pylist()) == ["d/1", "e/1"]
    assert facts.datasets(settings) == ["d", "e"]


def test_a_null_where_none_may_be_is_refused(settings: Settings):
    with pytest.raises(Exception, match=r"(?i)null"):
        lake.append(settings, CATALOG, [photo("d/1", product_id=None)])
    assert lake.rows(settings, "SELECT * FROM catalog") == []


def test_nothing_found_is_no_error(settings: Settings):
    assert lake.rows(settings, "SELECT * FROM catalog") == []
    assert lake.query(settings, "SELECT image_id, size FROM catalog").num_rows == 0
    assert facts.datasets(settings) == []
    assert facts.serving(settings, "d") is None
    assert facts.embedded(settings, EncodedSet("d", "", "0")) == 0
    with pytest.raises(UserError, match=r"unknown encoder version 'v9'.*none yet"):
        facts.encoder_row(settings, "v9")


def test_types_come_back_as_every_library_takes_them(settings: Settings):
    row = {
        **{name: "x" for name in EMBEDDINGS.schema.names if EMBEDDINGS.schema.field(name).type == pa.string()},
        "embedding": [0.6, 0.8],
        "event_timestamp": lake.now(),
        "created_timestamp": lake.now(),
    }
    lake.append(settings, EMBEDDINGS, [row])
    found = lake.query(settings, "SELECT * FROM embeddings")
    assert {name: found.schema.field(name).type for name in EMBEDDINGS.schema.names} == {
        name: EMBEDDINGS.schema.field(name).type for name in EMBEDDINGS.schema.names
    }
    assert found.to_pylist()[0]["event_timestamp"] == row["event_timestamp"]


def test_the_change_feed_says_what_changed_since(settings: Settings):
    lake.append(settings, CATALOG, [photo("d/1"), photo("d/2"), photo("e/1", dataset="e")])
    DeltaTable(str(CATALOG.path(settings))).update(updates={"size": "5"}, predicate="image_id = 'd/1'")
    DeltaTable(str(CATALOG.path(settings))).delete("image_id = 'd/2' OR image_id = 'e/1'")

    def feed(since: int, until: int) -> list[tuple[str, str, int]]:
        batches = lake.changes(settings, CATALOG, since, until, "dataset = 'd'", ["image_id", "size"])
        found = [row for batch in batches for row in batch.to_pylist()]
        return sorted((row["_change_type"], row["image_id"], row["_commit_version"]) for row in found)

    assert feed(1, 3) == [("delete", "d/2", 3), ("update_postimage", "d/1", 2), ("update_preimage", "d/1", 2)]
    assert feed(0, 1) == [("insert", "d/1", 1), ("insert", "d/2", 1)]
    assert feed(3, 3) == feed(4, 3) == []


def test_the_newest_promotion_serves(settings: Settings):
    def promotion(dataset: str, version: str) -> dict[str, Any]:
        blank: dict[str, Any] = dict.fromkeys(PROMOTIONS.schema.names, "")
        return blank | {
            "dataset": dataset,
            "promoted_at": lake.now(),
            "encoder_version": version,
            "forced": False,
            "previous_version": None,
            "reason": None,
        }

    for dataset, version in (("d", "1"), ("e", "2"), ("d", "3"), ("d", "1")):
        lake.append(settings, PROMOTIONS, [promotion(dataset, version)])
    assert [facts.serving(settings, name)["encoder_version"] for name in ("d", "e")] == ["1", "2"]  # type: ignore[index]


def test_the_catalog_version_moves_only_with_what_a_figure_is_made_of(settings: Settings):
    photos = [photo(text, content_sha256=str(number)) for number, text in enumerate(HOSTILE)]
    first = version_of(settings, photos)
    assert first == version_of(settings, photos[::-1])
    lake.append(settings, CATALOG, [photo("e/1", dataset="e")])
    assert first == facts.catalog_version(settings, "d")
    clocks = {"updated_at": lake.now(), "modified_at": lake.now(), "uri": "/moved.jpg", "size": 99, "width": 7}
    assert first == version_of(settings, [row | clocks for row in photos])
    others = [
        [photos[0] | {name: "other"}, *photos[1:]] for name in ("product_id", "category", "split", "content_sha256")
    ]
    others += [photos[1:], [], [*photos, photo("d/new")]]
    swapped = [photos[0] | {"content_sha256": "1"}, photos[1] | {"content_sha256": "0"}, *photos[2:]]
    found = [version_of(settings, rows) for rows in (*others, swapped)]
    assert len({first, *found}) == len(found) + 1 and all(len(version) == 16 for version in found)


@pytest.mark.parametrize("table", [ENCODERS, METRICS, RUNS], ids=lambda table: table.name)
def test_a_version_reads_back(settings: Settings, table: Table):
    lake.create_tables(settings)
    assert lake.version(settings, table) == 0


def test_a_table_of_an_older_schema_gains_its_new_columns_by_being_written_to(settings: Settings):
    old = pa.schema([field for field in METRICS.schema if field.name not in ("low", "high", "input_version")])
    figure = dict.fromkeys(old.names, "x") | {"seed": 0, "value": 0.5, "computed_at": lake.now()}
    figure |= dict.fromkeys(("queries", "queries_left_out", "index_size"), 1)
    path = str(METRICS.path(settings))
    write_deltalake(path, pa.Table.from_pylist([figure], schema=old), partition_by=["dataset"])
    figure |= dict.fromkeys(("low", "high", "input_version"))  # which whoever reads sees without values
    assert lake.rows(settings, "SELECT * FROM metrics") == [figure]
    new = figure | {"metric": "y", "low": 0.4, "high": 0.6, "input_version": "v"}
    lake.append(settings, METRICS, [new])
    found = lake.rows(settings, "SELECT * FROM metrics ORDER BY metric")
    assert found == [figure, new]
    changed = new | {"high": 0.7}
    lake.write(settings, METRICS, pa.Table.from_pylist([changed], schema=METRICS.schema), replacing={"metric": "y"})
    assert lake.rows(settings, "SELECT * FROM metrics ORDER BY metric")[1] == changed
    grown = [any("metaData" in entry for entry in _log(settings, version)) for version in (1, 2)]
    assert grown == [True, False], "the schema is written once"


def _log(settings: Settings, version: int) -> list[dict[str, Any]]:
    path = METRICS.path(settings) / "_delta_log" / f"{version:020d}.json"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_column_that_may_be_added_is_read_where_it_is_lacking(settings: Settings):
    for table in TABLES.values():
        new = [field.name for field in table.schema if field.nullable]
        if not new:
            continue
        old = pa.schema([field for field in table.schema if not field.nullable])
        write_deltalake(str(table.path(settings)), old.empty_table(), partition_by=list(table.partition_by))
        found = lake.query(settings, f"SELECT {', '.join(new)} FROM {table.name}")
        assert [found.schema.field(name).type for name in new] == [table.schema.field(name).type for name in new]
