"""Nearest neighbours as a classifier: the vectors that it learned from, and which class each is of.

The evidence of a class is the sum of exp((s - s1) / ``SHARPNESS``) over those of the ``count`` nearest vectors that are
of it, s a neighbour's cosine and s1 the nearest's (Wu et al., Unsupervised feature learning via non-parametric instance
discrimination, 2018, arXiv 1805.01978, 3.4); logits are ``scale`` times its logarithm. A class without a neighbour has
the evidence ``NONE``. On disk ``neighbours.safetensors`` and ``neighbours.json``.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from vitrine import files
from vitrine.vectors import Floats

SHARPNESS, NONE = 0.07, 1e-4
_ABOUT, _TENSORS = "neighbours.json", "neighbours.safetensors"
_BLOCK = 1024


@dataclass(frozen=True)
class Neighbours:
    """What is learned: N vectors of unit length, float32 (N, D), and the numbers of their classes, int32 (N,)."""

    vectors: Floats
    labels: NDArray[np.int32]
    classes: tuple[str, ...]
    count: int
    """Of the neighbours that are asked."""
    scale: float = 1.0

    @property
    def classifier(self) -> tuple[Floats, ...]:
        """What decides its probabilities beside ``fingerprint``."""
        return (np.array([self.scale], np.float32),)

    def scaled(self, factor: float) -> "Neighbours":
        """The same with logits that are ``factor`` times these."""
        return replace(self, scale=self.scale * factor)

    def logits(self, vectors: Floats) -> Floats:
        """float32 (N, classes), of vectors float32 (N, D) of unit length."""
        evidence = np.full((len(vectors), len(self.classes)), NONE, np.float32)
        count = min(self.count, len(self.labels))
        for first in range(0, len(vectors), _BLOCK):
            cosines = vectors[first : first + _BLOCK] @ self.vectors.T
            nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
            near = np.take_along_axis(cosines, nearest, axis=1)
            weights = np.exp((near - near.max(1, keepdims=True)) / SHARPNESS)
            rows = np.arange(first, first + len(near))[:, None]
            np.add.at(evidence, (rows, self.labels[nearest]), weights)
        return np.asarray(self.scale * np.log(evidence), np.float32)

    def fingerprint(self) -> str:
        """SHA-256 of what it learned; hex."""
        digest = hashlib.sha256(f"vitrine-neighbours-1 {self.count} {self.vectors.shape}".encode())
        digest.update(np.ascontiguousarray(self.vectors, "<f4").tobytes())
        digest.update(np.ascontiguousarray(self.labels, "<i4").tobytes())
        return digest.hexdigest()


def save(neighbours: Neighbours, folder: Path) -> None:
    """Write ``neighbours`` into ``folder``, which exists."""
    vectors, labels = np.ascontiguousarray(neighbours.vectors, np.float32), np.asarray(neighbours.labels, np.int32)
    save_file({"vectors": vectors, "labels": labels}, folder / _TENSORS)
    about: dict[str, Any] = {"format": "vitrine-neighbours-1", "count": neighbours.count, "scale": neighbours.scale}
    files.write_json(folder / _ABOUT, about | {"classes": list(neighbours.classes)})


def load(folder: Path) -> Neighbours:
    """What is in ``folder``.

    Raises:
        OSError, ValueError, KeyError, SafetensorError: it is not there, or damaged.
    """
    about, tensors = json.loads((folder / _ABOUT).read_text()), load_file(folder / _TENSORS)
    vectors, labels = tensors["vectors"], tensors["labels"]
    if len(vectors) != len(labels) or (len(labels) and not 0 <= labels.min() <= labels.max() < len(about["classes"])):
        raise ValueError("its vectors and labels do not fit each other")
    return Neighbours(vectors, labels, tuple(about["classes"]), int(about["count"]), float(about["scale"]))
