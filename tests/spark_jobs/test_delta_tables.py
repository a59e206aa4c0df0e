"""Spark's commits to the Delta tables."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from spark_jobs import delta_tables
from spark_jobs.delta_tables import merge_or_append, merge_table, spark_schema
from vitrine import lake
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
    monkeypatch.setattr(delta_tables, "_LARGE", lake.size(settings, EMBEDDINGS)[0])
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


def test_rows_are_appended_where_there_are_none_yet_and_merged_later(settings: Settings, spark: Any) -> None:
    schema = spark_schema(EMBEDDINGS.schema.append(pa.field("gone", pa.bool_())))

    def bring(*rows: tuple[int, float, bool]) -> list[tuple[str, float]]:
        wanted = [_row(number, value) | {"gone": gone} for number, value, gone in rows]
        source = spark.createDataFrame([tuple(row.get(name) for name in schema.names) for row in wanted], schema)
        lake.create_tables(settings)
        merge_or_append(spark, settings, EMBEDDINGS, source, "t.encoder_version = 'v'")
        stored = lake.rows(settings, "SELECT image_id, embedding FROM embeddings ORDER BY image_id")
        return [(row["image_id"], row["embedding"][0]) for row in stored]

    def last_operation() -> str:
        return str(lake.delta(settings, EMBEDDINGS).history(1)[0]["operation"])

    assert bring((1, 1.0, False), (2, 1.0, False), (3, 1.0, True)) == [("shop/1", 1.0), ("shop/2", 1.0)]
    assert last_operation() == "WRITE"
    assert bring((1, 2.0, False), (2, 2.0, True), (3, 2.0, False)) == [("shop/1", 2.0), ("shop/3", 2.0)]
    assert last_operation() == "MERGE"
