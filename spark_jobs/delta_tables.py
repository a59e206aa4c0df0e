"""Reading and writing the Delta tables by Spark."""

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa
from delta import exceptions
from delta.tables import DeltaTable
from deltalake.exceptions import CommitFailedError
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from spark_jobs import small_merges
from vitrine import lake
from vitrine.errors import VitrineError
from vitrine.settings import Settings
from vitrine.tables import Table

_CONFLICTS = (CommitFailedError, *(getattr(exceptions, name) for name in exceptions.__all__))
_ATTEMPTS = 6
NO_PATTERNS = ("__globPaths__", "false")
"""An option of Spark's readers of files: a path is the name of one place, whatever brackets it has."""
_LARGE = 512 << 20
"""Bytes from which deletion vectors pay: 1 % of 300,000 rows x 512 merged in 26 s against 66 s; small tables lose."""


def read_table(spark: SparkSession, settings: Settings, table: Table) -> DataFrame:
    """``table`` as it is now. One without a file costs Spark nothing: it plans no join with it, nor opens its log. The
    rows of a small one are read without Spark and handed to it."""
    size = lake.size(settings, table)
    if not size.bytes:
        return no_rows(spark, table.schema)
    if size.is_small:
        rows = lake.query(settings, f"SELECT {', '.join(table.schema.names)} FROM {table.name}")
        return spark.createDataFrame(rows.cast(table.schema))
    return with_all_columns(spark.read.format("delta").load(table.uri(settings)), table)


def with_all_columns(stored: DataFrame, table: Table) -> DataFrame:
    """Rows of ``table`` as it is stored; columns that it lacks, being made by an earlier version, are null."""
    lacking = (field for field in spark_schema(table.schema).fields if field.name not in stored.columns)
    return stored.withColumns({field.name: F.lit(None).cast(field.dataType) for field in lacking})


def grow_table(spark: SparkSession, settings: Settings, table: Table) -> None:
    """Add to ``table`` the columns that it lacks, being made by an earlier version; they are null in its rows."""
    if not (lacking := lake.lacking(settings, table)):
        return
    added = ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in spark_schema(lacking).fields)
    with lake.committing(settings, table, always=True):
        if lake.lacking(settings, table):
            spark.sql(f"ALTER TABLE {table.sql(settings)} ADD COLUMNS ({added})")


def no_rows(spark: SparkSession, schema: pa.Schema) -> DataFrame:
    """A frame of which Spark knows, before it plans, that it is empty.

    Not ``createDataFrame([])``: that would start a worker, and an environment of its own a daemon, for nothing.
    """
    columns = (F.lit(None).cast(field.dataType).alias(field.name) for field in spark_schema(schema).fields)
    return spark.range(0).select(*columns).filter("false")


def spark_schema(schema: pa.Schema) -> Any:
    """An Arrow schema as Spark's."""
    return from_arrow_schema(schema)


@contextmanager
def persisted(frame: DataFrame) -> Iterator[DataFrame]:
    """``frame``, kept on disk from its first use to the end of the block, so that it is computed once."""
    try:
        yield frame.persist(StorageLevel.DISK_ONLY)
    finally:
        frame.unpersist()


