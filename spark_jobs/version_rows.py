"""One encoder version's rows of a data set: what they miss, and the commit that brings them to the catalog.

Whoever computes the missing vectors puts them under ``staging``, by content, and then commits: new and changed photos,
relabelled ones without a new vector, photos that left, the quarantine, and the products' vectors. For networks, whose
vectors are dear; ``apply_head`` computes its own anew.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs import staging
from spark_jobs.backfill_order import First
from spark_jobs.embed_products import embed_products
from spark_jobs.quarantine import merge_quarantine
from spark_jobs.session import append_table, merge_table, read_table, spark_schema
from vitrine import lake
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, ENCODERS, QUARANTINE

STAGED = pa.schema(
    [
        ("content_sha256", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("code", pa.string()),
        ("reason", pa.string()),
        ("encoder_version", pa.string()),
    ]
)
"""A vector, or why there is none, by content: what a task leaves under ``staging``."""
LABELS = ("product_id", "category", "split")
"""What an image is said to be; it follows the catalog without a new vector."""
_COPIES = 4


def stage(settings: Settings, dataset: str, vectors: DataFrame) -> None:
    """Compute ``vectors``, rows of ``STAGED``, into the staging of their versions; each task's end is a checkpoint."""
    # 2: a task's files are there when it ends, not when the job does.
    staged = vectors.write.mode("append").option("mapreduce.fileoutputcommitter.algorithm.version", "2")
    staged.partitionBy("encoder_version").parquet(staging.folder(settings, dataset))


@dataclass(frozen=True)
class Version:
    """An encoder version, as ``encoders`` registers it."""

    encoder: str
    encoder_version: str
    dim: int
    backbone: str
    family: str
    weights_uri: str
    licence: str
    strategy: str = "pretrained"
    source_dataset: str | None = None
    base_version: str | None = None
    cost: str | None = None
    mlflow_run: str | None = None

    def figures(self) -> dict[str, Any]:
        return {"encoder_version": self.encoder_version, "dim": self.dim}


def register(settings: Settings, version: Version) -> None:
    """The version's row of ``encoders``; one that is there keeps all but its state, which follows ``[nightly]``."""
    where = f"encoder_version = {lake.quote(version.encoder_version)}"
    known = lake.rows(settings, f"SELECT * FROM {ENCODERS.name} WHERE {where}")
    state = "nightly" if version.encoder in settings.nightly.encoders else "experiment"
    if known and known[0]["state"] in (state, "retired"):
        return
    row = known[0] | {"state": state} if known else {**asdict(version), "state": state, "created_at": lake.now()}
    data = pa.Table.from_pylist([row], schema=ENCODERS.schema)
    lake.write(settings, ENCODERS, data, replacing={"encoder_version": version.encoder_version})


def nothing(unchanged: int) -> dict[str, Any]:
    """The figures of a run that found nothing to do."""
    zero = ("embedded", "updated", "deleted", "quarantined", "computed", "products", "products_deleted")
    return {**dict.fromkeys(zero, 0), "unchanged": unchanged}


