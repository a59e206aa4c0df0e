"""A head on stored embeddings: new vectors without reading a photo, by NumPy in Spark's workers.

As ``embed_catalog``: what is missing, and nothing else, in one commit. The base's rows are the input; a photo that has
none is quarantined, until the base has one.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.accumulators import Accumulator
from pyspark.sql import functions as F

from spark_jobs import cost
from spark_jobs.session import build_session, progress, spark_schema
from spark_jobs.version_rows import STAGED, Version, VersionRows, nothing, settled, stage
from vitrine import heads, lake
from vitrine.settings import Settings
from vitrine.tuned import Tuned


def apply_head(settings: Settings, tuned: Tuned, dataset: str, *, dry_run: bool = False) -> dict[str, Any]:
    """Bring the embeddings of ``dataset`` by a head to the catalog, from those by its base, which are brought before.

    Returns:
        The figures of ``embed --json``.

    Raises:
        UserError: unknown data set, or a damaged head.
    """
    lake.check_dataset(settings, dataset)
    head = heads.load(tuned.path(settings))
    version = _version(settings, tuned)
    unchanged = None if dry_run else settled(settings, tuned.name, tuned.encoder_version, dataset)
    if unchanged is not None:
        return nothing(unchanged) | version.figures()
    spark = build_session(settings, f"embed {dataset} {tuned.name}")
    job = VersionRows(spark, settings, version, dataset)
    if dry_run:
        return job.plan()
    meter, spent = cost.Meter(settings, spark), spark.sparkContext.accumulator(cost.Cost(), cost.Sum())
    try:
        job.start()
        computed = 0
        if job.missing:
            base = job.stored.filter((F.col("encoder_version") == tuned.base_version) & (F.col("dataset") == dataset))
            base = base.groupBy("content_sha256").agg(F.first("embedding").alias("embedding"))
            work = job.to_compute().select("content_sha256").join(base, "content_sha256", "left")
            vectors = work.mapInArrow(_worker(head, tuned, spent), spark_schema(STAGED))
            with progress(spark, f"embedding {dataset} with {tuned.name}", job.missing):
                stage(settings, dataset, vectors)
            computed = job.missing
        figures = job.commit()
        job.clear_staging()
        bill = meter.bills(spent.value, [tuned.name])[0]
        return {**figures, "computed": computed, **version.figures(), **bill}
    finally:
        job.end()


def _version(settings: Settings, tuned: Tuned) -> Version:
    return Version(
        encoder=tuned.name,
        encoder_version=tuned.encoder_version,
        dim=tuned.dim,
        backbone=tuned.backbone,
        family=tuned.family,
        weights_uri=str(Path(tuned.path(settings)) / "head.safetensors"),
        licence=tuned.licence,
        strategy=tuned.strategy,
        source_dataset=tuned.source_dataset,
        base_version=tuned.base_version,
    )


def _worker(
    head: heads.Head, tuned: Tuned, spent: "Accumulator[cost.Cost]"
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    refusals = {
        True: ("bad_vector", "the head's output is all zero"),
        False: ("no_base_vector", f"{tuned.base} has no vector of it"),
    }

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        mine = cost.Cost(devices={"cpu"}, precisions={tuned.name: "fp32"})
        with mine.metered():
            yield from computed(batches, mine)
        spent.add(mine)

    def computed(batches: Iterable[pa.RecordBatch], mine: cost.Cost) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            column = batch["embedding"]
            there = column.is_valid().to_numpy(zero_copy_only=False)
            given = column.filter(pa.array(there)).flatten().to_numpy().reshape(-1, head.inputs)
            started = time.monotonic()
            found = head.embed(given)
            mine.forward(tuned.name, time.monotonic() - started)
            mine.photos += len(batch)
            fine = there.copy()
            fine[there] = np.isfinite(found).all(1)
            values = pa.array(found[fine[there]].reshape(-1), pa.float32())
            # Null rows have no values of their own: their offset is the one before.
            offsets = np.concatenate([[0], np.cumsum(fine)]).astype(np.int32) * head.dim
            vectors = pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~fine))
            why = [None if ok else refusals[bool(known)] for ok, known in zip(fine, there, strict=True)]
            yield pa.RecordBatch.from_arrays(
                [
                    batch["content_sha256"],
                    vectors,
                    pa.array([refusal and refusal[0] for refusal in why], pa.string()),
                    pa.array([refusal and refusal[1] for refusal in why], pa.string()),
                    pa.array([tuned.encoder_version] * len(batch), pa.string()),
                ],
                schema=STAGED,
            )

    return rows
