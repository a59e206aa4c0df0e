"""A part of a training set as a training set of its own: what a probe learns from.

The parts of one seed are nested: what a share has, a larger one has too.
"""

import hashlib
import json
import math
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.training_set import ABOUT, TRAIN, VALIDATION, TrainingSet, open_part, read_training_set
from vitrine.settings import Settings

_VALIDATED = 0.1
_BLOCK = 8192


@dataclass(frozen=True)
class Cut:
    """What a probe learns from, and which classes of the whole these are."""

    rows: TrainingSet
    learned: NDArray[np.bool_]
    """(C,), by the numbers of the classes in the whole."""


def cut(settings: Settings, whole: TrainingSet, share: float, seed: int) -> Cut:
    """A ``share`` of the classes of the training part, with all their photos; of categories, which are few, a share of
    each one's photos. A tenth of each class's photos, at least one where it has two, become the validation part.

    Written once under ``HOME/training``; ``whole``'s own validation part is in none of it.
    """
    by_class = whole.label == "product_id"
    learned = _chosen(whole.classes, share if by_class else 1.0, seed)
    inputs = json.dumps([whole.fingerprint, "cut", share, seed])
    fingerprint = hashlib.sha256(inputs.encode()).hexdigest()[:16]
    folder = settings.home / "training" / fingerprint
    if (folder / ABOUT).is_file():
        os.utime(folder)  # in use: maintenance removes what nobody touched
    else:
        labels = open_part(whole.folder, TRAIN).to_table(columns=["label"], use_threads=False)["label"].to_numpy()
        parts = _parts(labels, learned, 1.0 if by_class else share)
        described = replace(
            whole,
            folder="",
            seed=seed,
            classes=[name for name, chosen in zip(whole.classes, learned, strict=True) if chosen],
            train=int((parts == TRAIN).sum()),
            validation=int((parts == VALIDATION).sum()),
            validation_from=TRAIN,
            only_trained=[],
            fingerprint=fingerprint,
        )
        _write(whole, described, parts, learned, folder)
    return Cut(read_training_set(folder), learned)


def _chosen(classes: list[str], share: float, seed: int) -> NDArray[np.bool_]:
    """The first ones by a hash of their names, which does not depend on what else there is: at least two."""
    digests = [hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in classes]
    count = min(len(classes), max(2, math.ceil(share * len(classes))))
    chosen = np.zeros(len(classes), dtype=bool)
    chosen[sorted(range(len(classes)), key=digests.__getitem__)[:count]] = True
    return chosen


def _parts(labels: NDArray[np.int32], learned: NDArray[np.bool_], share: float) -> NDArray[np.object_]:
    """Of each row the part, "" where it is in none. Rows are in a shuffled order: the first of a class are any."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=len(learned))
    place = np.empty(len(labels), dtype=np.int64)  # within its class
    place[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    # Two to learn how photos of one class differ, and one to validate.
    sizes = np.maximum(np.ceil(share * counts), np.minimum(3, counts))[labels]
    validated = np.where(sizes > 1, np.maximum(np.round(_VALIDATED * sizes), 1), 0)
    parts = np.where(place < validated, VALIDATION, TRAIN).astype(object)
    parts[~learned[labels] | (place >= sizes)] = ""
    return parts


def _write(
    whole: TrainingSet,
    described: TrainingSet,
    parts: NDArray[np.object_],
    learned: NDArray[np.bool_],
    folder: Path,
) -> None:
    """The rows with their classes' new numbers, batch by batch; whole or not at all."""
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    source = open_part(whole.folder, TRAIN)
    numbers = (np.cumsum(learned) - 1).astype(np.int32)
    writers = {}
    try:
        for part in (TRAIN, VALIDATION):
            (fresh / part).mkdir(parents=True)
            writers[part] = pq.ParquetWriter(fresh / part / "part-0.parquet", source.schema)
        first = 0
        for batch in source.to_batches(batch_size=_BLOCK, use_threads=False):
            mine = parts[first : first + len(batch)]
            first += len(batch)
            renumbered = pa.array(numbers[batch["label"].to_numpy()], pa.int32())
            columns = [renumbered if name == "label" else batch[name] for name in batch.schema.names]
            rows = pa.RecordBatch.from_arrays(columns, schema=source.schema)
            for part, writer in writers.items():
                writer.write_batch(rows.filter(pa.array(mine == part)))
    finally:
        for writer in writers.values():
            writer.close()
    (fresh / ABOUT).write_text(json.dumps({**asdict(described), "folder": ""}, indent=1))
    if not folder.exists():
        fresh.replace(folder)
    shutil.rmtree(fresh, ignore_errors=True)
