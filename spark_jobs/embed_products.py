"""Products' vectors from their images': the mean, unit length, kept up with every change of the images.

A product is made anew when, and only when, the ids, contents, category or attributes of its images are others than
those that its row was made of. So a run that was killed before this, and one that has nothing to do, are the same case.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs.delta_tables import merge_or_append, persisted, read_table, spark_schema
from vitrine import facts, lake, locks
from vitrine.encoded_set import EncodedSet
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, PRODUCT_EMBEDDINGS
from vitrine.vectors import lists, matrix

_SOURCE = PRODUCT_EMBEDDINGS.schema.append(pa.field("gone", pa.bool_()))
_BROADCAST = 200_000  # products that are sent to the images' rows, instead of shuffling those once more
# What a product's row was made of: ``facts.products_settled`` has it in DataFusion's words; a test holds that both say
# the same.
_SPARK_MD5 = f"md5(array_join(array_sort(collect_list({facts.PHOTO_OF_PRODUCT})), '\\n'))"
_SAID = "array_distinct(flatten(collect_list(map_entries(attributes))))"
_AGREED = "array_sort(filter(said, one -> size(filter(said, other -> other.key = one.key)) = 1))"
"""Of names and values that photos have, those of a name that has one value."""


def embed_products(spark: SparkSession, settings: Settings, dataset: str, encoder_version: str) -> dict[str, float]:
    """Bring ``product_embeddings`` of one encoder version and data set to its images' vectors, in one commit.

    The mean is computed in double precision. A product whose vectors cancel out has no direction and gets no row.

    Returns:
        ``{"products": rows made, "products_deleted": rows of products that are no more,
        "products_seconds": clock time}``.
    """
    started = time.monotonic()
    with locks.held(settings, f"products__{dataset}__{encoder_version}"):  # two would both append all of the rows
        encoded = EncodedSet(dataset, "", encoder_version)
        made, left = (0, 0) if facts.products_settled(settings, encoded) else _bring(spark, settings, encoded)
    seconds = round(time.monotonic() - started, 3)
    return {"products": made, "products_deleted": left, "products_seconds": seconds}


def _bring(spark: SparkSession, settings: Settings, encoded: EncodedSet) -> tuple[int, int]:
    """How many products' rows were made, and how many deleted."""
    images = read_table(spark, settings, EMBEDDINGS).filter(encoded.where)
    stored = read_table(spark, settings, PRODUCT_EMBEDDINGS).filter(encoded.where)
    wanted = images.groupBy("product_id").agg(
        F.expr(f"{_SPARK_MD5} AS images_md5"),
        F.count("*").cast("int").alias("n_images"),
        F.max("encoder").alias("encoder"),
        F.min("category").alias("category"),
        F.expr(_SAID).alias("said"),
        F.max("event_timestamp").alias("event_timestamp"),
    )
    agreed = F.expr(_AGREED)
    wanted = wanted.withColumn("attributes", F.when(F.size(agreed) > 0, F.map_from_entries(agreed))).drop("said")
    stale = wanted.join(stored.select("product_id", "images_md5"), ["product_id", "images_md5"], "left_anti")
    gone = stored.join(wanted, "product_id", "left_anti")
    with persisted(stale):
        count, left = stale.count(), gone.count()
        if count or left:
            vectors = images.select("product_id", "encoder_version", "dataset", "embedding")
            known = F.broadcast(stale) if count <= _BROADCAST else stale
            source = _means(vectors.join(known, "product_id")).unionByName(gone.withColumn("gone", F.lit(True)))
            merge_or_append(spark, settings, PRODUCT_EMBEDDINGS, source, encoded.within("t"), rows=count + left)
    return count, left


def _means(images: DataFrame) -> DataFrame:
    """A row a product from one an image, which has the product's columns and the image's own ``embedding``."""
    rows = images.withColumn("created_timestamp", F.lit(lake.now())).select(PRODUCT_EMBEDDINGS.schema.names)
    rows = rows.repartition("product_id").sortWithinPartitions("product_id")
    return rows.mapInArrow(_mean_rows, spark_schema(_SOURCE))


def _mean_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows sorted by product to a row a product: its first one, with the mean, unit length, as its embedding.

    Not in Spark SQL, whose arrays are of boxed numbers: that took several times as long.
    """
    rest: pa.RecordBatch | None = None  # of a product that may go on in the next batch
    for batch in batches:
        together = batch if rest is None else pa.concat_batches([rest, batch])
        starts = _starts(together["product_id"])
        rest = together.slice(starts[-1])
        if len(starts) > 1:
            yield _product_rows(together.slice(0, starts[-1]), starts[:-1])
    if rest is not None:
        yield _product_rows(rest, _starts(rest["product_id"]))


def _starts(ids: pa.Array) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """The indices, int64, at which another id begins."""
    return np.flatnonzero(np.r_[True, pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)])


def _product_rows(images: pa.RecordBatch, starts: "np.ndarray[Any, np.dtype[np.int64]]") -> pa.RecordBatch:
    vectors = matrix(images["embedding"]).astype(np.float64)
    sums = np.add.reduceat(vectors, starts)
    norm = np.linalg.norm(sums / np.diff(starts, append=len(images))[:, None], axis=1)
    unit = (sums / np.maximum(np.linalg.norm(sums, axis=1), 1e-300)[:, None]).astype(np.float32)
    product = images.take(pa.array(starts))
    columns = {name: product[name] for name in PRODUCT_EMBEDDINGS.schema.names} | {
        "embedding": lists(unit),
        "gone": pa.array(norm < 1e-9),
    }
    return pa.RecordBatch.from_pydict(columns, schema=_SOURCE)
