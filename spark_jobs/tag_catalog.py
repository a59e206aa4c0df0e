"""Tags from stored vectors, as Spark from Delta: no photo is read, and no worker loads more than NumPy.

A photo's tag is made anew when, and only when, its content or the classifier is another than its row's; a product's,
when its tagged photos are others. So a run that was killed, and one that has nothing to do, are the same case.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs.delta_tables import merge_or_append, persisted, read_table, spark_schema
from vitrine import facts, lake, locks, tag_review
from vitrine.encoders.classifiers import Classifier
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, PRODUCT_TAGS, TAGS, Table
from vitrine.vectors import Floats, matrix

_GROUP = 4096
"""Photos that a worker holds at once, about, where tags are made of whole products."""
_MD5 = "md5(array_join(array_sort(collect_list(concat(image_id, ':', content_sha256))), '\\n'))"
"""Of a product's photos; ``_digest`` gives the same."""


def tag_catalog(
    spark: SparkSession, settings: Settings, classifier: Classifier, *, everything: bool = False
) -> dict[str, Any]:
    """Bring ``tags`` and ``product_tags`` of the classifier's data set and label to its vectors, one commit each.

    Photos that lack the label, and those that have a tag already, are tagged; with ``everything``, all.

    Returns:
        ``tagged`` and ``products_tagged`` (rows made), ``removed``, ``photos`` and ``abstained`` (rows that are there),
        and ``outcomes``: what became of these, as ``vitrine.tag_review`` counts it.
    """
    about = classifier.about
    with locks.held(settings, f"tags__{about.dataset}__{about.label}"):
        return _Tagging(spark, settings, classifier, everything).bring()


