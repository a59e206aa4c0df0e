"""The catalog's photos to vectors: what is missing, and nothing else.

One commit brings a data set's rows of one encoder version to its catalog: new and changed photos embedded (equal
content once), relabelled ones updated without a forward pass, the rows of photos that left deleted for every version.
A run checkpoints its vectors by content under ``staging/``, so that a killed one goes on where it was.
"""

import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs.encoder import EncoderPlan, kept
from spark_jobs.quarantine import merge_quarantine
from spark_jobs.session import build_session, merge_table, progress, read_table, spark_schema
from vitrine import backbones, lake, networks
from vitrine.backbones import Backbone
from vitrine.networks import Identity
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, ENCODERS

_STAGED = pa.schema(
    [
        ("content_sha256", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("code", pa.string()),
        ("reason", pa.string()),
    ]
)
_LABELS = ("product_id", "category", "split")
_PHOTOS_A_TASK = 64
_COPIES = 4


def embed(settings: Settings, encoder: str, dataset: str, *, dry_run: bool = False) -> dict[str, Any]:
    """Bring the embeddings of ``dataset`` by ``encoder`` to its catalog; the figures of ``embed --json``.

    Raises:
        UserError: unknown encoder or data set, weights that cannot be had or do not fit.
    """
    backbone = backbones.resolve(settings, encoder)
    lake.check_dataset(settings, dataset)
    identity = networks.identify(settings, backbone)
    if not dry_run and (unchanged := _settled(settings, backbone, identity, dataset)) is not None:
        nothing = dict.fromkeys(("embedded", "updated", "deleted", "quarantined", "computed"), 0)
        return {**nothing, "unchanged": unchanged, "encoder_version": identity.encoder_version, "dim": identity.dim}
    spark = build_session(settings, f"embed {dataset} {encoder}")
    job = _Job(spark, settings, backbone, identity, dataset)
    return job.plan() if dry_run else job.run()


def _settled(settings: Settings, backbone: Backbone, identity: Identity, dataset: str) -> int | None:
    """The number of photos where nothing at all is to be done, else None: most nights start no JVM for a data set."""
    version, name = lake.quote(identity.encoder_version), lake.quote(dataset)
    state = "nightly" if backbone.name in settings.nightly.encoders else "experiment"
    same = " AND ".join(f"(c.{column} IS NOT DISTINCT FROM e.{column})" for column in ("content_sha256", *_LABELS))
    open_cases = (
        f"SELECT 1 FROM quarantine WHERE dataset = {name} AND stage = 'embed' "
        f"AND encoder = {lake.quote(backbone.name)} LIMIT 1",
        f"SELECT 1 FROM (SELECT * FROM embeddings WHERE dataset = {name}) e LEFT ANTI JOIN "
        f"(SELECT image_id FROM catalog WHERE dataset = {name}) c ON e.image_id = c.image_id LIMIT 1",
        f"SELECT 1 FROM (SELECT * FROM catalog WHERE dataset = {name}) c LEFT ANTI JOIN "
        f"(SELECT image_id, {', '.join(('content_sha256', *_LABELS))} FROM embeddings WHERE dataset = {name} "
        f"AND encoder_version = {version}) e ON c.image_id = e.image_id AND {same} LIMIT 1",
    )
    registered = f"SELECT 1 FROM encoders WHERE encoder_version = {version} AND state IN ('retired', '{state}')"
    if not lake.rows(settings, registered) or any(lake.rows(settings, sql) for sql in open_cases):
        return None
    return int(lake.rows(settings, f"SELECT count(*) AS n FROM catalog WHERE dataset = {name}")[0]["n"])


class _Job:
    def __init__(
        self, spark: SparkSession, settings: Settings, backbone: Backbone, identity: Identity, dataset: str
    ) -> None:
        self.spark, self.settings, self.backbone, self.identity = spark, settings, backbone, identity
        self.dataset, self.version = dataset, identity.encoder_version
        self.staging = settings.home / "staging" / f"{dataset}-{self.version}"
        self.catalog = read_table(spark, settings, CATALOG).filter(F.col("dataset") == dataset)
        self.stored = read_table(spark, settings, EMBEDDINGS)
        self.own = self.stored.filter((F.col("encoder_version") == self.version) & (F.col("dataset") == dataset))
        have = self.own.select("image_id", "content_sha256")
        self.todo = self.catalog.join(have, ["image_id", "content_sha256"], "left_anti")
        same_labels = " AND ".join(f"c.{name} <=> e.{name}" for name in _LABELS)
        self.relabelled = (
            self.own.alias("e")
            .join(self.catalog.alias("c"), ["image_id", "content_sha256"])
            .filter(f"NOT ({same_labels})")
            .select(
                "image_id",
                "content_sha256",
                *(F.col(f"c.{name}") for name in _LABELS),
                *(F.col(f"e.{name}") for name in ("embedding", "event_timestamp", "encoder_version", "encoder")),
            )
        )
        self.gone = self.stored.filter(F.col("dataset") == dataset).join(self.catalog, "image_id", "left_anti")

    def plan(self) -> dict[str, Any]:
        """What ``run`` would do."""
        return {
            "dry_run": True,
            "to_embed": self.todo.count(),
            "to_compute": self._to_compute().count(),
            "to_update": self.relabelled.count(),
            "to_delete": self.gone.count(),
            "total": self.catalog.count(),
        }

    def run(self) -> dict[str, Any]:
        self._register()
        todo = self.todo.persist(StorageLevel.DISK_ONLY)
        self.todo = todo
        try:
            total, missing = self.catalog.count(), todo.count()
            computed = self._compute() if missing else 0
            figures = self._commit(total, missing)
            shutil.rmtree(self.staging, ignore_errors=True)
            return {**figures, "computed": computed, "encoder_version": self.version, "dim": self.identity.dim}
        finally:
            todo.unpersist()

    def _known_vectors(self) -> DataFrame:
        """Vectors of the missing content that are there already: embedded for another image, or by a killed run."""
        contents = self.todo.select("content_sha256").distinct()
        stored = self.stored.filter(F.col("encoder_version") == self.version)
        known = stored.join(contents, "content_sha256", "left_semi").select("content_sha256", "embedding")
        staged = self._staged().filter("embedding IS NOT NULL").select("content_sha256", "embedding")
        return known.unionByName(staged).groupBy("content_sha256").agg(F.first("embedding").alias("embedding"))

    def _staged(self) -> DataFrame:
        if any(self.staging.glob("*.parquet")):
            return self.spark.read.schema(spark_schema(_STAGED)).parquet(str(self.staging))
        return self.spark.createDataFrame([], spark_schema(_STAGED))

    def _to_compute(self) -> DataFrame:
        """Some uris for each content that has no vector yet: where one copy is damaged by now, another may do."""
        uris = F.slice(F.sort_array(F.collect_set("uri")), 1, _COPIES)
        missing = self.todo.groupBy("content_sha256").agg(uris.alias("uris"))
        return missing.join(self._known_vectors().select("content_sha256"), "content_sha256", "left_anti")

    def _compute(self) -> int:
        """Embed wave by wave; each wave's end is a checkpoint."""
        work = self._to_compute().persist(StorageLevel.DISK_ONLY)
        count = work.count()
        waves = math.ceil(count / self.settings.embed.wave)
        worker = _worker(self._plan())
        try:
            for wave in range(waves):
                mine = work.filter(F.pmod(F.xxhash64("content_sha256"), F.lit(waves)) == wave)
                size = math.ceil(count / waves)
                parts = max(self.spark.sparkContext.defaultParallelism, math.ceil(size / _PHOTOS_A_TASK))
                what = f"embedding {self.dataset} with {self.backbone.name}" + f" {wave + 1}/{waves}" * (waves > 1)
                with progress(self.spark, what, size):
                    vectors = mine.repartition(parts).mapInArrow(worker, spark_schema(_STAGED))
                    vectors.write.mode("append").parquet(str(self.staging))
        finally:
            work.unpersist()
        return count

    def _plan(self) -> EncoderPlan:
        context = self.spark.sparkContext
        local = context.master.startswith("local")
        # Two tasks must never fight over cores.
        threads = (
            (os.cpu_count() or 1) // context.defaultParallelism if local else int(self._conf("spark.task.cpus", "1"))
        )
        options = self.settings.embed
        return EncoderPlan(
            self.backbone, options.batch_size, options.precision, self.settings.max_pixels, max(1, threads)
        )

    def _conf(self, key: str, default: str) -> str:
        return str(self.spark.sparkContext.getConf().get(key, default))

    def _commit(self, total: int, missing: int) -> dict[str, Any]:
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
            source = self._rows(fresh, moment).unionByName(self._relabelled_rows(moment))
            source = source.unionByName(self.gone.withColumn("gone", F.lit(True)))
            # A changed photo that cannot be embedded any more must not keep the vector of what it showed before.
            stale = self.own.join(refused, "image_id", "left_semi").withColumn("gone", F.lit(True))
            touched = ", ".join(lake.quote(version) for version in sorted({*versions, self.version}))
            within = f"t.dataset = {lake.quote(self.dataset)} AND t.encoder_version IN ({touched})"
            merge_table(self.spark, self.settings, EMBEDDINGS, source.unionByName(stale), within)
        bad = refused.select("image_id", "uri", "code", "reason")
        merge_quarantine(self.spark, self.settings, self.dataset, "embed", self.backbone.name, bad, moment)
        refused.unpersist()
        return {
            "embedded": missing - quarantined,
            "unchanged": total - missing - updated,
            "updated": updated,
            "deleted": deleted,
            "quarantined": quarantined,
        }

    def _rows(self, fresh: DataFrame, moment: datetime) -> DataFrame:
        return fresh.select(
            *("image_id", "dataset", *_LABELS, "content_sha256", "embedding"),
            F.lit(self.version).alias("encoder_version"),
            F.lit(self.backbone.name).alias("encoder"),
            F.col("content_seen_at").alias("event_timestamp"),
            F.lit(moment).alias("created_timestamp"),
            F.lit(False).alias("gone"),
        ).select(*EMBEDDINGS.schema.names, "gone")

    def _relabelled_rows(self, moment: datetime) -> DataFrame:
        return self.relabelled.withColumns(
            {"dataset": F.lit(self.dataset), "created_timestamp": F.lit(moment), "gone": F.lit(False)}
        ).select(*EMBEDDINGS.schema.names, "gone")

    def _register(self) -> None:
        """The version's row of ``encoders``; one that is there keeps all but its state, which follows ``[nightly]``."""
        known = lake.rows(
            self.settings, f"SELECT * FROM {ENCODERS.name} WHERE encoder_version = {lake.quote(self.version)}"
        )
        state = "nightly" if self.backbone.name in self.settings.nightly.encoders else "experiment"
        if known and known[0]["state"] in (state, "retired"):
            return
        row = known[0] | {"state": state} if known else self._new_row(state)
        data = pa.Table.from_pylist([row], schema=ENCODERS.schema)
        lake.write(self.settings, ENCODERS, data, replacing={"encoder_version": self.version})

    def _new_row(self, state: str) -> dict[str, Any]:
        path = networks.weights_file(self.backbone)
        return {
            "encoder_version": self.version,
            "encoder": self.backbone.name,
            "state": state,
            "backbone": self.backbone.spelled,
            "family": self.backbone.family,
            "strategy": "pretrained",
            "source_dataset": None,
            "base_version": None,
            "dim": self.identity.dim,
            "weights_uri": str(path) if path else self.backbone.weights or "hub",
            "licence": self.backbone.licence,
            "created_at": lake.now(),
        }


def _worker(plan: EncoderPlan) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        encoder = kept(plan)
        photos = (
            (key, uris)
            for batch in batches
            for key, uris in zip(batch["content_sha256"].to_pylist(), batch["uris"].to_pylist(), strict=True)
        )
        for done in encoder.encode(photos, keys_are_contents=True):
            bad, n = done.refused, len(done.keys)
            values = pa.array(done.vectors.reshape(-1), pa.float32())
            offsets = pa.array(range(0, len(values) + 1, encoder.built.dim), pa.int32())
            vectors = pa.ListArray.from_arrays(offsets, values)
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array([*done.keys, *(key for key, _, _ in bad)], pa.string()),
                    pa.concat_arrays([vectors, pa.nulls(len(bad), vectors.type)]),
                    pa.array([None] * n + [code for _, code, _ in bad], pa.string()),
                    pa.array([None] * n + [reason for _, _, reason in bad], pa.string()),
                ],
                schema=_STAGED,
            )

    return rows
