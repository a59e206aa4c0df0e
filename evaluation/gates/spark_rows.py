"""Rows that a gate asks about, made by Spark."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vitrine import lake
from vitrine.settings import Settings
from vitrine.tables import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

COPIES = "count(*) OVER (PARTITION BY image_id) AS copies"
"""How many rows have this row's image_id: counted once, where the join has them together already."""


@contextmanager
def spark_rows(spark: "SparkSession", settings: Settings, sql: str, *tables: Table) -> Iterator["DataFrame"]:
    """The rows of ``sql``, in which ``{NAME}`` stands for each of ``tables``, kept on disk during the block.

    Great Expectations asks many small questions: they read this narrow copy, not the tables.
    """
    from pyspark import StorageLevel

    lake.create_tables(settings, tables)
    frames = {table.name: spark.read.format("delta").load(table.uri(settings)) for table in tables}
    rows = spark.sql(sql, **frames).persist(StorageLevel.DISK_ONLY)
    try:
        yield rows
    finally:
        rows.unpersist()
