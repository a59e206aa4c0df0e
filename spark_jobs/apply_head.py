"""A head on stored embeddings: new vectors without reading a photo, by NumPy in Spark's workers.

The head's rows are its base's with other vectors: what they miss, and nothing else, is computed and committed at once.
A head is quicker than the disk, so nothing is checkpointed: a killed run computes again. A photo that the base has no
vector of is quarantined, until it has one.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.accumulators import Accumulator
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs.delta_tables import has_rows, merge_or_append, persisted, read_table, spark_schema
from spark_jobs.embed_products import embed_products
from spark_jobs.progress import progress
from spark_jobs.quarantine import merge_quarantine
from spark_jobs.session import build_session
from spark_jobs.version_rows import RegisteredVersion, leaving, nothing, register
from spark_jobs.worker import cost
from vitrine import facts, lake, locks, tracking
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import heads
from vitrine.encoders.tuned import Tuned
from vitrine.names import split_joined
from vitrine.runs import EmbedCounts
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, LABEL_COLUMNS
from vitrine.vectors import lists, matrix

_SOURCE = EMBEDDINGS.schema.append(pa.field("gone", pa.bool_()))
_BROADCAST = 200_000  # ids that are sent to the rows, instead of shuffling the rows to them


def apply_head(settings: Settings, tuned: Tuned, dataset: str, *, dry_run: bool = False) -> dict[str, Any]:
    """Bring the embeddings of ``dataset`` by a head to those by its base, which are brought to the catalog before.

    Returns:
        The figures of ``embed --json``.

    Raises:
        UserError: unknown data set, or a damaged head.
    """
    facts.check_dataset(settings, dataset)
    head = heads.load(tuned.path(settings))
    version = _registered(settings, tuned)
    unchanged = None if dry_run else facts.settled(settings, EncodedSet(dataset, tuned.name, tuned.encoder_version))
    if unchanged is not None:
        return nothing(unchanged) | version.figures()
    if not dry_run:
        tracking.load_mlflow()
    spark = build_session(settings, f"embed {dataset} {tuned.name}")
    with locks.held(settings, f"embed__{dataset}__{tuned.encoder_version}"):  # two would both append all of the rows
        rows = _HeadRows(spark, settings, tuned, dataset)
        if dry_run:
            return rows.plan()
        meter, spent = cost.Meter(settings, spark), spark.sparkContext.accumulator(cost.Cost(), cost.Sum())
        register(settings, version)
        figures = rows.bring(head, spent)
        bill = meter.bills(spent.value, [tuned.name])[0]
        return {**figures, **version.figures(), **asdict(bill)}


def _registered(settings: Settings, tuned: Tuned) -> RegisteredVersion:
    return RegisteredVersion(
        encoder=tuned.name,
        encoder_version=tuned.encoder_version,
        dim=tuned.dim,
        backbone=tuned.backbone,
        family=tuned.family,
        weights_uri=str(Path(tuned.path(settings)) / "head.safetensors"),
        licence=tuned.licence,
        **tuned.registered(),
    )


class _HeadRows:
    """The head's rows of one data set, and how they differ from the base's: frames, computed when somebody asks."""

    def __init__(self, spark: SparkSession, settings: Settings, tuned: Tuned, dataset: str) -> None:
        self.spark, self.settings, self.tuned, self.dataset = spark, settings, tuned, dataset
        self.catalog = read_table(spark, settings, CATALOG).filter(F.col("dataset") == dataset)
        self.base, self.own = self._joined(), self._read(tuned.encoder_version)
        self.within = lake.matches("t", dataset=dataset, encoder_version=tuned.encoder_version)
        self.is_new = not has_rows(settings, EMBEDDINGS, self.within)
        compared = ("image_id", "content_sha256", *LABEL_COLUMNS)
        same = [F.col(f"b.{name}").eqNullSafe(F.col(f"e.{name}")) for name in (*compared, "said")]
        attributes = F.to_json("attributes").alias("said")  # Spark compares no maps
        frames = ((self.base, "b"), (self.own, "e"))
        base, own = (frame.select(*compared, attributes).alias(name) for frame, name in frames)
        self.differing = base if self.is_new else base.join(own, same, "left_anti")
        self.gone = self.own.select(*EMBEDDINGS.key).join(self.base.select("image_id"), "image_id", "left_anti")
        self.without = self.catalog.join(self.base.select("image_id"), "image_id", "left_anti")

    def _read(self, version: str) -> DataFrame:
        mine = lake.matches(dataset=self.dataset, encoder_version=version)
        return read_table(self.spark, self.settings, EMBEDDINGS).filter(mine)

    def _joined(self) -> DataFrame:
        """The base's rows; of several, the first one's of the photos that all have, with their vectors in a row."""
        first, *others = map(self._read, split_joined(self.tuned.base_version))
        for number, other in enumerate(others):
            more = other.select("image_id", "content_sha256", F.col("embedding").alias(f"more_{number}"))
            first = first.join(more, ["image_id", "content_sha256"])
        vectors = ["embedding", *(f"more_{number}" for number in range(len(others)))]
        joined = first.withColumn("embedding", F.concat(*vectors)) if others else first
        return joined.select(*EMBEDDINGS.schema.names)

    def _known(self) -> tuple[int, int]:
        """Photos in the catalog, and how many of them the base has no vector of; in one job."""
        has = self.base.select("image_id", F.lit(True).alias("has"))
        joined = self.catalog.join(has, "image_id", "left")
        row = joined.agg(F.count("*"), F.count_if(F.col("has").isNull())).first()
        assert row is not None
        return row[0], row[1]

    def plan(self) -> dict[str, Any]:
        """What ``bring`` would do."""
        with self._counted() as (count, updated):
            return {
                "dry_run": True,
                "to_embed": count - updated,
                "to_compute": count,
                "to_update": updated,
                "to_delete": self.gone.count(),
                "total": self.catalog.count(),
            }

    @contextmanager
    def _counted(self) -> Iterator[tuple[int, int]]:
        """Rows that are missing or not as the base's, and how many of them differ by their labels alone; which these
        are is computed once in the block."""
        if self.is_new:
            yield self.differing.count(), 0
            return
        with persisted(self.differing) as differing:
            count = differing.count()
            relabelled = differing.join(self.own, ["image_id", "content_sha256"], "left_semi")
            yield count, relabelled.count() if count else 0

    def bring(self, head: heads.Head, spent: "Accumulator[cost.Cost]") -> dict[str, Any]:
        """Rows, quarantine, products: each one commit, each made up for by the next run where this one is killed."""
        with self._counted() as (count, updated):
            deleted = 0 if self.is_new else self.gone.count()
            if count or deleted:
                source = self._wanted(count).mapInArrow(_worker(head, self.tuned, spent), spark_schema(_SOURCE))
                if deleted:
                    source = source.unionByName(leaving(self.gone))
                with progress(self.spark, f"embedding {self.dataset} with {self.tuned.name}", count):
                    rows = count + deleted
                    merge_or_append(self.spark, self.settings, EMBEDDINGS, source, self.within, rows=rows)
        total, without = self._known()
        bad = self._refused(any_without=without > 0, any_zero=spent.value.refused > 0)
        quarantined = bad.count()
        about = (self.dataset, "embed", self.tuned.name)
        merge_quarantine(self.spark, self.settings, *about, bad, quarantined, lake.now())
        made = embed_products(self.spark, self.settings, self.dataset, self.tuned.encoder_version)
        counts = EmbedCounts(
            embedded=count - updated - (quarantined - without),
            unchanged=total - count - without,
            updated=updated,
            deleted=deleted,
            quarantined=quarantined,
            computed=count,
        )
        return {**asdict(counts), **made}

    def _wanted(self, count: int) -> DataFrame:
        """The base's rows of ``differing``, with their vectors."""
        if self.is_new:
            return self.base
        ids = self.differing.select("image_id")
        return self.base.join(F.broadcast(ids) if count <= _BROADCAST else ids, "image_id", "left_semi")

    def _refused(self, *, any_without: bool, any_zero: bool) -> DataFrame:
        def because(rows: DataFrame, code: str, reason: str) -> DataFrame:
            return rows.select("image_id", "uri", F.lit(code).alias("code"), F.lit(reason).alias("reason"))

        without = self.without if any_without else self.without.limit(0)  # which Spark knows to be empty
        refused = because(without, "no_base_vector", f"{self.tuned.base} has no vector of it")
        if any_zero:
            here = self._read(self.tuned.encoder_version).select("image_id")
            zero = self.catalog.join(self.base.select("image_id"), "image_id", "left_semi")
            zero = zero.join(here, "image_id", "left_anti")
            refused = refused.unionByName(because(zero, "bad_vector", "the head's output is all zero"))
        return refused


