"""Rows that a gate asks about: by Spark where the lake is large, else without a JVM."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vitrine import lake
from vitrine.settings import Settings
from vitrine.tables import Table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

StartSpark = Callable[[], "SparkSession"]
COPIES = "count(*) OVER (PARTITION BY image_id) AS copies"
"""How many rows have this row's image_id: counted once, where the join has them together already."""
SQUARES = {
    "spark": "aggregate(embedding, 0D, (total, x) -> total + CAST(x AS DOUBLE) * x)",
    "datafusion": "inner_product(embedding, embedding)",
}
"""The sum of a vector's squares, as a double: null, NaN or infinite where an element is, and squares of float32 cannot
overflow it."""


@contextmanager
def gate_rows(settings: Settings, spark: StartSpark, sql: str, *tables: Table) -> Iterator[Any]:
    """A frame of the rows of ``sql``, which both dialects read, and in which ``{NAME}`` stands for each of ``tables``
    and ``{SQUARES}`` for ``SQUARES``: Spark's where ``lake.is_large``, else pandas'.

    Great Expectations asks many small questions: during the block Spark keeps the rows on disk, so that they read this
    narrow copy, not the tables.
    """
    lake.create_tables(settings, tables)
    if not lake.is_large(settings):
        names = {table.name: table.name for table in tables}
        yield lake.query(settings, sql.format(**names, SQUARES=SQUARES["datafusion"])).to_pandas()
        return
    from pyspark import StorageLevel
    from pyspark.sql import functions as F
    from pyspark.sql.pandas.types import from_arrow_schema

    session, frames = spark(), {}
    for table in tables:
        nulls = from_arrow_schema(lake.lacking(settings, table)).fields
        stored = session.read.format("delta").load(table.uri(settings))
        frames[table.name] = stored.withColumns({each.name: F.lit(None).cast(each.dataType) for each in nulls})
    rows = session.sql(sql.replace("{SQUARES}", SQUARES["spark"]), **frames).persist(StorageLevel.DISK_ONLY)
    try:
        yield rows
    finally:
        rows.unpersist()
