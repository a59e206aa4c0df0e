"""A stored classifier: what tags photos from their stored vectors, by NumPy alone, and when it does not.

On disk a folder ``HOME/models/classifiers/VERSION``: the head (``vitrine.encoders.heads``, or nearest neighbours, as
``vitrine.encoders.nearest`` has them) whose logits are calibrated, ``distance.safetensors`` (what it learned, to tell
what is unlike it) and ``classifier.json``. No pickle is read.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from vitrine import files
from vitrine.encoders import heads, nearest
from vitrine.encoders.nearest import Neighbours
from vitrine.errors import UserError, one_line
from vitrine.settings import Settings
from vitrine.vectors import Floats

UNSURE, UNLIKE = "unsure", "unlike anything learned"
NEAREST = "nearest_neighbours"
"""The kind that is no head."""
COSINE, MAHALANOBIS = "cosine", "mahalanobis"
_ABOUT = "classifier.json"
_BLOCK = 4096


@dataclass(frozen=True)
class About:
    """What ``classifier.json`` says."""

    dataset: str
    label: str
    encoder: str
    encoder_version: str
    kind: str
    """``discriminants``, ``ridge``, ``linear_probe``, ``nearest_neighbours`` or ``perceptron``."""
    strength: float
    """What its one knob is set to; of neighbours, their number."""
    training_set: str
    """Its fingerprint."""
    threshold: float | None
    """The least probability that is taken for sure; None where no threshold is precise enough: it never tags."""
    farthest: float
    """The greatest distance to a class's mean that is not unlike anything learned."""
    validation: dict[str, Any]
    """Figures of the part that it was chosen by."""
    rule: str = MAHALANOBIS
    """Which distance: ``cosine`` or ``mahalanobis``."""
    thresholds: dict[str, float | None] = field(default_factory=dict)
    """Of the classes that have one of their own."""

    @property
    def can_tag(self) -> bool:
        """Is there a threshold at all?"""
        return any(each is not None for each in (self.threshold, *self.thresholds.values()))

    def decisive(self) -> dict[str, Any]:
        """What a version is a fingerprint of: a classifier of before ``rule`` and ``thresholds`` keeps its own."""
        plain = {"rule": MAHALANOBIS, "thresholds": {}}
        return {name: value for name, value in asdict(self).items() if name not in plain or value != plain[name]}


@dataclass(frozen=True)
class Space:
    """Where distances to what was learned are taken; all float32."""

    rule: str
    weight: Floats
    """(D, K): whitens what differs within classes."""
    offset: Floats | None
    """(K,): where the mean of all rows comes to lie; None: not taken off."""
    means: Floats
    """Of the classes that have photos, in the space: (C, K)."""

    def distances(self, vectors: Floats) -> Floats:
        """The distance to the nearest class's mean, float32 (N,): squared, or one minus the cosine."""
        means = _unit(self.means) if self.rule == COSINE else self.means
        squares = (means**2).sum(1)
        nearest = []
        for first in range(0, len(vectors), _BLOCK):
            rows = vectors[first : first + _BLOCK] @ self.weight
            if self.offset is not None:
                rows -= self.offset
            if self.rule == COSINE:
                nearest.append(1 - (_unit(rows) @ means.T).max(1))
            else:
                nearest.append((rows**2).sum(1) + (squares - 2 * rows @ means.T).min(1))
        return np.concatenate(nearest) if nearest else np.zeros(0, np.float32)


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30), np.float32)


@dataclass(frozen=True)
class Tags:
    """What a classifier says of N photos."""

    best: np.ndarray
    """Numbers of the likeliest classes, (N,)."""
    second: np.ndarray
    probability: Floats
    """Of the likeliest, (N,)."""
    reasons: list[str | None]
    """Why it abstains; None where it tags."""


