"""What ``vitrine check --repair`` takes away before it is derived again, and what it derives without a photo."""

from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from spark_jobs.delta_tables import read_table
from spark_jobs.embed_products import embed_products
from vitrine import lake
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, PRODUCT_EMBEDDINGS, Table


def dedupe(spark: SparkSession, settings: Settings, table: Table, dataset: str) -> None:
    """Keep one row a key of the data set's, in one commit; which one does not matter: the next step compares it."""
    mine = read_table(spark, settings, table).filter(F.col("dataset") == dataset)
    if not mine.groupBy(*table.key).count().filter("count > 1").limit(1).count():
        return
    path = table.uri(settings)
    kept = mine.dropDuplicates(list(table.key)).localCheckpoint()  # read before its files are replaced
    where = f"dataset = {lake.quote(dataset)}"
    with lake.committing(settings, table):
        kept.write.format("delta").mode("overwrite").option("replaceWhere", where).save(path)


def drop_bad_vectors(spark: SparkSession, settings: Settings, dataset: str, version: str, dim: int | None) -> None:
    """Delete the vectors of another dimension than ``dim``, of a length that is not 1, or with NaN."""
    norm = "aggregate(embedding, 0D, (total, x) -> total + CAST(x AS double) * x)"
    bad = f"exists(embedding, x -> isnan(x)) OR NOT coalesce(abs(sqrt({norm}) - 1) <= 1e-3, false)"
    bad += "" if dim is None else f" OR size(embedding) <> {dim}"
    where = f"dataset = {lake.quote(dataset)} AND encoder_version = {lake.quote(version)} AND ({bad})"
    with lake.committing(settings, EMBEDDINGS):
        DeltaTable.forPath(spark, EMBEDDINGS.uri(settings)).delete(where)


def products_again(spark: SparkSession, settings: Settings, dataset: str, version: str) -> dict[str, float]:
    """Every product's vector of a version from its images', whatever is stored."""
    where = f"dataset = {lake.quote(dataset)} AND encoder_version = {lake.quote(version)}"
    with lake.committing(settings, PRODUCT_EMBEDDINGS):
        DeltaTable.forPath(spark, PRODUCT_EMBEDDINGS.uri(settings)).delete(where)
    return embed_products(spark, settings, dataset, version)