class _Tagging:
    """Which photos have to be tagged is found by ids alone, once; vectors are read of these."""

    def __init__(self, spark: SparkSession, settings: Settings, classifier: Classifier, everything: bool) -> None:
        self.spark, self.settings, self.classifier = spark, settings, classifier
        self.about, self.version = classifier.about, classifier.version
        self.here = lake.matches(dataset=self.about.dataset, label=self.about.label)
        self.within = lake.matches("t", dataset=self.about.dataset, label=self.about.label)
        mine = lake.matches(dataset=self.about.dataset, encoder_version=self.about.encoder_version)
        self.embeddings = read_table(spark, settings, EMBEDDINGS).filter(mine)
        self.stored = read_table(spark, settings, TAGS).filter(self.here)
        self.wanted = self._wanted(everything)

    def _wanted(self, everything: bool) -> DataFrame:
        """Photos that have to have a tag: ``image_id``, ``product_id``, ``content_sha256``, and whether the one that
        they have is the classifier's and of this content, ``current``."""
        # A vector of older content says nothing of the photo as it is now.
        key, of_set = ["image_id", "content_sha256"], lake.matches(dataset=self.about.dataset)
        lacks = F.lit(True) if everything else F.expr(facts.lacks_label(self.about.label, self.about.dataset))
        catalog = read_table(self.spark, self.settings, CATALOG).filter(of_set).select(*key, lacks.alias("lacks"))
        same = f"content_sha256 = tagged_sha256 AND {lake.matches(classifier_version=self.version)}"
        tags = self.stored.select("image_id", F.col("content_sha256").alias("tagged_sha256"), "classifier_version")
        both = self.embeddings.select(*key, "product_id").join(catalog, key).join(tags, "image_id", "left")
        return both.filter("lacks OR tagged_sha256 IS NOT NULL").select(
            *key, "product_id", F.expr(f"coalesce({same}, false)").alias("current")
        )

    def bring(self) -> dict[str, Any]:
        with persisted(self.wanted):
            stale = self.wanted.filter("NOT current").select("image_id", "content_sha256")
            gone = self.stored.join(self.wanted, "image_id", "left_anti").select("image_id")
            tagged, removed = self._merge(TAGS, stale, gone, self._photos)
            products, left = (0, 0) if self.about.label == "product_id" else self._products()
        counts = lake.rows(
            self.settings,
            f"SELECT count(*) AS photos, coalesce(sum(CASE WHEN abstained THEN 1 ELSE 0 END), 0) AS abstained "
            f"FROM {TAGS.name} WHERE {self.here}",
        )[0]
        became = tag_review.outcomes(self.settings, self.about.dataset, self.about.label)
        made = {"tagged": tagged, "products_tagged": products, "removed": removed + left}
        return {**made, **counts, "outcomes": became}

    def _products(self) -> tuple[int, int]:
        wanted = self.wanted.groupBy("product_id").agg(F.expr(f"{_MD5} AS images_md5"))
        stored = read_table(self.spark, self.settings, PRODUCT_TAGS).filter(self.here)
        current = stored.filter(lake.matches(classifier_version=self.version)).select("product_id", "images_md5")
        stale = wanted.join(current, ["product_id", "images_md5"], "left_anti").select("product_id")
        gone = stored.join(self.wanted, "product_id", "left_anti").select("product_id")
        return self._merge(PRODUCT_TAGS, stale, gone, self._of_products)

    def _merge(
        self, table: Table, stale: DataFrame, gone: DataFrame, tagged: Callable[[DataFrame], DataFrame]
    ) -> tuple[int, int]:
        """Rows made, and rows removed."""
        with persisted(stale):
            made, left = stale.count(), gone.count()
            if made or left:
                key, schema = table.key[0], spark_schema(table.schema)
                known = {key: F.col(key), "label": F.lit(self.about.label)}
                columns = [known.get(f.name, F.lit(None).cast(f.dataType)).alias(f.name) for f in schema.fields]
                leaving = gone.select(*columns, F.lit(True).alias("gone"))
                source = tagged(stale).withColumn("gone", F.lit(False)).unionByName(leaving)
                merge_or_append(self.spark, self.settings, table, source, self.within, rows=made + left)
        return made, left

    def _vectors(self, photos: DataFrame, *columns: Column | str) -> DataFrame:
        """``columns`` of the vectors of ``photos``, by id and content. Where these are all that there are, as in a
        first night, the vectors are read as they lie: a join would move each of them."""
        rows, key = self.embeddings, ["image_id", "content_sha256"]
        if photos.count() < rows.count():
            rows = rows.join(photos, key, "left_semi")
        return rows.select(*key, "embedding", *columns)

    def _photos(self, stale: DataFrame) -> DataFrame:
        sent, same, moment = self.spark.sparkContext.broadcast(self.classifier), self._same(), lake.now()

        def tag(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            classifier = sent.value
            for batch in batches:
                vectors = matrix(batch["embedding"])
                said = _columns(classifier, classifier.log_probabilities(vectors), classifier.distances(vectors))
                own = {name: batch[name] for name in ("image_id", "content_sha256")}
                yield _batch(TAGS, {**own, **said}, same, moment)

        return self._vectors(stale).mapInArrow(tag, spark_schema(TAGS.schema))

    def _of_products(self, stale: DataFrame) -> DataFrame:
        """Whole products, some thousand photos of them at once."""
        sent, same, moment = self.spark.sparkContext.broadcast(self.classifier), self._same(), lake.now()

        def tag(rows: pa.Table) -> pa.Table:
            classifier, order = sent.value, pc.sort_indices(rows["product_id"])
            rows = rows.take(order)
            products = rows["product_id"].combine_chunks().dictionary_encode()
            starts = np.unique(products.indices.to_numpy(), return_index=True)[1]
            sizes = np.diff([*starts, len(rows)])[:, None]
            vectors = matrix(rows["embedding"])
            mean = np.add.reduceat(classifier.log_probabilities(vectors), starts) / sizes
            mean -= np.log(np.exp(mean).sum(1, keepdims=True))
            distances = np.add.reduceat(classifier.distances(vectors), starts) / sizes[:, 0]
            contents = zip(rows["image_id"].to_pylist(), rows["content_sha256"].to_pylist(), strict=True)
            lines = [f"{image_id}:{content}" for image_id, content in contents]
            ends = [*starts[1:], len(rows)]
            md5 = [_digest(lines[first:end]) for first, end in zip(starts, ends, strict=True)]
            own = {"product_id": products.dictionary, "images_md5": md5}
            made = {**own, **_columns(classifier, mean.astype(np.float32), distances.astype(np.float32))}
            return pa.Table.from_batches([_batch(PRODUCT_TAGS, made, same, moment)])

        photos = self.wanted.join(stale, "product_id", "left_semi").select("image_id", "content_sha256")
        groups = max(1, -(-photos.count() // _GROUP))
        rows = self._vectors(photos, "product_id", F.expr(f"pmod(xxhash64(product_id), {groups}) AS part"))
        return rows.groupBy("part").applyInArrow(tag, spark_schema(PRODUCT_TAGS.schema))

    def _same(self) -> dict[str, str]:
        return {
            "label": self.about.label,
            "dataset": self.about.dataset,
            "classifier_version": self.version,
            "encoder_version": self.about.encoder_version,
        }


def _digest(lines: list[str]) -> str:
    return hashlib.md5("\n".join(sorted(lines)).encode(), usedforsecurity=False).hexdigest()


def _columns(classifier: Classifier, log_probabilities: Floats, distances: Floats) -> dict[str, Any]:
    tags = classifier.tags(log_probabilities, distances)
    names = np.array(classifier.head.classes, object)
    return {
        "value": list(names[tags.best]),
        "runner_up": list(names[tags.second]),
        "probability": tags.probability,
        "abstained": [reason is not None for reason in tags.reasons],
        "reason": tags.reasons,
    }


def _batch(table: Table, columns: dict[str, Any], same: dict[str, str], moment: Any) -> pa.RecordBatch:
    count = len(columns["value"])
    columns = columns | {name: [value] * count for name, value in same.items()} | {"tagged_at": [moment] * count}
    arrays = [
        columns[f.name] if isinstance(columns[f.name], pa.Array) else pa.array(columns[f.name], f.type)
        for f in table.schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=table.schema)