class VersionRows:
    """One version's part of a pass over a data set."""

    def __init__(
        self, spark: SparkSession, settings: Settings, version: Version, dataset: str, first: First | None = None
    ) -> None:
        self.spark, self.settings, self.registered, self.dataset = spark, settings, version, dataset
        self.version = version.encoder_version
        self.total = self.missing = self.left = 0
        self.catalog = read_table(spark, settings, CATALOG).filter(F.col("dataset") == dataset)
        self.stored = read_table(spark, settings, EMBEDDINGS)
        self.own = self.stored.filter((F.col("encoder_version") == self.version) & (F.col("dataset") == dataset))
        have = self.own.select("image_id", "content_sha256")
        self.todo = self.all_missing = self.catalog.join(have, ["image_id", "content_sha256"], "left_anti")
        self.refused_before = self._refused_before() if first else None
        if first and self.refused_before is not None:
            others = self.todo.join(self.refused_before, "image_id", "left_anti")
            self.todo = first.of(spark, settings, dataset, others)
        same_labels = " AND ".join(f"c.{name} <=> e.{name}" for name in LABELS)
        self.relabelled = (
            self.own.alias("e")
            .join(self.catalog.alias("c"), ["image_id", "content_sha256"])
            .filter(f"NOT ({same_labels})")
            .select(
                "image_id",
                "content_sha256",
                *(F.col(f"c.{name}") for name in LABELS),
                *(F.col(f"e.{name}") for name in ("event_timestamp", "encoder_version", "encoder")),
            )
        )
        # Rows that keep or lose their vector travel without it: the vectors are nearly all of the table's bytes.
        ids = self.stored.filter(F.col("dataset") == dataset).select(*EMBEDDINGS.key)
        self.gone = ids.join(self.catalog, "image_id", "left_anti")

    def _refused_before(self) -> DataFrame:
        """Photos that could not be embedded when they were tried: a backfill does not try them again with each piece,
        and they stay in the quarantine."""
        mine = (F.col("dataset") == self.dataset) & (F.col("stage") == "embed")
        mine &= F.col("encoder") == self.registered.encoder
        refused = read_table(self.spark, self.settings, QUARANTINE).filter(mine)
        return refused.join(self.all_missing, "image_id", "left_semi").select("image_id", "uri", "code", "reason")

    def plan(self) -> dict[str, Any]:
        """What ``run`` would do."""
        return {
            "dry_run": True,
            "to_embed": self.todo.count(),
            "to_compute": self.to_compute().count(),
            "to_update": self.relabelled.count(),
            "to_delete": self.gone.count(),
            "total": self.catalog.count(),
        }

    def share_deletions(self, versions: list[str]) -> None:
        """Of ``versions``, whose jobs share the pass, each deletes its own rows, and the first one all others'.

        A photo that moved still lends its vector to its new place until its own version's commit.
        """
        mine = F.col("encoder_version") == self.version
        rest = ~F.col("encoder_version").isin(versions) if self.version == versions[0] else F.lit(False)
        self.gone = self.gone.filter(mine | rest)

    def start(self) -> None:
        """Note the version, and hold what is missing as it is now."""
        register(self.settings, self.registered)
        self.todo = self.todo.persist(StorageLevel.DISK_ONLY)
        self.total, self.missing = self.catalog.count(), self.todo.count()
        self.left = 0 if self.refused_before is None else self.all_missing.count() - self.missing

    def end(self) -> None:
        self.todo.unpersist()

    def clear_staging(self) -> None:
        """Forget the checkpoints, after the commit."""
        staging.clear(self.spark, self.settings, self.dataset, self.version)

    def _known_vectors(self) -> DataFrame:
        """Vectors of the missing content that are there already: embedded for another image, or by a killed run."""
        contents = self.todo.select("content_sha256").distinct()
        stored = self.stored.filter(F.col("encoder_version") == self.version)
        known = stored.join(contents, "content_sha256", "left_semi").select("content_sha256", "embedding")
        staged = self._staged().filter("embedding IS NOT NULL").select("content_sha256", "embedding")
        return known.unionByName(staged).groupBy("content_sha256").agg(F.first("embedding").alias("embedding"))

    def _staged(self) -> DataFrame:
        schema = spark_schema(pa.schema([field for field in STAGED if field.name != "encoder_version"]))
        folder = staging.folder(self.settings, self.dataset, self.version)
        if staging.has_vectors(self.spark, folder):
            return self.spark.read.schema(schema).parquet(folder)
        # Not createDataFrame([]): that would start a worker, and an environment of its own a daemon, for nothing.
        return self.spark.range(0).select(*(F.lit(None).cast(f.dataType).alias(f.name) for f in schema.fields))

    def to_compute(self) -> DataFrame:
        """Some uris for each content that has no vector yet: where one copy is damaged by now, another may do."""
        uris = F.slice(F.sort_array(F.collect_set("uri")), 1, _COPIES)
        missing = self.todo.groupBy("content_sha256").agg(uris.alias("uris"))
        return missing.join(self._known_vectors().select("content_sha256"), "content_sha256", "left_anti")

    def commit(self) -> dict[str, Any]:
        """Images, quarantine, products: each one commit, each found again by the next run where this one is killed."""
        total, missing = self.total, self.missing
        moment = lake.now()
        fresh = self.todo.join(self._known_vectors(), "content_sha256")
        failed = self._staged().filter("embedding IS NULL").dropDuplicates(["content_sha256"])
        refused = self.todo.join(failed, "content_sha256").join(fresh.select("image_id"), "image_id", "left_anti")
        refused = refused.persist(StorageLevel.DISK_ONLY)
        quarantined = refused.count() if missing else 0
        updated = self.relabelled.count()
        versions = [row[0] for row in self.gone.select("encoder_version").distinct().collect()]
        deleted = self.gone.count() if versions else 0
        if missing or updated or deleted:
            source = self._relabelled_rows(moment).unionByName(leaving(self.gone))
            if missing:
                source = source.unionByName(self._rows(fresh, moment))
                # A changed photo that cannot be embedded any more must not keep the vector of what it showed before.
                stale = self.own.select(*EMBEDDINGS.key).join(refused, "image_id", "left_semi")
                source = source.unionByName(leaving(stale))
            touched = ", ".join(lake.quote(version) for version in sorted({*versions, self.version}))
            within = f"t.dataset = {lake.quote(self.dataset)} AND t.encoder_version IN ({touched})"
            if lake.rows(self.settings, f"SELECT 1 FROM {EMBEDDINGS.name} t WHERE {within} LIMIT 1"):
                merge_table(self.spark, self.settings, EMBEDDINGS, source, within, known=("embedding",))
            else:
                append_table(self.settings, EMBEDDINGS, self._rows(fresh, moment))
        bad = refused.select("image_id", "uri", "code", "reason")
        if self.refused_before is not None:
            bad = bad.unionByName(self.refused_before)
        merge_quarantine(self.spark, self.settings, self.dataset, "embed", self.registered.encoder, bad, moment)
        refused.unpersist()
        made = embed_products(self.spark, self.settings, self.dataset, self.version)
        for version in versions:
            if version != self.version:  # photos that left took their vectors of every version along
                embed_products(self.spark, self.settings, self.dataset, version)
        return {
            **made,
            "embedded": missing - quarantined,
            "unchanged": total - missing - self.left - updated,
            "updated": updated,
            "deleted": deleted,
            "quarantined": quarantined,
        }

    def _rows(self, fresh: DataFrame, moment: datetime) -> DataFrame:
        return fresh.select(
            *("image_id", "dataset", *LABELS, "content_sha256", "embedding"),
            F.lit(self.version).alias("encoder_version"),
            F.lit(self.registered.encoder).alias("encoder"),
            F.col("content_seen_at").alias("event_timestamp"),
            F.lit(moment).alias("created_timestamp"),
            F.lit(False).alias("gone"),
        ).select(*EMBEDDINGS.schema.names, "gone")

    def _relabelled_rows(self, moment: datetime) -> DataFrame:
        return self.relabelled.withColumns(
            {
                "dataset": F.lit(self.dataset),
                "created_timestamp": F.lit(moment),
                "embedding": F.lit(None).cast("array<float>"),  # as it is
                "gone": F.lit(False),
            }
        ).select(*EMBEDDINGS.schema.names, "gone")


def leaving(rows: DataFrame) -> DataFrame:
    """Keys of embeddings as rows of a merge that delete them."""
    known = {name: F.col(name) for name in EMBEDDINGS.key}
    schema = spark_schema(EMBEDDINGS.schema)
    columns = [known.get(f.name, F.lit(None).cast(f.dataType)).alias(f.name) for f in schema.fields]
    return rows.select(*columns, F.lit(True).alias("gone"))
