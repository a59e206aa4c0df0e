"""The quarantine: what a stage could not read, kept up to date by every run of that stage."""

from datetime import datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs.delta_tables import merge_table, read_table
from vitrine import lake
from vitrine.settings import Settings
from vitrine.tables import QUARANTINE


def merge_quarantine(
    spark: SparkSession,
    settings: Settings,
    dataset: str,
    stage: str,
    encoder: str,
    bad: DataFrame,
    count: int,
    moment: datetime,
) -> int:
    """Who is in quarantine at ``stage`` becomes who is in ``bad`` (image_id, uri, code, reason), which has ``count``
    rows; how many left it."""
    key = {"dataset": dataset, "stage": stage, "encoder": encoder}
    mine = lake.matches(**key)
    if not count and not lake.rows(settings, f"SELECT 1 FROM {QUARANTINE.name} WHERE {mine} LIMIT 1"):
        return 0
    left = read_table(spark, settings, QUARANTINE).filter(mine).join(bad, "image_id", "left_anti")
    mended = left.count()
    same = key | {"first_seen": moment, "last_seen": moment, "gone": False}
    refused = bad.select(
        "image_id", "uri", "code", "reason", *(F.lit(value).alias(name) for name, value in same.items())
    )
    if mended or count:
        source = refused.unionByName(left.withColumn("gone", F.lit(True)))
        within = lake.matches("t", dataset=dataset)
        merge_table(spark, settings, QUARANTINE, source, within, keep=("first_seen",), rows=count + mended)
    return mended
