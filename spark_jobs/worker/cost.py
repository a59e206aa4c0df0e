"""What a pass over the photos cost: measured in the workers, summed by Spark, priced by ``[prices]``."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pyspark.accumulators import AccumulatorParam
from pyspark.sql import SparkSession

from vitrine.runs import Bill
from vitrine.settings import Settings


@dataclass
class Cost:
    """What encoding cost so far."""

    photos: int = 0
    refused: int = 0
    """Photos that came to no vector."""
    bytes_read: int = 0
    cpu_seconds: float = 0.0
    """Of the process, all its threads."""
    forward_seconds: dict[str, float] = field(default_factory=dict)
    """Clock time in the network, by encoder's name."""
    peak_mib: float = 0.0
    devices: set[str] = field(default_factory=set)
    precisions: dict[str, str] = field(default_factory=dict)
    """What each encoder computed with, by its name."""
    unable: set[str] = field(default_factory=set)
    """Why machines could not compute: then the pass has failed."""

    @contextmanager
    def metered(self) -> Iterator[None]:
        """Add what this process spends in the block, all its threads."""
        before = _cpu_seconds()
        yield
        self.cpu_seconds += _cpu_seconds() - before
        self.peak_mib = max(self.peak_mib, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    def forward(self, encoder: str, seconds: float) -> None:
        """Add clock time in the network of ``encoder``."""
        self.forward_seconds[encoder] = self.forward_seconds.get(encoder, 0.0) + seconds


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Sum(AccumulatorParam[Cost]):
    """Adds up the costs of tasks; memory is the largest worker's."""

    def zero(self, value: Cost) -> Cost:
        return Cost()

    def addInPlace(self, value1: Cost, value2: Cost) -> Cost:  # noqa: N802 (Spark's name)
        names = value1.forward_seconds.keys() | value2.forward_seconds.keys()
        return Cost(
            photos=value1.photos + value2.photos,
            refused=value1.refused + value2.refused,
            bytes_read=value1.bytes_read + value2.bytes_read,
            cpu_seconds=value1.cpu_seconds + value2.cpu_seconds,
            forward_seconds={
                name: value1.forward_seconds.get(name, 0.0) + value2.forward_seconds.get(name, 0.0) for name in names
            },
            peak_mib=max(value1.peak_mib, value2.peak_mib),
            devices=value1.devices | value2.devices,
            precisions=value1.precisions | value2.precisions,
            unable=value1.unable | value2.unable,
        )


class Meter:
    """The clock of one pass, and what its cores and GPUs stand for in money."""

    def __init__(self, settings: Settings, spark: SparkSession) -> None:
        conf = spark.sparkContext.getConf()
        self.prices = settings.prices
        self.cores = spark.sparkContext.defaultParallelism * int(conf.get("spark.task.cpus", "1") or 1)
        # Spark cannot say how many GPUs its executors have in all: those of the executors that are there now.
        executors = spark.sparkContext._jsc.sc().getExecutorMemoryStatus().size() - 1
        self._scheduled_gpus = executors * int(conf.get("spark.executor.resource.gpu.amount", "0") or 0)
        self._started = time.monotonic()

    def bills(self, spent: Cost, names: list[str]) -> list[Bill]:
        """An object an encoder: its share of the whole, by the clock time of the networks."""
        seconds = time.monotonic() - self._started
        clock = sum(spent.forward_seconds.values())
        # Where Spark schedules none, as on this machine alone: those that tasks computed on.
        gpus = self._scheduled_gpus or len({place for place in spent.devices if ": cuda" in place})
        bills = []
        for name in names:
            share = spent.forward_seconds.get(name, 0.0) / clock if clock else 1 / len(names)
            hours = seconds * share / 3600
            money = hours * (self.cores * self.prices.core_hour + gpus * self.prices.gpu_hour)
            bills.append(
                Bill(
                    seconds=round(seconds * share, 3),
                    core_seconds=round(seconds * share * self.cores, 3),
                    gpu_seconds=round(seconds * share * gpus, 3),
                    worker_cpu_seconds=round(spent.cpu_seconds * share, 3),
                    forward_seconds=round(spent.forward_seconds.get(name, 0.0), 3),
                    worker_peak_mib=round(spent.peak_mib, 1),
                    bytes_read=spent.bytes_read,
                    money=round(money, 6),
                    currency=self.prices.currency,
                    devices=sorted(spent.devices),
                    precision=spent.precisions.get(name),
                )
            )
        return bills
