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
    moment: datetime,
) -> int:
    """Who is in quarantine at ``stage`` becomes who is in ``bad`` (image_id, uri, code, reason); how many left it."""
    mine = {"dataset": dataset, "stage": stage, "encoder": encoder}
    within = " AND ".join(f"{column} = {lake.quote(value)}" for column, value in mine.items())
    any_bad = bad.limit(1).count() > 0
    if not any_bad and not lake.rows(settings, f"SELECT 1 FROM {QUARANTINE.name} WHERE {within} LIMIT 1"):
        return 0
    before = read_table(spark, settings, QUARANTINE).filter(
        (F.col("dataset") == dataset) & (F.col("stage") == stage) & (F.col("encoder") == encoder)
    )
    left = before.join(bad, "image_id", "left_anti")
    mended = left.count()
    refused = bad.select(
        "image_id",
        F.lit(dataset).alias("dataset"),
        F.lit(stage).alias("stage"),
        F.lit(encoder).alias("encoder"),
        "uri",
        "code",
        "reason",
        F.lit(moment).alias("first_seen"),
        F.lit(moment).alias("last_seen"),
        F.lit(False).alias("gone"),
    )
    if mended or any_bad:
        source = refused.unionByName(left.withColumn("gone", F.lit(True)))
        merge_table(spark, settings, QUARANTINE, source, f"t.dataset = {lake.quote(dataset)}", keep=("first_seen",))
    return mended
