"""What a worker needs to make vectors, as plain data, and how the work is cut into tasks. Imports no torch."""

import math
import os
from dataclasses import dataclass, field

from pyspark.sql import SparkSession

from vitrine.encoders.backbones import Backbone
from vitrine.setting_sections import SourceSettings
from vitrine.settings import Settings

_TASKS_A_SLOT, _PHOTOS_A_TASK = 16, (64, 2048)


@dataclass(frozen=True)
class EncoderPlan:
    """One encoder, and how a worker computes with it."""

    backbone: Backbone
    batch_size: int | None
    """Photos a forward pass; None: found while it works (``batch_size.BatchSize``)."""
    precision: str
    max_pixels: int
    threads: int
    """Cores that this encoder may use."""
    sources: SourceSettings = field(default_factory=SourceSettings)
    """How a photo behind a link is asked for, where the photo store has no copy any more."""


def plan(spark: SparkSession, settings: Settings, backbone: Backbone) -> EncoderPlan:
    """``backbone`` with ``[embed]``'s options, on the cores that Spark gives a task: two must never fight over them."""
    context = spark.sparkContext
    if context.master.startswith("local"):
        threads = (os.cpu_count() or 1) // context.defaultParallelism
    else:
        threads = int(context.getConf().get("spark.task.cpus", "1") or 1)
    options = settings.embed
    return EncoderPlan(
        *(backbone, options.batch_size, options.precision, settings.max_pixels, max(1, threads)), settings.sources
    )


def count_tasks(photos: int, slots: int, task_photos: int | None = None) -> int:
    """Tasks of equal shares: short ones, so that the last does not hold the night, with some full batches in each."""
    least, most = _PHOTOS_A_TASK
    share = task_photos or min(max(photos / (slots * _TASKS_A_SLOT), least), most)
    return max(slots, math.ceil(photos / share))
