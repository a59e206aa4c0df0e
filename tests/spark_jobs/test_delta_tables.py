"""Spark's commits to the Delta tables."""

from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from deltalake.exceptions import CommitFailedError

from spark_jobs import delta_tables, small_merges
from spark_jobs.delta_tables import merge_or_append, merge_table, spark_schema
from tests.support.table_sizes import IN_BOTH_SIZES
from vitrine import lake
from vitrine.change_feed import ChangeFeed
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _row(number: int, value: float) -> dict[str, Any]:
    names = {"image_id": f"shop/{number}", "product_id": f"shop/{number}", "encoder_version": "v", "encoder": "e"}
    times = {"event_timestamp": NOW, "created_timestamp": NOW}
    return {**names, **times, "dataset": "shop", "content_sha256": str(number), "embedding": [value, 0.0]}


def test_a_change_of_a_large_table_marks_rows_and_copies_no_file(
    settings: Settings, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [_row(number, 0.0) for number in range(50)]
    lake.write(settings, EMBEDDINGS, pa.Table.from_pylist(rows, EMBEDDINGS.schema))
    path, since = EMBEDDINGS.path(settings), lake.version(settings, EMBEDDINGS)
    (file,) = path.glob("*/*.parquet")
    monkeypatch.setattr(delta_tables, "_LARGE", lake.size(settings, EMBEDDINGS).bytes)
    schema = spark_schema(EMBEDDINGS.schema)
    for number, gone in ((3, False), (4, True)):
        change = spark.createDataFrame([tuple(_row(number, 1.0).get(name) for name in EMBEDDINGS.schema.names)], schema)
        source = change.selectExpr("*", f"{str(gone).lower()} AS gone")
        merge_table(spark, settings, EMBEDDINGS, source, "t.encoder_version = 'v'")
    added = lake.query(settings, "SELECT image_id, embedding FROM embeddings ORDER BY image_id").to_pylist()
    now = {row["image_id"]: row["embedding"] for row in added}
    assert len(now) == 49 and "shop/4" not in now
    assert now["shop/3"] == [1.0, 0.0] and now["shop/5"] == [0.0, 0.0]
    fed = [
        (row["image_id"], row["_change_type"])
        for batch in lake.changes(settings, EMBEDDINGS, since, lake.version(settings, EMBEDDINGS), "true", ["image_id"])
        for row in batch.to_pylist()
    ]
    assert sorted(fed) == [
        ("shop/3", "update_postimage"),
        ("shop/3", "update_preimage"),
        ("shop/4", "delete"),
    ]
    sizes = sorted(each.stat().st_size for each in path.glob("*/*.parquet"))
    assert sizes[-1] == file.stat().st_size and sizes[-2] < sizes[-1], "the file with the other rows was not copied"


@IN_BOTH_SIZES
@pytest.mark.usefixtures("taken_as_large")
def test_rows_are_appended_where_there_are_none_yet_and_merged_later(
    settings: Settings, spark: Any, request: pytest.FixtureRequest
) -> None:
    schema = spark_schema(EMBEDDINGS.schema.append(pa.field("gone", pa.bool_())))

    def bring(*rows: tuple[int, float, bool]) -> list[tuple[str, float]]:
        wanted = [_row(number, value) | {"gone": gone} for number, value, gone in rows]
        source = spark.createDataFrame([tuple(row.get(name) for name in schema.names) for row in wanted], schema)
        lake.create_tables(settings)
        merge_or_append(spark, settings, EMBEDDINGS, source, "t.encoder_version = 'v'", rows=len(rows))
        stored = lake.rows(settings, "SELECT image_id, embedding FROM embeddings ORDER BY image_id")
        return [(row["image_id"], row["embedding"][0]) for row in stored]

    def last_operation() -> str:
        return str(lake.delta(settings, EMBEDDINGS).history(1)[0]["operation"])

    assert bring((1, 1.0, False), (2, 1.0, False), (3, 1.0, True)) == [("shop/1", 1.0), ("shop/2", 1.0)]
    assert last_operation() == "WRITE"
    assert bring((1, 2.0, False), (2, 2.0, True), (3, 2.0, False)) == [("shop/1", 2.0), ("shop/3", 2.0)]
    assert last_operation() == ("MERGE" if "large" in request.node.callspec.id else "WRITE")


@IN_BOTH_SIZES
@pytest.mark.usefixtures("taken_as_large")
def test_a_merge_writes_the_same_and_tells_followers_the_same_with_and_without_spark(
    settings: Settings, spark: Any
) -> None:
    lake.append(settings, EMBEDDINGS, [_row(number, 0.0) for number in range(5)])
    others = {"encoder_version": "w", "image_id": "shop/1"}
    lake.append(settings, EMBEDDINGS, [_row(1, 7.0) | others, _row(9, 7.0) | others | {"image_id": 'it\'s \\ "9"'}])
    since = lake.version(settings, EMBEDDINGS)
    wanted = [
        _row(0, 1.0) | {"encoder": "new", "product_id": "shop/new", "gone": False},
        _row(1, 0.0) | {"embedding": None, "attributes": {"colour": "it's \\ red"}, "gone": False},  # keeps its vector
        {"image_id": "shop/2", "encoder_version": "v", "gone": True},  # leaves, and need say no more
        _row(3, 3.0) | {"gone": False},
        _row(6, 6.0) | {"gone": False},  # is new
        _row(7, 0.0) | {"embedding": None, "gone": False},  # was never there, and has no vector
        _row(8, 0.0) | {"gone": True},  # leaves, and was never there
        {"image_id": 'it\'s \\ "9"', "encoder_version": "w", "gone": True},
    ]
    columns = EMBEDDINGS.schema.append(pa.field("gone", pa.bool_()))
    schema = pa.schema([field.with_nullable(True) for field in columns])
    source = spark.createDataFrame(pa.Table.from_pylist(wanted, schema))
    within = "t.dataset = 'shop' AND t.encoder_version IN ('v', 'w')"
    merge_table(spark, settings, EMBEDDINGS, source, within, ("encoder",), ("embedding",), rows=len(wanted))
    found = lake.rows(settings, "SELECT * FROM embeddings ORDER BY encoder_version, image_id")
    assert [(row["image_id"], row["encoder"], row["embedding"][0]) for row in found] == [
        *(("shop/0", "e", 1.0), ("shop/1", "e", 0.0), ("shop/3", "e", 3.0), ("shop/4", "e", 0.0), ("shop/6", "e", 6.0)),
        ("shop/1", "e", 7.0),
    ]
    assert found[0]["product_id"] == "shop/new" and dict(found[1]["attributes"]) == {"colour": "it's \\ red"}
    feed = ChangeFeed(settings, EMBEDDINGS, "encoder_version = 'v'", "image_id")
    until = lake.version(settings, EMBEDDINGS)
    changed = {key: written for key, (_, written) in feed.last_changes(since, until).items()}
    assert changed == {"shop/0": True, "shop/1": True, "shop/2": False, "shop/3": True, "shop/6": True}
    assert until == since + 1, "one commit"
    merge_table(spark, settings, EMBEDDINGS, source.filter("gone"), within, rows=3)  # all of them are gone by now
    assert lake.query(settings, "SELECT * FROM embeddings").num_rows == 6


def test_a_small_merge_sees_a_writer_that_came_between(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.append(settings, EMBEDDINGS, [_row(number, 0.0) for number in range(3)])
    schema = pa.schema([*EMBEDDINGS.schema, pa.field("gone", pa.bool_())])
    source = pa.Table.from_pylist([_row(1, 1.0) | {"gone": False}], schema)
    write, between = lake.write, [_row(1, 5.0)]

    def late(*arguments: Any) -> None:
        if between:
            write(settings, EMBEDDINGS, pa.Table.from_pylist([between.pop()], EMBEDDINGS.schema), "image_id = 'shop/1'")
        write(*arguments)

    monkeypatch.setattr(lake, "write", late)
    commit = partial(small_merges.commit, settings, EMBEDDINGS, source, "t.encoder_version = 'v'")
    with pytest.raises(CommitFailedError):
        commit()
    between.append(_row(1, 6.0))
    delta_tables.retried("the merge", commit)
    (row,) = lake.rows(settings, "SELECT embedding FROM embeddings WHERE image_id = 'shop/1'")
    assert row["embedding"] == [1.0, 0.0]
