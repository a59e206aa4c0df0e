"""Which of the photos that an encoder misses a pass takes, where it does not take all of them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from vitrine.datasets import table
from vitrine.datasets.columns import Columns, TableFault
from vitrine.datasets.table_files import as_text
from vitrine.errors import UserError
from vitrine.locations import Location
from vitrine.settings import Settings

_NAMES = ("product_id", "weight")
_COLUMNS = Columns(_NAMES, _NAMES, can_be_given=False)
_SCHEMA = pa.schema([("product_id", pa.string()), ("weight", pa.float64()), ("fault", pa.string())])
_ROWS = "product_id string, weight double, fault string"
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE | re.ASCII)


class Order(Protocol):
    """What takes some of what is missing, and leaves the rest to later passes."""

    def choose(self, spark: SparkSession, settings: Settings, dataset: str, missing: DataFrame) -> DataFrame:
        """The rows to take of ``missing``, rows of ``catalog``."""


@dataclass(frozen=True)
class HashedProducts:
    """The photos of the products whose ids' SHA-256, hexadecimal, is below ``limit``: a sample of whole products that
    holds every smaller one."""

    limit: str

    def choose(self, spark: SparkSession, settings: Settings, dataset: str, missing: DataFrame) -> DataFrame:
        return missing.filter(F.sha2(F.col("product_id"), 256) < self.limit)


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
        if missing := [name for name in _NAMES if name not in frame.columns]:
            raise UserError(f"no column {', '.join(missing)} in {wanted!r}: it needs product_id and weight")
        rows = frame.select(*_NAMES).mapInArrow(_read_delta, _ROWS)
    for fault in rows.filter("fault IS NOT NULL").limit(1).collect():
        raise UserError(fault["fault"])
    product = F.concat(F.lit(f"{dataset}/"), F.col("product_id"))
    weight = F.max("weight").alias("weight")
    return rows.select(product.alias("product_id"), "weight").groupBy("product_id").agg(weight)


def _read_units(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for unit in batch.column("unit").to_pylist():
            rows = (_weighed(row, f"row {number}") for number, row in table.read_unit(unit, _COLUMNS))
            try:
                while some := list(islice(rows, 4096)):
                    yield pa.RecordBatch.from_pylist(some, schema=_SCHEMA)
            except TableFault as fault:
                yield pa.RecordBatch.from_pylist([{"fault": str(fault)}], schema=_SCHEMA)


def _read_delta(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        try:
            texts = [as_text(batch.column(name), name) for name in _NAMES]
            rows = [_weighed(dict(zip(_NAMES, row, strict=True)), "a row") for row in zip(*texts, strict=True)]
        except TableFault as fault:
            rows = [{"fault": str(fault)}]
        yield pa.RecordBatch.from_pylist(rows, schema=_SCHEMA)


def _weighed(row: Mapping[str, str | None], place: str) -> dict[str, Any]:
    """``row`` with its weight as a number; none, or NaN, is no weight.

    Raises:
        TableFault: it is another text, which would be taken for no weight.
    """
    text = (row["weight"] or "").strip()
    if not text or text.lower() == "nan":
        return {**row, "weight": None}
    if not _NUMBER.fullmatch(text):
        raise TableFault(f"{place} of the table of what is wanted has weight {text[:40]!r}, which is no number")
    return {**row, "weight": float(text)}
