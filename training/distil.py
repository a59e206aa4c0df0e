"""Distillation: a network learns the vectors that another encoder, its teacher, has stored of the same photos.

Its pooled features go through a matrix into the teacher's space, so that a student can also ask the teacher's index.
Each step lowers, of the photos of a batch, 1 - the cosine to the teacher's vector, and ``relations`` times the mean
squared difference between the student's and the teacher's cosines of each two photos (similarity-preserving knowledge
distillation, Tung and Mori, ICCV 2019, arXiv 1907.09682, on cosines as they are in place of rows of unit length). No
label is learned from. The teacher saw the photos as they are (a fixed teacher in the words of Beyer et al., arXiv
2106.05237): so the student sees them cropped little and mirrored, and no more where ``rand_augment`` is "".

Runs as full tuning does (``python -m training.distil FOLDER``), in one process. The matrix starts from a ridge
regression of the teacher's vectors on what the network pooled before; the epoch whose vectors come nearest to the
teacher's on the validation part is kept. The teacher's vectors lie in ``FOLDER/teacher`` until the end.
"""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data import create_transform
from torch.nn import functional

from training import full_tuning, head_first
from training.full_tuning import Tuner
from training.photo_loader import augmented, normalisation, seed_all
from training.training_set import TRAIN, UNLABELLED, VALIDATION, open_part
from training.tuning_process import run
from vitrine import files
from vitrine.encoders.networks import Built, build
from vitrine.encoders.projected import Projected, named
from vitrine.tuning_sections import DistilSettings, NetworkSettings
from vitrine.vectors import Floats, matrix

_STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Of the ridge regression, in the features' mean variance: the best by leaving one photo out is taken."""


class Student(Projected):
    """The network and its matrix, while they learn."""

    pretrained_cfg: ClassVar = {"classifier": "projection"}
    """timm's layer-wise rates ask it what is no layer of the network."""

    def __init__(self, built: Built, dim: int, freeze: int) -> None:
        super().__init__(built.network.requires_grad_(True), torch.nn.Linear(built.dim, dim))
        for part in list(self.network.children())[:freeze]:
            part.requires_grad_(False)

    def start_from(self, features: Floats, taught: Floats) -> None:
        """Fit the matrix to what the frozen network makes of photos, (N, D), and the teacher's vectors, (N, dim)."""
        from sklearn.linear_model import RidgeCV

        strengths = [strength * len(features) * float(features.var(0).mean()) for strength in _STRENGTHS]
        fitted = RidgeCV(strengths).fit(features.astype(np.float64), taught)
        with torch.no_grad():
            self.projection.weight.copy_(torch.from_numpy(np.asarray(fitted.coef_)))
            self.projection.bias.copy_(torch.from_numpy(np.asarray(fitted.intercept_)))


def loss(made: torch.Tensor, taught: torch.Tensor, relations: float) -> torch.Tensor:
    """Of a batch's vectors by the student, (B, dim) of any length, and by the teacher, (B, dim) of unit length."""
    student = functional.normalize(made)
    each = 1 - (student * taught).sum(1).mean()
    pairs = (student @ student.T - taught @ taught.T).square().sum()  # of a photo with itself it is 0
    return each + relations * pairs / max(len(made) * (len(made) - 1), 1)


