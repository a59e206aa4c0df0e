"""A trial's executions, each in a process of its own with its share of the cores."""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from training.perceptron import Epoch, LabelledVectors, Recipe, Scaling, Trainer, resolve_precision, use_threads
from training.training_set import TRAIN, VALIDATION

_LEAST_EPOCHS = 5  # before a trial may be called hopeless


class SideBySide:
    """Runs a trial's executions in processes that are forked from one that has loaded TensorFlow."""

    def __init__(
        self, data: Path, classes: int, scaling: Scaling | None, executions: int, precision: str = "auto"
    ) -> None:
        cores = os.cpu_count() or 1
        self.executions = executions
        workers = min(executions, cores)
        arguments = (data, classes, scaling, max(1, cores // workers), precision)
        self.pool = ProcessPoolExecutor(workers, get_context("forkserver"), _start_worker, arguments)

    def __call__(self, recipe: Recipe, seed: int, epochs: int, bar: list[float]) -> list[list[dict[str, float]]]:
        jobs = [self.pool.submit(_execute, recipe, seed + at, epochs, bar) for at in range(self.executions)]
        return [job.result() for job in jobs]

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


_held: dict[str, Any] = {}
"""What a worker's executions have in common."""


def _start_worker(data: Path, classes: int, scaling: Scaling | None, threads: int, precision: str) -> None:
    use_threads(threads)
    _held.update(
        train=LabelledVectors.open(data, TRAIN),
        validation=LabelledVectors.open(data, VALIDATION),
        classes=classes,
        scaling=scaling,
        precision=resolve_precision(precision),
    )


def _execute(recipe: Recipe, seed: int, epochs: int, bar: list[float]) -> list[dict[str, float]]:
    """One training of ``recipe``: its epochs, fewer where it diverges or falls below ``bar``."""
    trainer = Trainer(**_held, recipe=recipe, seed=seed)
    history: list[Epoch] = []
    for number in range(epochs):
        epoch = trainer.epoch(number)
        if not np.isfinite([epoch.loss, epoch.val_loss]).all():
            history += [Epoch(1e9, 1e9, 0.0)] * (not history)
            break
        history.append(epoch)
        best = max(past.val_accuracy for past in history)
        if bar and _LEAST_EPOCHS <= number + 1 < epochs and best < bar[number]:
            break
    return [asdict(epoch) for epoch in history]
