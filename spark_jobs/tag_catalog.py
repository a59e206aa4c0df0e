"""Tags from stored vectors, as Spark from Delta: no photo is read, and no worker loads more than NumPy.

A photo's tag is made anew when, and only when, its content or the classifier is another than its row's; a product's,
when its tagged photos are others. So a run that was killed, and one that has nothing to do, are the same case.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs.delta_tables import merge_or_append, persisted, read_table, spark_schema
from vitrine import facts, lake, locks, tag_review
from vitrine.encoders.classifiers import Classifier
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, PRODUCT_TAGS, TAGS, Table
from vitrine.vectors import Floats, matrix

_MD5 = "md5(array_join(array_sort(collect_list(concat(image_id, ':', content_sha256))), '\\n'))"


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
    def __init__(self, spark: SparkSession, settings: Settings, classifier: Classifier, everything: bool) -> None:
        self.spark, self.settings, self.classifier = spark, settings, classifier
        self.about, self.version = classifier.about, classifier.version
        self.here = lake.matches(dataset=self.about.dataset, label=self.about.label)
        self.within = lake.matches("t", dataset=self.about.dataset, label=self.about.label)
        of_set = lake.matches(dataset=self.about.dataset)
        catalog = read_table(spark, settings, CATALOG).filter(of_set)
        mine = lake.matches(dataset=self.about.dataset, encoder_version=self.about.encoder_version)
        embeddings = read_table(spark, settings, EMBEDDINGS).filter(mine)
        self.stored = read_table(spark, settings, TAGS).filter(self.here)
        # A vector of older content says nothing of the photo as it is now.
        vectors = embeddings.join(catalog, ["image_id", "content_sha256"], "left_semi")
        lacking = catalog if everything else catalog.filter(facts.lacks_label(self.about.label, self.about.dataset))
        known = self.stored.select("image_id")
        ids = lacking.select("image_id").union(known).distinct()
        self.wanted = vectors.join(ids, "image_id", "left_semi").select(
            "image_id", "product_id", "content_sha256", "embedding"
        )

    def bring(self) -> dict[str, Any]:
        current = self.stored.filter(lake.matches(classifier_version=self.version))
        stale = self.wanted.join(
            current.select("image_id", "content_sha256"), ["image_id", "content_sha256"], "left_anti"
        )
        gone = self.stored.join(self.wanted.select("image_id"), "image_id", "left_anti").select("image_id")
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
        stale = wanted.join(current, ["product_id", "images_md5"], "left_anti")
        gone = stored.join(wanted, "product_id", "left_anti").select("product_id")
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
                merge_or_append(self.spark, self.settings, table, source, self.within)
        return made, left

    def _photos(self, stale: DataFrame) -> DataFrame:
        sent, same, moment = self.spark.sparkContext.broadcast(self.classifier), self._same(), lake.now()

        def tag(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            classifier = sent.value
            for batch in batches:
                vectors = matrix(batch["embedding"])
                said = _columns(classifier, classifier.log_probabilities(vectors), classifier.distances(vectors))
                own = {name: batch[name] for name in ("image_id", "content_sha256")}
                yield _batch(TAGS, {**own, **said}, same, moment)

        return stale.mapInArrow(tag, spark_schema(TAGS.schema))

    def _of_products(self, stale: DataFrame) -> DataFrame:
        sent, same, moment = self.spark.sparkContext.broadcast(self.classifier), self._same(), lake.now()

        def tag(rows: pa.Table) -> pa.Table:
            classifier = sent.value
            vectors = matrix(rows["embedding"])
            mean = classifier.log_probabilities(vectors).mean(0, keepdims=True)
            mean -= np.log(np.exp(mean).sum())
            said = _columns(classifier, mean, classifier.distances(vectors).mean(keepdims=True))
            own = {name: rows[name].combine_chunks()[:1] for name in ("product_id", "images_md5")}
            return pa.Table.from_batches([_batch(PRODUCT_TAGS, {**own, **said}, same, moment)])

        photos = self.wanted.join(stale, "product_id").select("product_id", "images_md5", "embedding")
        return photos.groupBy("product_id").applyInArrow(tag, spark_schema(PRODUCT_TAGS.schema))

    def _same(self) -> dict[str, str]:
        return {
            "label": self.about.label,
            "dataset": self.about.dataset,
            "classifier_version": self.version,
            "encoder_version": self.about.encoder_version,
        }


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
