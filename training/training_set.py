"""A training set: the rows that a tuning learns from, as ``training.build_training_set`` wrote them.

``training_set.json`` says what they are. ``train/`` and ``validation/`` hold them as Parquet files, in an order that is
shuffled once and for all; whoever learns streams them from there, and no process holds them all.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
from numpy.typing import NDArray

from vitrine.encoded_set import EncodedSet
from vitrine.vectors import Floats, matrix

TRAIN, VALIDATION = "train", "validation"
ABOUT = "training_set.json"
UNLABELLED = -1
"""A row's label in the training part, where it comes from a split whose labels stay unread."""


@dataclass(frozen=True)
class TrainingSet:
    """What ``training_set.json`` in ``folder`` says; a row's ``label`` is the number of its class in ``classes``, or
    ``UNLABELLED``."""

    folder: str
    dataset: str
    label: str
    """``product_id`` or ``category``."""
    encoder: str | None
    encoder_version: str | None
    """Whose vectors the rows have; None where they have the photos' uris alone."""
    as_of: str
    seed: int
    classes: list[str]
    train: int
    validation: int
    validation_from: str
    """The data set's own split, or ``train``: cut from it."""
    only_trained: list[str]
    """Classes with too few photos (or products) to have any in the validation part."""
    without_features: int
    """Photos of these splits that had no label, or no vector, at ``as_of``."""
    left_out: int
    """Photos whose picture another split shows too; of validation, also those that the training part shows, and those
    of a class that it does not have."""
    fingerprint: str
    """Of the rows' ids, contents, labels and parts, and of the vectors' version: 16 hex digits."""
    unlabelled: list[str] = field(default_factory=list)
    """Splits whose photos are in the training part without their labels."""

    @property
    def encoded(self) -> EncodedSet:
        """Whose vectors the rows have; only for rows that have vectors."""
        return EncodedSet(self.dataset, str(self.encoder), str(self.encoder_version))

    @property
    def sizes(self) -> dict[str, int]:
        """Rows by part."""
        return {TRAIN: self.train, VALIDATION: self.validation}


def read_training_set(folder: Path) -> TrainingSet:
    """The training set that was written to ``folder``."""
    return TrainingSet(**{**json.loads((folder / ABOUT).read_text()), "folder": str(folder)})


def open_part(folder: str | Path, part: str) -> pyarrow.dataset.Dataset:
    """The rows of one part of the training set in ``folder``, in their order."""
    files = sorted(str(path) for path in (Path(folder) / part).glob("*.parquet"))
    return pyarrow.dataset.dataset(files)


def first_rows(folder: str | Path, part: str, most: int) -> tuple[Floats, NDArray[np.int32]]:
    """Vectors, float32 (N, D), and the numbers of their classes, (N,): the first rows of a part, at most ``most``."""
    table = open_part(folder, part).head(most, columns=["embedding", "label"], use_threads=False)
    return matrix(table["embedding"]), table["label"].to_numpy()


def first_ids(folder: str | Path, part: str, most: int) -> pa.Array:
    """The image ids of the rows that ``first_rows`` gives, (N,)."""
    table = open_part(folder, part).head(most, columns=["image_id"], use_threads=False)
    return table["image_id"].combine_chunks()