class Distiller(Tuner):
    """A tuner whose photos come with the number of their row, by which it looks up the teacher's vector."""

    kind: type[NetworkSettings] = DistilSettings
    measure = "val_cosine"
    fits_first = True

    def made(self) -> Student:
        self.taught = {part: self._taught(part) for part in (TRAIN, VALIDATION)}
        return Student(self.built, self.taught[TRAIN].shape[1], self.settings.freeze)

    def prepare(self) -> None:
        self.dim = self.taught[TRAIN].shape[1]

    def _taught(self, part: str) -> NDArray[np.float32]:
        """The teacher's vectors of a part, float32 (N, dim) of unit length, mapped from a file."""
        path = self.folder / "teacher" / f"{part}.npy"
        if not path.is_file():
            _write(self.request.training_set, part, self.request.rows[part], path)
        return np.load(path, mmap_mode="r")

    def plain(self, part: str) -> Any:
        return _numbered(super().plain(part))

    def augmented(self) -> Any:
        settings, built = self.settings, self.built
        if settings.rand_augment:
            return _numbered(self.photos(TRAIN, augmented(built, settings.rand_augment, settings.crop)))
        mean, std = normalisation(built.transform)
        how = {"scale": settings.crop, "color_jitter": None, "interpolation": "random", "mean": mean, "std": std}
        return _numbered(self.photos(TRAIN, create_transform(built.input_shape[0], is_training=True, **how)))

    def vectors(self, part: str, rows: Any) -> torch.Tensor:
        """The teacher's, float32 (B, dim), of the rows of these numbers."""
        return torch.from_numpy(np.array(self.taught[part][np.asarray(rows)]))

    def loss_of_step(self) -> Any:
        def of_rows(made: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return loss(made, self.vectors(TRAIN, rows.cpu()).to(made.device), self.settings.relations)

        return of_rows

    def right(self, made: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The cosine to the teacher's vector."""
        return (functional.normalize(made) * self.vectors(VALIDATION, y)).sum(1)

    def fit(self) -> None:
        seed_all(self.request.seed)
        features, rows = head_first.features(self.built, self.augmented(), head_first.FITTED, self.device)
        self.network.start_from(features, self.vectors(TRAIN, rows).numpy())

    @property
    def passes_beside(self) -> int:
        rows = self.request.rows
        return min(rows[TRAIN], head_first.FITTED) + 2 * sum(min(rows[part], most) for part, most in _judges())

    def weights(self) -> dict[str, torch.Tensor]:
        return named(self.learned, self._backbone.source)

    def judged(self, weights: Path) -> dict[str, Any]:
        """mMP@5 of validation photos among training photos that have labels, by product: the teacher's, the network's
        as it was, the student's, and the student's in the teacher's index."""
        backbone = replace(self._backbone, weights=str(weights), encoder_version=None, revision=None)
        student, before = build(replace(backbone, projection=self.dim)), build(self._backbone)
        by: dict[str, list[Any]] = {"teacher": [], "as_it_was": [], "student": []}
        for part, most in _judges():
            photos = super().plain(part)
            made, labels = head_first.features(student, photos, most, self.device)
            as_it_was, _ = head_first.features(before, photos, most, self.device)
            readable = np.flatnonzero(~photos.unreadable[:most].numpy())
            vectors = {"teacher": self.vectors(part, readable).numpy(), "as_it_was": as_it_was, "student": made}
            labelled = labels != UNLABELLED
            for who, rows in vectors.items():
                by[who].append((rows[labelled], labels[labelled]))
        asked = by | {"asymmetric": [by["teacher"][0], by["student"][1]]}
        return {"val_mMP@5": {name: round(head_first.found_again(*parts), 6) for name, parts in asked.items()}}


def _judges() -> Any:
    return head_first.ROWS.items()


def _numbered(photos: Any) -> Any:
    """Let each photo come with the number of its row; one that cannot be read, with that of its stand-in."""
    photos.labels = np.arange(len(photos.labels))
    return photos


def _write(training_set: str, part: str, count: int, path: Path) -> None:
    """The vectors of a part, in its order and of unit length."""
    with files.whole(path) as fresh, fresh.open("wb") as file:
        for batch in open_part(training_set, part).to_batches(columns=["embedding"], use_threads=False):
            if not batch.num_rows:
                continue
            vectors = matrix(batch["embedding"])
            if not file.tell():
                header = {"descr": "<f4", "fortran_order": False, "shape": (count, vectors.shape[1])}
                np.lib.format.write_array_header_1_0(file, header)
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            file.write((vectors / np.maximum(lengths, 1e-12)).astype("<f4").tobytes())


def tune(folder: Path) -> dict[str, Any]:
    """As ``full_tuning.tune``."""
    result = full_tuning.tune(folder, Distiller)
    shutil.rmtree(folder / "teacher", ignore_errors=True)
    return result


def estimate(folder: Path, steps: int = 2) -> dict[str, Any]:
    """As ``full_tuning.estimate``."""
    try:
        return full_tuning.estimate(folder, steps, Distiller)
    finally:
        shutil.rmtree(folder / "teacher", ignore_errors=True)


if __name__ == "__main__":
    run(tune, estimate, sys.argv[1:])