@dataclass(frozen=True)
class Classifier:
    about: About
    head: heads.Head | Neighbours
    """Its logits are calibrated: their softmax is the probabilities."""
    space: Space

    @property
    def version(self) -> str:
        """A fingerprint of all that decides what it says: 16 hex digits."""
        digest = hashlib.sha256(json.dumps(self.about.decisive(), sort_keys=True).encode())
        digest.update(self.head.fingerprint().encode())
        offset = () if self.space.offset is None else (self.space.offset,)
        for values in (*self.head.classifier, self.space.weight, self.space.means, *offset):
            digest.update(f"{values.shape}".encode() + np.ascontiguousarray(values, "<f4").tobytes())
        digest.update("\n".join(self.head.classes).encode())
        return digest.hexdigest()[:16]

    def log_probabilities(self, vectors: Floats) -> Floats:
        """float32 (N, classes), of vectors float32 (N, D)."""
        logits = self.head.logits(vectors)
        logits -= logits.max(1, keepdims=True)
        return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)), np.float32)

    def distances(self, vectors: Floats) -> Floats:
        """How far photos are from what was learned, float32 (N,)."""
        return self.space.distances(vectors)

    def tags(self, log_probabilities: Floats, distances: Floats) -> Tags:
        """What it says of photos with these ``log_probabilities`` and ``distances``."""
        count = len(log_probabilities)
        order = np.argpartition(-log_probabilities, 1, axis=1)[:, :2]
        top = np.take_along_axis(log_probabilities, order, axis=1)
        order = np.take_along_axis(order, np.argsort(-top, axis=1, kind="stable"), axis=1)
        probability = np.exp(log_probabilities[np.arange(count), order[:, 0]])
        far = ~(distances <= self.about.farthest)
        sure = probability >= self.least()[order[:, 0]]
        reasons = [UNLIKE if away else None if fine else UNSURE for away, fine in zip(far, sure, strict=True)]
        return Tags(order[:, 0], order[:, 1], probability, reasons)

    def least(self) -> Floats:
        """The least probability of each class that is taken for sure, (classes,)."""
        own, others = self.about.thresholds, self.about.threshold
        each = [own.get(name, others) for name in self.head.classes]
        return np.array([np.inf if one is None else one for one in each], np.float64)

    def tag(self, vectors: Floats) -> Tags:
        """What it says of photos with these vectors, float32 (N, D)."""
        return self.tags(self.log_probabilities(vectors), self.distances(vectors))


def folder_of(settings: Settings, version: str) -> Path:
    return settings.home / "models" / "classifiers" / version


def save(settings: Settings, classifier: Classifier) -> Path:
    """Write ``classifier`` into its version's folder, which is whole once ``classifier.json`` is there."""
    folder = folder_of(settings, classifier.version)
    folder.mkdir(parents=True, exist_ok=True)
    head = classifier.head
    if isinstance(head, Neighbours):
        nearest.save(head, folder)
    else:
        heads.save(head, folder)
    space = classifier.space
    tensors = {"whiten": space.weight, "means": space.means}
    tensors |= {} if space.offset is None else {"offset": space.offset}
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "distance.safetensors")
    files.write_json(folder / _ABOUT, asdict(classifier.about), indent=1)
    return folder


def load(settings: Settings, version: str) -> Classifier:
    """The classifier of that version.

    Raises:
        UserError: it is not there, or damaged.
    """
    folder = folder_of(settings, version)
    try:
        about = About(**json.loads((folder / _ABOUT).read_text()))
        tensors = load_file(folder / "distance.safetensors")
        space = Space(about.rule, tensors["whiten"], tensors.get("offset"), tensors["means"])
        head = nearest.load(folder) if about.kind == NEAREST else heads.load(folder)
        classifier = Classifier(about, head, space)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(f"cannot read the classifier in {str(folder)!r} ({one_line(error)}): learn it again") from None
    if classifier.version != version:
        raise UserError(f"the classifier in {str(folder)!r} is not {version} any more: learn it again")
    return classifier


def with_threshold(classifier: Classifier, threshold: float | None, **about: Any) -> Classifier:
    """The same with another threshold, and other things that ``about`` says."""
    return replace(classifier, about=replace(classifier.about, threshold=threshold, **about))