def merge_table(
    spark: SparkSession,
    settings: Settings,
    table: Table,
    source: DataFrame,
    within: str,
    keep: tuple[str, ...] = (),
    known: tuple[str, ...] = (),
    rows: int | None = None,
) -> None:
    """Bring the rows of ``table`` to those of ``source`` by key, in one commit.

    ``source`` has the table's columns and a boolean ``gone``: true deletes the row with that key. ``within`` is a
    condition on ``t`` that holds for every row that may be touched: it prunes partitions and keeps writers of other
    data sets from conflicting. The columns in ``keep`` hold their old value where a row is updated, those in ``known``
    where the source has null; a row with null there is never inserted. ``rows``: how many ``source`` has at most, where
    that is known; a few are committed to a small table without a plan of Spark's.

    Raises:
        VitrineError: other writers came between time and again.
    """
    columns = table.schema.names
    if small_merges.fits(settings, table, rows):
        changed = source.select(*columns, "gone").toArrow()
        commit = partial(small_merges.commit, settings, table, changed, within, keep, known)
        retried(f"merge into {table.name}", commit)
        return
    grow_table(spark, settings, table)
    _mark_rather_than_copy(spark, settings, table)
    same = " AND ".join(f"t.{column} = s.{column}" for column in table.key)
    whole = " AND ".join(["NOT s.gone", *(f"s.{column} IS NOT NULL" for column in known)])
    updated = {column: f"s.{column}" for column in columns if column not in keep}
    updated |= {column: f"coalesce(s.{column}, t.{column})" for column in known}

    def merge() -> None:
        both = (
            DeltaTable.forPath(spark, table.uri(settings))
            .alias("t")
            .merge(source.select(*columns, "gone").alias("s"), f"{within} AND {same}")
            .whenNotMatchedInsert(whole, values={column: f"s.{column}" for column in columns})
            .whenMatchedDelete("s.gone")
            .whenMatchedUpdate(set=updated)
        )
        with lake.committing(settings, table):
            both.execute()

    retried(f"merge into {table.name}", merge)


def merge_or_append(
    spark: SparkSession,
    settings: Settings,
    table: Table,
    source: DataFrame,
    within: str,
    known: tuple[str, ...] = (),
    rows: int | None = None,
) -> None:
    """As ``merge_table``; where ``table`` has no row ``within`` yet, the rows of ``source`` are appended instead.

    A merge holds all of the source on disk once more, and writes with one task a partition. The caller holds a lock
    that keeps every other writer of rows ``within`` away: two that append would both add theirs.

    Raises:
        VitrineError: other writers came between time and again.
    """
    if small_merges.fits(settings, table, rows) or has_rows(settings, table, within):
        merge_table(spark, settings, table, source, within, known=known, rows=rows)
        return
    append(spark, settings, table, source.filter("NOT gone"))


def append(spark: SparkSession, settings: Settings, table: Table, new: DataFrame, rows: int | None = None) -> None:
    """Add the rows of ``new``, which has the columns of ``table``, in one commit. ``rows`` as in ``merge_table``.

    Raises:
        VitrineError: other writers came between time and again.
    """
    added = new.select(*table.schema.names)
    if small_merges.fits(settings, table, rows):
        lake.write(settings, table, added.toArrow())
        return
    grow_table(spark, settings, table)

    def write() -> None:
        with lake.committing(settings, table):
            added.write.format("delta").mode("append").save(table.uri(settings))

    retried(f"append to {table.name}", write)


def has_rows(settings: Settings, table: Table, within: str) -> bool:
    """Has ``table`` a row ``within``, a condition on ``t``? Asked without Spark."""
    return bool(lake.rows(settings, f"SELECT 1 FROM {table.name} t WHERE {within} LIMIT 1"))


def retried(what: str, commit: Callable[[], Any]) -> None:
    """Do ``commit`` again where another one came between its reading and its writing, as a compaction does.

    Raises:
        VitrineError: other writers came between time and again.
    """
    for attempt in range(_ATTEMPTS):
        try:
            commit()
            return
        except _CONFLICTS as error:
            if attempt == _ATTEMPTS - 1:
                raise VitrineError(
                    f"{what}: other writers came between {_ATTEMPTS} times ({type(error).__name__}): run it again"
                ) from None
            print(f"{what}: another writer was quicker ({type(error).__name__}): once more", file=sys.stderr)
            time.sleep(random.uniform(0.5, 2) * (attempt + 1))  # noqa: S311


def _mark_rather_than_copy(spark: SparkSession, settings: Settings, table: Table) -> None:
    """Give a large table deletion vectors: a change marks old rows then, where it would copy the files that hold them.

    On a small table they cost more than they spare: each change adds a file that every later read opens.
    """
    size = lake.size(settings, table)
    if size.bytes < _LARGE or small_merges.MARKS_ROWS in size.properties:
        return
    with lake.committing(settings, table):
        spark.sql(f"ALTER TABLE {table.sql(settings)} SET TBLPROPERTIES ('{small_merges.MARKS_ROWS}' = 'true')")
