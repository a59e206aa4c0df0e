"""Products' vectors from their images': the mean, unit length, kept up with every change of the images.

A product is made anew when, and only when, the ids, contents, or category of its images are others than those that its
row was made of. So a run that was killed before this, and one that has nothing to do, are the same case.
"""

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs.session import merge_table, read_table
from vitrine import lake
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, PRODUCT_EMBEDDINGS

# What a product's row was made of, in Spark's words and in DataFusion's; a test holds that both say the same.
_IMAGE = "concat(image_id, ':', content_sha256, ':', coalesce(category, ''))"
_SPARK_MD5 = f"md5(array_join(array_sort(collect_list({_IMAGE})), '\\n'))"
_LAKE_MD5 = f"md5(string_agg({_IMAGE}, '\n' ORDER BY {_IMAGE}))"


def embed_products(spark: SparkSession, settings: Settings, dataset: str, encoder_version: str) -> dict[str, int]:
    """Bring ``product_embeddings`` of one encoder version and data set to its images' vectors, in one commit.

    The mean is computed in double precision. A product whose vectors cancel out has no direction and gets no row.

    Returns:
        ``{"products": rows made, "products_deleted": rows of products that are no more}``.
    """
    if products_settled(settings, dataset, encoder_version):
        return {"products": 0, "products_deleted": 0}
    mine = (F.col("dataset") == dataset) & (F.col("encoder_version") == encoder_version)
    images = read_table(spark, settings, EMBEDDINGS).filter(mine)
    stored = read_table(spark, settings, PRODUCT_EMBEDDINGS).filter(mine)
    wanted = images.groupBy("product_id").agg(F.expr(f"{_SPARK_MD5} AS images_md5"))
    stale = wanted.join(stored.select("product_id", "images_md5"), ["product_id", "images_md5"], "left_anti")
    stale = stale.persist()
    gone = stored.join(wanted, "product_id", "left_anti")
    try:
        count, left = stale.count(), gone.count()
        if count or left:
            source = _means(images.join(stale, "product_id")).unionByName(gone.withColumn("gone", F.lit(True)))
            within = f"t.dataset = {lake.quote(dataset)} AND t.encoder_version = {lake.quote(encoder_version)}"
            first = not lake.rows(settings, f"SELECT 1 FROM {PRODUCT_EMBEDDINGS.name} t WHERE {within} LIMIT 1")
            merge_table(spark, settings, PRODUCT_EMBEDDINGS, source, within, only_insert=first)
    finally:
        stale.unpersist()
    return {"products": count, "products_deleted": left}


def _means(images: DataFrame) -> DataFrame:
    from pyspark.ml.functions import array_to_vector, vector_to_array
    from pyspark.ml.stat import Summarizer

    mean = vector_to_array(Summarizer.mean(array_to_vector(F.col("embedding").cast("array<double>"))))
    products = images.groupBy("product_id", "images_md5", "encoder_version", "dataset").agg(
        mean.alias("mean"),
        F.max("encoder").alias("encoder"),
        F.count("*").cast("int").alias("n_images"),
        F.min("category").alias("category"),
        F.max("event_timestamp").alias("event_timestamp"),
    )
    norm = F.sqrt(F.aggregate("mean", F.lit(0.0), lambda total, x: total + x * x))
    return (
        products.withColumn("norm", norm)
        .withColumn("embedding", F.expr("CAST(transform(mean, x -> x / norm) AS array<float>)"))
        .withColumn("gone", F.col("norm") < 1e-9)
        .withColumn("created_timestamp", F.lit(lake.now()))
        .select(*PRODUCT_EMBEDDINGS.schema.names, "gone")
    )


def products_settled(settings: Settings, dataset: str, encoder_version: str) -> bool:
    """Has every product the vector of its images as they are now? Asked without a JVM."""
    where = f"dataset = {lake.quote(dataset)} AND encoder_version = {lake.quote(encoder_version)}"
    wanted = f"(SELECT product_id, {_LAKE_MD5} AS images_md5 FROM {EMBEDDINGS.name} WHERE {where} GROUP BY product_id)"
    stored = f"(SELECT product_id, images_md5 FROM {PRODUCT_EMBEDDINGS.name} WHERE {where})"
    same = "a.product_id = b.product_id AND a.images_md5 = b.images_md5"
    missing = f"SELECT 1 FROM {wanted} a LEFT ANTI JOIN {stored} b ON {same} LIMIT 1"
    too_many = f"SELECT 1 FROM {stored} a LEFT ANTI JOIN {wanted} b ON a.product_id = b.product_id LIMIT 1"
    return not lake.rows(settings, missing) and not lake.rows(settings, too_many)
