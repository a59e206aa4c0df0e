"""The catalog's photos to vectors: what is missing, and nothing else.

One commit an encoder brings a data set's rows of its version to the catalog: new and changed photos embedded (equal
content once), relabelled ones updated without a forward pass, the rows of photos that left deleted for every version.
Several encoders share one pass over the photos. A run checkpoints its vectors by content under ``staging/``, so that a
killed one goes on where it was.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import reduce
from typing import Any

import pyarrow as pa
from pyspark import InheritableThread, TaskContext
from pyspark.accumulators import Accumulator
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs.backfill_order import Order
from spark_jobs.delta_tables import persisted, spark_schema
from spark_jobs.progress import progress
from spark_jobs.session import build_session
from spark_jobs.version_rows import STAGED, RegisteredVersion, VersionRows, Work, nothing, stage
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
from vitrine.vectors import lists


def embed(
    settings: Settings, encoder: str, dataset: str, *, dry_run: bool = False, first: Order | None = None
) -> dict[str, Any]:
    """As ``embed_together``, with one encoder."""
    return embed_together(settings, [encoder], dataset, dry_run=dry_run, first=first)[0]


def embed_together(
    settings: Settings,
    encoders: Sequence[str],
    dataset: str,
    *,
    dry_run: bool = False,
    first: Order | None = None,
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
    named = [backbones.resolve(settings, name) for name in dict.fromkeys(encoders)]
    facts.check_dataset(settings, dataset)
    identities = [identify(settings, backbone) for backbone in named]
    chosen = [identity.pinned(backbone) for identity, backbone in zip(identities, named, strict=True)]
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
            figures[backbone.name] = nothing(unchanged) | _registered(settings, backbone, identity).figures()
    done = _embed_busy(settings, busy, dataset, dry_run, first) if busy else []
    figures |= {backbone.name: result for (backbone, _), result in zip(busy, done, strict=True)}
    return [figures[backbone.name] for backbone in chosen]


def _embed_busy(
    settings: Settings, busy: list[tuple[Backbone, Identity]], dataset: str, dry_run: bool, first: Order | None
) -> list[dict[str, Any]]:
    if not dry_run:
        tracking.load_mlflow()
    names = " ".join(backbone.name for backbone, _ in busy)
    spark = build_session(settings, f"embed {dataset} {names}", computing=not dry_run)
    if not dry_run:
        warm_workers(spark, [(backbone, identity.dim) for backbone, identity in busy])
    # Two of one version would compute and stage the same, and each take the other's checkpoints away.
    writing = [f"embed__{dataset}__{identity.encoder_version}" for _, identity in busy]
    with locks.held(settings, *([] if dry_run else writing)):
        sharing = [identity.encoder_version for _, identity in busy]
        versions = [
            VersionRows(spark, settings, _registered(settings, *each), dataset, sharing, first) for each in busy
        ]
        if dry_run:
            return [rows.plan() for rows in versions]
        return _run(spark, settings, versions, [backbone for backbone, _ in busy], dataset)


def _refuse_twins(chosen: list[Backbone], identities: list[Identity]) -> None:
    first: dict[str, str] = {}
    for backbone, identity in zip(chosen, identities, strict=True):
        twin = first.setdefault(identity.encoder_version, backbone.name)
        if twin != backbone.name:
            raise UserError(
                f"encoders {twin!r} and {backbone.name!r} are one version, {identity.encoder_version}: "
                "they have the same weights and preprocessing; ask for one of them"
            )


def _registered(settings: Settings, backbone: Backbone, identity: Identity) -> RegisteredVersion:
    path = weights_file(backbone)
    made = tuned.find(settings, backbone.name)
    if made and (
        made.strategy not in tuned.NETWORKS or path != made.path(settings) / tuned.WEIGHTS
    ):  # of vitrine.toml now
        made = None
    licence = backbone.licence
    if licence == backbones.UNKNOWN_LICENCE:
        licence = identity.licence or licence
    return RegisteredVersion(
        encoder=backbone.name,
        encoder_version=identity.encoder_version,
        dim=identity.dim,
        backbone=backbone.spelled,
        family=backbone.family,
        weights_uri=str(path) if path else backbone.weights or "hub",
        licence=licence,
        **(made.registered() if made else {}),
    )


def _run(
    spark: SparkSession, settings: Settings, versions: list[VersionRows], chosen: list[Backbone], dataset: str
) -> list[dict[str, Any]]:
    """One pass over the photos that any of ``versions`` misses, then a commit each."""
    spent = spark.sparkContext.accumulator(cost.Cost(), cost.Sum())
    meter = cost.Meter(settings, spark)
    with ExitStack() as stack:
        works = [stack.enter_context(rows.begin()) for rows in versions]
        computed = _compute(spark, settings, works, chosen, dataset, spent)
        figures = [work.commit(count) for work, count in zip(works, computed, strict=True)]
        bills = meter.bills(spent.value, [backbone.name for backbone in chosen])
    return [
        {**figure, **rows.registered.figures(), **asdict(bill)}
        for rows, figure, bill in zip(versions, figures, bills, strict=True)
    ]


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
    works: list[Work],
    chosen: list[Backbone],
    dataset: str,
    spent: "Accumulator[cost.Cost]",
) -> list[int]:
    """Embed what is missing, each task's end a checkpoint; for how many contents each of ``works`` had it computed.

    Raises:
        VitrineError: a machine could not compute: it has no GPU, or no weights.
    """
    pairs = [(work, backbone) for work, backbone in zip(works, chosen, strict=True) if work.to_embed]
    if not pairs:
        return [0] * len(works)
    each = [work.rows.to_compute().withColumn("number", F.lit(number)) for number, (work, _) in enumerate(pairs)]
    numbers = F.sort_array(F.collect_set("number")).alias("numbers")
    contents = reduce(DataFrame.unionByName, each).groupBy("content_sha256").agg(numbers, F.first("uris").alias("uris"))
    with persisted(contents):
        by_number = contents.select(F.explode("numbers").alias("number")).groupBy("number").agg(F.count("*").alias("n"))
        counts = {pairs[row["number"]][0].rows.version: row["n"] for row in by_number.collect()}
        total = contents.count()
        plans = [(plan(spark, settings, backbone), work.rows.version) for work, backbone in pairs]
        parts = count_tasks(total, spark.sparkContext.defaultParallelism, settings.embed.task_photos)
        worker = _worker(plans, settings, spent, _attempts(spark))
        vectors = contents.repartition(parts).mapInArrow(worker, spark_schema(STAGED))
        with progress(spark, f"embedding {dataset} with {', '.join(backbone.name for _, backbone in pairs)}", total):
            stage(settings, dataset, vectors)
    if spent.value.unable:
        raise VitrineError(min(spent.value.unable))
    return [counts.get(work.rows.version, 0) for work in works]


def _attempts(spark: SparkSession) -> int:
    """How often a task is tried where machines differ; on this machine alone another try would find the same."""
    context = spark.sparkContext
    return 1 if context.master.startswith("local") else int(context.getConf().get("spark.task.maxFailures", "4") or 4)


def _worker(
    plans: list[tuple[EncoderPlan, str]], settings: Settings, spent: "Accumulator[cost.Cost]", attempts: int
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    asked, gpu_tasks = settings.embed.device, settings.embed.gpu_tasks

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Imported here, so that workers alone load torch: the driver does without it.
        from spark_jobs.worker.encoder import encode, kept
        from spark_jobs.worker.task_device import task_device, task_place

        try:
            device = task_device(asked, gpu_tasks)
            encoders = kept([plan for plan, _ in plans], device)
        except VitrineError as error:
            task = TaskContext.get()
            if task and task.attemptNumber() < attempts - 1:
                raise  # another machine may be able
            spent.add(cost.Cost(unable={str(error)}))  # the driver raises it, in one line
            deque(batches, maxlen=0)  # Spark expects that its rows are read
            return
        photos = (
            photo
            for batch in batches
            for photo in zip(*(batch[name].to_pylist() for name in ("content_sha256", "uris", "numbers")), strict=True)
        )
        mine = cost.Cost(devices={task_place(device)})
        for number, done in encode(encoders, photos, keys_are_contents=True, cost=mine):
            bad, n = done.refused, len(done.keys)
            mine.refused += len(bad)
            vectors = lists(done.vectors)
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
