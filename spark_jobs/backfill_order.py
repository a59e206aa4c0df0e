"""Which of the photos that an encoder misses a backfill takes next."""

from dataclasses import dataclass
from pathlib import Path

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from vitrine.errors import UserError, reason
from vitrine.settings import Settings


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
            weights = _weights(spark, settings, dataset, self.wanted)
            order = order.join(weights, "product_id", "left")
        else:
            order = order.withColumn("weight", F.lit(None).cast("double"))
        sort = (F.desc_nulls_last("weight"), F.desc("newest"), F.asc("product_id"), F.asc("image_id"))
        return missing.join(order, "product_id").orderBy(*sort).limit(self.rows).select(missing.columns)


def _weights(spark: SparkSession, settings: Settings, dataset: str, wanted: str) -> DataFrame:
    path = (settings.root / Path(wanted).expanduser()).resolve()
    if not path.exists():
        raise UserError(f"no table of wanted products {wanted!r}: a CSV, Parquet or Delta file or folder")
    try:
        if path.name.lower().endswith((".csv", ".csv.gz")):
            table = spark.read.option("header", True).csv(str(path))
        else:
            table = spark.read.format("delta" if (path / "_delta_log").is_dir() else "parquet").load(str(path))
    except PySparkException as error:
        raise UserError(f"cannot read {wanted!r}: {reason(error)}") from None
    if missing := {"product_id", "weight"} - {*table.columns}:
        raise UserError(f"no column {', '.join(sorted(missing))} in {wanted!r}: it needs product_id and weight")
    product = F.concat(F.lit(f"{dataset}/"), F.col("product_id").cast("string"))
    weight = F.max(F.expr("try_cast(weight AS double)")).alias("weight")
    return table.select(product.alias("product_id"), "weight").groupBy("product_id").agg(weight)
