"""Which of the photos that an encoder misses a backfill takes next."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from vitrine.datasets import table
from vitrine.datasets.table_files import TableFault, as_text
from vitrine.errors import UserError
from vitrine.locations import Location
from vitrine.settings import Settings

_COLUMNS = ("product_id", "weight")
_SCHEMA = pa.schema([(name, pa.string()) for name in (*_COLUMNS, "fault")])
_ROWS = "product_id string, weight string, fault string"


@dataclass(frozen=True)
class BackfillOrder:
    """At most ``rows`` photos: of the products that weigh most in ``wanted`` first, then of the newest products.

    A product is as new as the newest content of its missing photos; its photos stay together.
    """

    rows: int
    wanted: str | None = None
    """A CSV, Parquet or Delta table with product_id (the shop's own) and weight; left out: the newest first."""

    def choose(self, spark: SparkSession, settings: Settings, dataset: str, missing: DataFrame) -> DataFrame:
        """The rows to take of ``missing``, rows of ``catalog``.

        Raises:
            UserError: ``wanted`` cannot be read, or lacks a column.
        """
        order = missing.groupBy("product_id").agg(F.max("content_seen_at").alias("newest"))
        if self.wanted:
            weights = _weights(spark, dataset, self.wanted)
            order = order.join(weights, "product_id", "left")
        else:
            order = order.withColumn("weight", F.lit(None).cast("double"))
        sort = (F.desc_nulls_last("weight"), F.desc("newest"), F.asc("product_id"), F.asc("image_id"))
        return missing.join(order, "product_id").orderBy(*sort).limit(self.rows).select(missing.columns)


def _weights(spark: SparkSession, dataset: str, wanted: str) -> DataFrame:
    units = table.file_units(wanted)
    if units:
        rows = spark.createDataFrame(pa.table({"unit": units})).repartition(len(units)).mapInArrow(_read_units, _ROWS)
    else:
        frame = spark.read.format("delta").load(Location.given(wanted).hadoop)
        if missing := [name for name in _COLUMNS if name not in frame.columns]:
            raise UserError(f"no column {', '.join(missing)} in {wanted!r}: it needs product_id and weight")
        rows = frame.select(*_COLUMNS).mapInArrow(_read_delta, _ROWS)
    for fault in rows.filter("fault IS NOT NULL").limit(1).collect():
        raise UserError(fault["fault"])
    product = F.concat(F.lit(f"{dataset}/"), F.col("product_id"))
    weight = F.max(F.expr("try_cast(weight AS double)")).alias("weight")
    return rows.select(product.alias("product_id"), "weight").groupBy("product_id").agg(weight)


def _read_units(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for unit in batch.column("unit").to_pylist():
            rows = (row for _, row in table.read_unit(unit, _COLUMNS, _COLUMNS))
            try:
                while some := list(islice(rows, 4096)):
                    yield pa.RecordBatch.from_pylist(some, schema=_SCHEMA)
            except TableFault as fault:
                yield pa.RecordBatch.from_pylist([{"fault": str(fault)}], schema=_SCHEMA)


def _read_delta(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        try:
            texts = {name: as_text(batch.column(name), name) for name in _COLUMNS}
        except TableFault as fault:
            texts = {"fault": [str(fault)]}
        yield pa.RecordBatch.from_pylist(
            [dict(zip(texts, values, strict=True)) for values in zip(*texts.values(), strict=True)], schema=_SCHEMA
        )
