"""The catalog's photos to vectors: what is missing, and nothing else.

One commit an encoder brings a data set's rows of its version to the catalog: new and changed photos embedded (equal
content once), relabelled ones updated without a forward pass, the rows of photos that left deleted for every version.
Several encoders share one pass over the photos. A run checkpoints its vectors by content under ``staging/``, so that a
killed one goes on where it was.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark import InheritableThread, StorageLevel
from pyspark.accumulators import Accumulator
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs.backfill_order import First
from spark_jobs.session import build_session, progress, spark_schema
from spark_jobs.version_rows import STAGED, Version, VersionRows, nothing, stage
from spark_jobs.worker import cost
from spark_jobs.worker.encoder_plan import EncoderPlan, count_tasks, plan
from spark_jobs.worker.worker_daemon import PRELOAD, preload_value
from vitrine import facts, locks, tracking
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import backbones, tuned
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.identity import Identity, identify
from vitrine.encoders.weights import weights_file
from vitrine.errors import UserError, VitrineError
from vitrine.settings import Settings


def embed(
    settings: Settings, encoder: str, dataset: str, *, dry_run: bool = False, first: First | None = None
) -> dict[str, Any]:
    """As ``embed_together``, with one encoder."""
    return embed_together(settings, [encoder], dataset, dry_run=dry_run, first=first)[0]


def embed_together(
    settings: Settings,
    encoders: Sequence[str],
    dataset: str,
    *,
    dry_run: bool = False,
    first: First | None = None,
) -> list[dict[str, Any]]:
    """Bring the embeddings of ``dataset`` by each of ``encoders`` to its catalog, in one pass over the photos.

    ``first`` embeds some of what is missing alone, and leaves the rest to a later run. One process at a time embeds a
    data set by a version: a night waits for a backfill's piece.

    Returns:
        The figures of ``embed --json``, an object an encoder, in the order given; what a shared pass cost is split by
        the clock time of their networks.

    Raises:
        UserError: unknown encoder or data set, weights that cannot be had or do not fit, one version under two names.
    """
    chosen = [backbones.resolve(settings, name) for name in dict.fromkeys(encoders)]
    facts.check_dataset(settings, dataset)
    identities = [identify(settings, backbone) for backbone in chosen]
    _refuse_twins(chosen, identities)
    figures: dict[str, dict[str, Any]] = {}
    busy: list[tuple[Backbone, Identity]] = []
    for backbone, identity in zip(chosen, identities, strict=True):
        unchanged = (
            None if dry_run else facts.settled(settings, EncodedSet(dataset, backbone.name, identity.encoder_version))
        )
        if unchanged is None:
            busy.append((backbone, identity))
        else:
            figures[backbone.name] = nothing(unchanged) | _version(settings, backbone, identity).figures()
    done = _embed_busy(settings, busy, dataset, dry_run, first) if busy else []
    figures |= {backbone.name: result for (backbone, _), result in zip(busy, done, strict=True)}
    return [figures[backbone.name] for backbone in chosen]


def _embed_busy(
    settings: Settings, busy: list[tuple[Backbone, Identity]], dataset: str, dry_run: bool, first: First | None
) -> list[dict[str, Any]]:
    if not dry_run:
        tracking.load_mlflow()
    spark = build_session(settings, f"embed {dataset} {' '.join(backbone.name for backbone, _ in busy)}")
    if not dry_run:
        warm_workers(spark, [(backbone, identity.dim) for backbone, identity in busy])
    # Two of one version would compute and stage the same, and each take the other's checkpoints away.
    names = [f"embed__{dataset}__{identity.encoder_version}" for _, identity in busy]
    with locks.held(settings, *([] if dry_run else names)):
        jobs = [VersionRows(spark, settings, _version(settings, *each), dataset, first) for each in busy]
        versions = [job.version for job in jobs]
        for job in jobs:
            job.share_deletions(versions)
        if dry_run:
            return [job.plan() for job in jobs]
        return _run(spark, settings, jobs, [each[0] for each in busy], dataset)


def _refuse_twins(chosen: list[Backbone], identities: list[Identity]) -> None:
    first: dict[str, str] = {}
    for backbone, identity in zip(chosen, identities, strict=True):
        twin = first.setdefault(identity.encoder_version, backbone.name)
        if twin != backbone.name:
            raise UserError(
                f"encoders {twin!r} and {backbone.name!r} are one version, {identity.encoder_version}: "
                "they have the same weights and preprocessing; ask for one of them"
            )


def _version(settings: Settings, backbone: Backbone, identity: Identity) -> Version:
    path = weights_file(backbone)
    made = tuned.find(settings, backbone.name)
    if made and (made.strategy != "full" or path != made.path(settings) / tuned.WEIGHTS):  # of vitrine.toml now
        made = None
    said = backbone.licence
    return Version(
        encoder=backbone.name,
        encoder_version=identity.encoder_version,
        dim=identity.dim,
        backbone=backbone.spelled,
        family=backbone.family,
        weights_uri=str(path) if path else backbone.weights or "hub",
        licence=(identity.licence or said) if said == backbones.UNKNOWN_LICENCE else said,
        **(made.registered() if made else {}),
    )


def _run(
    spark: SparkSession, settings: Settings, jobs: list[VersionRows], chosen: list[Backbone], dataset: str
) -> list[dict[str, Any]]:
    """One pass over the photos that any of ``jobs`` misses, then a commit each."""
    spent = spark.sparkContext.accumulator(cost.Cost(), cost.Sum())
    meter = cost.Meter(settings, spark)
    try:
        for job in jobs:
            job.start()
        computed = _compute(spark, settings, jobs, chosen, dataset, spent)
        figures = [job.commit() for job in jobs]
        for job in jobs:
            job.clear_staging()
        bills = meter.bills(spent.value, [backbone.name for backbone in chosen])
        return [
            {**figure, "computed": computed[job.version], **job.registered.figures(), **bill}
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
    spark: SparkSession,
    settings: Settings,
    jobs: list[VersionRows],
    chosen: list[Backbone],
    dataset: str,
    spent: "Accumulator[cost.Cost]",
) -> dict[str, int]:
    """Embed what is missing, each task's end a checkpoint; how many contents each version was computed for."""
    pairs = [(job, backbone) for job, backbone in zip(jobs, chosen, strict=True) if job.missing]
    busy = [job for job, _ in pairs]
    if not busy:
        return dict.fromkeys((job.version for job in jobs), 0)
    each = [job.to_compute().withColumn("number", F.lit(number)) for number, job in enumerate(busy)]
    numbers = F.sort_array(F.collect_set("number")).alias("numbers")
    work = reduce(DataFrame.unionByName, each).groupBy("content_sha256").agg(numbers, F.first("uris").alias("uris"))
    work = work.persist(StorageLevel.DISK_ONLY)
    counts = {row["number"]: row["n"] for row in _counted(work)}
    count = work.count()
    worker = _worker([(plan(spark, settings, backbone), job.version) for job, backbone in pairs], settings, spent)
    parts = count_tasks(count, spark.sparkContext.defaultParallelism, settings.embed.task_photos)
    vectors = work.repartition(parts).mapInArrow(worker, spark_schema(STAGED))
    try:
        with progress(spark, f"embedding {dataset} with {', '.join(backbone.name for _, backbone in pairs)}", count):
            stage(settings, dataset, vectors)
    except (PySparkException, Py4JJavaError) as error:
        if told := re.search(r"vitrine\.errors\.\w+: (.+)", str(error)):  # what a worker says of its machine
            raise VitrineError(told[1]) from None
        raise
    finally:
        work.unpersist()
    return {job.version: counts.get(busy.index(job), 0) if job in busy else 0 for job in jobs}


def _counted(work: DataFrame) -> list[Any]:
    return work.select(F.explode("numbers").alias("number")).groupBy("number").agg(F.count("*").alias("n")).collect()


def _worker(
    plans: list[tuple[EncoderPlan, str]], settings: Settings, spent: "Accumulator[cost.Cost]"
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    asked = settings.embed.device

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Here, so that only workers load torch.
        from spark_jobs.worker.encoder import encode, kept
        from spark_jobs.worker.task_device import task_device, task_place

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
            mine.refused += len(bad)
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
                schema=STAGED,
            )
        spent.add(mine)

    return rows
