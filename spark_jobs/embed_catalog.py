"""The catalog's photos to vectors: what is missing, and nothing else.

One commit an encoder brings a data set's rows of its version to the catalog: new and changed photos embedded (equal
content once), relabelled ones updated without a forward pass, the rows of photos that left deleted for every version.
Several encoders share one pass over the photos. A run checkpoints its vectors by content under ``staging/``, so that a
killed one goes on where it was.
"""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import reduce
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark import InheritableThread, StorageLevel
from pyspark.accumulators import Accumulator
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs import cost
from spark_jobs.embed_products import embed_products, products_settled
from spark_jobs.plan import EncoderPlan, count_tasks, plan
from spark_jobs.quarantine import merge_quarantine
from spark_jobs.session import build_session, merge_table, progress, read_table, spark_schema
from spark_jobs.worker_daemon import PRELOAD, preload_value
from vitrine import backbones, lake, networks, tracking
from vitrine.backbones import Backbone
from vitrine.errors import UserError, VitrineError
from vitrine.networks import Identity
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, ENCODERS

_STAGED = pa.schema(
    [
        ("content_sha256", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("code", pa.string()),
        ("reason", pa.string()),
        ("encoder_version", pa.string()),
    ]
)
_LABELS = ("product_id", "category", "split")
_COPIES = 4
_COMMITTER = "mapreduce.fileoutputcommitter.algorithm.version"  # 2: a task's files are there when it ends, not the job


def embed(settings: Settings, encoder: str, dataset: str, *, dry_run: bool = False) -> dict[str, Any]:
    """As ``embed_together``, with one encoder."""
    return embed_together(settings, [encoder], dataset, dry_run=dry_run)[0]


def embed_together(
    settings: Settings, encoders: Sequence[str], dataset: str, *, dry_run: bool = False
) -> list[dict[str, Any]]:
    """Bring the embeddings of ``dataset`` by each of ``encoders`` to its catalog, in one pass over the photos.

    Returns:
        The figures of ``embed --json``, an object an encoder, in the order given; what a shared pass cost is split by
        the clock time of their networks.

    Raises:
        UserError: unknown encoder or data set, weights that cannot be had or do not fit, one version under two names.
    """
    chosen = [backbones.resolve(settings, name) for name in dict.fromkeys(encoders)]
    lake.check_dataset(settings, dataset)
    identities = [networks.identify(settings, backbone) for backbone in chosen]
    _refuse_twins(chosen, identities)
    figures: dict[str, dict[str, Any]] = {}
    busy: list[tuple[Backbone, Identity]] = []
    for backbone, identity in zip(chosen, identities, strict=True):
        unchanged = None if dry_run else _settled(settings, backbone, identity, dataset)
        if unchanged is None:
            busy.append((backbone, identity))
        else:
            figures[backbone.name] = _nothing(unchanged) | _named(identity)
    if busy:
        if not dry_run:
            tracking.load_mlflow()
        spark = build_session(settings, f"embed {dataset} {' '.join(backbone.name for backbone, _ in busy)}")
        if not dry_run:
            warm_workers(spark, [(backbone, identity.dim) for backbone, identity in busy])
        jobs = [_Job(spark, settings, backbone, identity, dataset) for backbone, identity in busy]
        versions = [job.version for job in jobs]
        for job in jobs:
            job.share_deletions(versions)
        done = [job.plan() for job in jobs] if dry_run else _run(spark, settings, jobs, dataset)
        figures |= {job.backbone.name: result for job, result in zip(jobs, done, strict=True)}
    return [figures[backbone.name] for backbone in chosen]


def _refuse_twins(chosen: list[Backbone], identities: list[Identity]) -> None:
    first: dict[str, str] = {}
    for backbone, identity in zip(chosen, identities, strict=True):
        twin = first.setdefault(identity.encoder_version, backbone.name)
        if twin != backbone.name:
            raise UserError(
                f"encoders {twin!r} and {backbone.name!r} are one version, {identity.encoder_version}: "
                "they have the same weights and preprocessing; ask for one of them"
            )


def _named(identity: Identity) -> dict[str, Any]:
    return {"encoder_version": identity.encoder_version, "dim": identity.dim}


def _nothing(unchanged: int) -> dict[str, Any]:
    zero = ("embedded", "updated", "deleted", "quarantined", "computed", "products", "products_deleted")
    return {**dict.fromkeys(zero, 0), "unchanged": unchanged}


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
    if not products_settled(settings, dataset, identity.encoder_version):
        return None
    if not lake.rows(settings, registered) or any(lake.rows(settings, sql) for sql in open_cases):
        return None
    return int(lake.rows(settings, f"SELECT count(*) AS n FROM catalog WHERE dataset = {name}")[0]["n"])


def _run(spark: SparkSession, settings: Settings, jobs: list["_Job"], dataset: str) -> list[dict[str, Any]]:
    """One pass over the photos that any of ``jobs`` misses, then a commit each."""
    staging = settings.home / "staging" / dataset
    spent = spark.sparkContext.accumulator(cost.Cost(), cost.Sum())
    meter = cost.Meter(settings, spark)
    try:
        for job in jobs:
            job.start()
        computed = _compute(spark, settings, jobs, dataset, spent)
        figures = [job.commit() for job in jobs]
        for job in jobs:
            shutil.rmtree(job.staging, ignore_errors=True)
        if staging.is_dir() and not any(staging.glob("encoder_version=*")):
            shutil.rmtree(staging, ignore_errors=True)
        bills = meter.bills(spent.value, [job.backbone.name for job in jobs])
        return [
            {**figure, "computed": computed[job.version], **_named(job.identity), **bill}
            for job, figure, bill in zip(jobs, figures, bills, strict=True)
        ]
    finally:
        for job in jobs:
            job.end()


def warm_workers(spark: SparkSession, chosen: list[tuple[Backbone, int]]) -> None:
    """Let the workers load ``chosen`` from now on: planning keeps the JVM busy, loading Python.

    Nobody waits for it: the first task that needs a worker does.
    """
    context = spark.sparkContext
    if PRELOAD in context.environment:  # another value would start another daemon; this one has the libraries
        return
    context.environment[PRELOAD] = preload_value(chosen)
    # In SQL, as the work itself: what runs RDDs has another environment, and so another daemon.
    nothing = spark.range(0, 1, 1, 1).mapInArrow(lambda batches: batches, "id long")
    InheritableThread(target=nothing.collect, daemon=True).start()


def _compute(
    spark: SparkSession, settings: Settings, jobs: list["_Job"], dataset: str, spent: "Accumulator[cost.Cost]"
) -> dict[str, int]:
    """Embed what is missing, each task's end a checkpoint; how many contents each version was computed for."""
    busy = [job for job in jobs if job.missing]
    if not busy:
        return dict.fromkeys((job.version for job in jobs), 0)
    each = [job.to_compute().withColumn("number", F.lit(number)) for number, job in enumerate(busy)]
    numbers = F.sort_array(F.collect_set("number")).alias("numbers")
    work = reduce(DataFrame.unionByName, each).groupBy("content_sha256").agg(numbers, F.first("uris").alias("uris"))
    work = work.persist(StorageLevel.DISK_ONLY)
    counts = {row["number"]: row["n"] for row in _counted(work)}
    count = work.count()
    worker = _worker([(plan(spark, settings, job.backbone), job.version) for job in busy], settings, spent)
    parts = count_tasks(count, spark.sparkContext.defaultParallelism, settings.embed.task_photos)
    vectors = work.repartition(parts).mapInArrow(worker, spark_schema(_STAGED))
    try:
        with progress(spark, f"embedding {dataset} with {', '.join(job.backbone.name for job in busy)}", count):
            staged = vectors.write.mode("append").option(_COMMITTER, "2").partitionBy("encoder_version")
            staged.parquet(str(settings.home / "staging" / dataset))
    except (PySparkException, Py4JJavaError) as error:
        if told := re.search(r"vitrine\.errors\.\w+: (.+)", str(error)):  # what a worker says of its machine
            raise VitrineError(told[1]) from None
        raise
    finally:
        work.unpersist()
    return {job.version: counts.get(busy.index(job), 0) if job in busy else 0 for job in jobs}


def _counted(work: DataFrame) -> list[Any]:
    return work.select(F.explode("numbers").alias("number")).groupBy("number").agg(F.count("*").alias("n")).collect()


class _Job:
    """One encoder's part: what it misses, and its commit."""

    def __init__(
        self, spark: SparkSession, settings: Settings, backbone: Backbone, identity: Identity, dataset: str
    ) -> None:
        self.spark, self.settings, self.backbone, self.identity = spark, settings, backbone, identity
        self.dataset, self.version = dataset, identity.encoder_version
        self.staging = settings.home / "staging" / dataset / f"encoder_version={self.version}"
        self.total = self.missing = 0
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
        self._register()
        self.todo = self.todo.persist(StorageLevel.DISK_ONLY)
        self.total, self.missing = self.catalog.count(), self.todo.count()

    def end(self) -> None:
        self.todo.unpersist()

    def _known_vectors(self) -> DataFrame:
        """Vectors of the missing content that are there already: embedded for another image, or by a killed run."""
        contents = self.todo.select("content_sha256").distinct()
        stored = self.stored.filter(F.col("encoder_version") == self.version)
        known = stored.join(contents, "content_sha256", "left_semi").select("content_sha256", "embedding")
        staged = self._staged().filter("embedding IS NOT NULL").select("content_sha256", "embedding")
        return known.unionByName(staged).groupBy("content_sha256").agg(F.first("embedding").alias("embedding"))

    def _staged(self) -> DataFrame:
        schema = spark_schema(pa.schema([field for field in _STAGED if field.name != "encoder_version"]))
        if any(self.staging.glob("*.parquet")):
            return self.spark.read.schema(schema).parquet(str(self.staging))
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
            source = self._rows(fresh, moment).unionByName(self._relabelled_rows(moment))
            source = source.unionByName(self.gone.withColumn("gone", F.lit(True)))
            # A changed photo that cannot be embedded any more must not keep the vector of what it showed before.
            stale = self.own.join(refused, "image_id", "left_semi").withColumn("gone", F.lit(True))
            touched = ", ".join(lake.quote(version) for version in sorted({*versions, self.version}))
            within = f"t.dataset = {lake.quote(self.dataset)} AND t.encoder_version IN ({touched})"
            first = not lake.rows(self.settings, f"SELECT 1 FROM {EMBEDDINGS.name} t WHERE {within} LIMIT 1")
            merge_table(self.spark, self.settings, EMBEDDINGS, source.unionByName(stale), within, only_insert=first)
        bad = refused.select("image_id", "uri", "code", "reason")
        merge_quarantine(self.spark, self.settings, self.dataset, "embed", self.backbone.name, bad, moment)
        refused.unpersist()
        made = embed_products(self.spark, self.settings, self.dataset, self.version)
        for version in versions:
            if version != self.version:  # photos that left took their vectors of every version along
                embed_products(self.spark, self.settings, self.dataset, version)
        return {
            **made,
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
            "licence": self._licence(),
            "created_at": lake.now(),
        }

    def _licence(self) -> str:
        said = self.backbone.licence
        return (self.identity.licence or said) if said == backbones.UNKNOWN_LICENCE else said


def _worker(
    plans: list[tuple[EncoderPlan, str]], settings: Settings, spent: "Accumulator[cost.Cost]"
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    asked = settings.embed.device

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Here, so that only workers load torch.
        from spark_jobs.encoder import encode, kept
        from spark_jobs.resources import task_device, task_place

        device = task_device(asked)
        encoders = kept([plan for plan, _ in plans], device)
        photos = (
            photo
            for batch in batches
            for photo in zip(*(batch[name].to_pylist() for name in ("content_sha256", "uris", "numbers")), strict=True)
        )
        mine = cost.Cost(devices={task_place(device)})
        for number, done in encode(encoders, photos, keys_are_contents=True, cost=mine):
            bad, n = done.refused, len(done.keys)
            values = pa.array(done.vectors.reshape(-1), pa.float32())
            offsets = pa.array(range(0, len(values) + 1, encoders[number].built.dim), pa.int32())
            vectors = pa.ListArray.from_arrays(offsets, values)
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array([*done.keys, *(key for key, _, _ in bad)], pa.string()),
                    pa.concat_arrays([vectors, pa.nulls(len(bad), vectors.type)]),
                    pa.array([None] * n + [code for _, code, _ in bad], pa.string()),
                    pa.array([None] * n + [reason for _, _, reason in bad], pa.string()),
                    pa.array([plans[number][1]] * (n + len(bad)), pa.string()),
                ],
                schema=_STAGED,
            )
        spent.add(mine)

    return rows