def _worker(
    head: heads.Head, tuned: Tuned, spent: "Accumulator[cost.Cost]"
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The base's rows to the head's; one without a vector comes out as ``gone``."""
    moment = lake.now()

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        mine = cost.Cost(devices={"cpu"}, precisions={tuned.name: "fp32"})
        with mine.metered():
            for batch in batches:
                started = time.monotonic()
                outputs = head.embed(matrix(batch["embedding"]))
                mine.forward(tuned.name, time.monotonic() - started)
                fine = np.isfinite(outputs).all(1)
                mine.photos += len(batch)
                mine.refused += int((~fine).sum())
                yield replaced(batch, outputs, fine)
        spent.add(mine)

    def replaced(batch: pa.RecordBatch, outputs: heads.Floats, fine: Any) -> pa.RecordBatch:
        columns = {name: batch[name] for name in EMBEDDINGS.schema.names} | {
            "embedding": lists(outputs),
            "encoder_version": pa.array([tuned.encoder_version] * len(batch)),
            "encoder": pa.array([tuned.name] * len(batch)),
            "created_timestamp": pa.array([moment] * len(batch), _SOURCE.field("created_timestamp").type),
            "gone": pa.array(~fine),
        }
        return pa.RecordBatch.from_pydict(columns, schema=_SOURCE)

    return rows
