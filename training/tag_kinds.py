"""Kinds of classifiers for tagging beside the closed forms: each is fitted on rows in memory, and applied by NumPy.

- ``linear_probe``: multinomial logistic regression (scikit-learn's), as strong as one half of the products tells the
  other best.
- ``nearest_neighbours``: ``vitrine.encoders.nearest``, with as many as tell it best likewise.
- ``perceptron``: that of top-tuning (``[tune.top]``), in a process of its own: a fifth of the products stops it.
"""

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from training import tune
from training.training_set import TRAIN, VALIDATION, TrainingSet
from vitrine.encoders.classifiers import NEAREST
from vitrine.encoders.heads import Head
from vitrine.encoders.nearest import Neighbours
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.vectors import Floats, lists

LINEAR_PROBE, PERCEPTRON = "linear_probe", "perceptron"
MOST_CLASSES = 1000
"""Of a linear probe: its time grows with the classes times the photos."""
_STRENGTHS = (1.0, 10.0, 100.0)  # inverse of the probe's L2 regularisation; inputs are small, so it is weak
_COUNTS = (1, 5, 10, 20)  # of neighbours


@dataclass(frozen=True)
class LabelledRows:
    """Rows of a training set."""

    x: Floats
    """Vectors, (N, D)."""
    y: NDArray[np.int32]
    """Numbers of their classes, (N,)."""
    products: NDArray[np.int64]
    """A number for each product, (N,)."""

    def where(self, kept: NDArray[np.bool_]) -> "LabelledRows":
        return LabelledRows(self.x[kept], self.y[kept], self.products[kept])


Fit = Callable[[Settings, TrainingSet, LabelledRows], tuple[Head | Neighbours, float]]
"""A classifier of the rows, and the value of its knob."""


def parts(drawn: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """One of ``count`` parts for each of ``drawn``, (N,); equal ones are in one."""
    unique, codes = np.unique(drawn, return_inverse=True)
    return np.asarray((np.random.default_rng(seed).permutation(len(unique)) % count)[codes])


def accuracy(made: Head | Neighbours, rows: LabelledRows) -> float:
    return float((made.logits(rows.x).argmax(1) == rows.y).mean())


def _neighbours(settings: Settings, about: TrainingSet, rows: LabelledRows) -> tuple[Head | Neighbours, float]:
    def made(learned: LabelledRows, count: float) -> Neighbours:
        return Neighbours(learned.x, learned.y, tuple(about.classes), int(count))

    best = _best_knob(rows, about.seed, _COUNTS, made)
    return made(rows, best), best


def _linear_probe(settings: Settings, about: TrainingSet, rows: LabelledRows) -> tuple[Head | Neighbours, float]:
    if len(about.classes) > MOST_CLASSES:
        raise UserError(
            f"a linear probe of {len(about.classes):,} classes: it is for {MOST_CLASSES:,} at most; take it out of "
            "[tags] kinds: discriminants and nearest_neighbours are fit for any number"
        )

    def made(learned: LabelledRows, strength: float) -> Head:
        return probe(learned.x, learned.y, about.classes, strength, about.seed)

    best = _best_knob(rows, about.seed, _STRENGTHS, made)
    return made(rows, best), best


def probe(x: Floats, y: NDArray[np.int32], classes: list[str], strength: float, seed: int) -> Head:
    """A linear probe as a head; a class that no row is of has no probability."""
    from sklearn.linear_model import LogisticRegression  # slow to import

    model = LogisticRegression(C=strength, max_iter=1000, random_state=seed).fit(x, y)
    weight, bias = np.zeros((x.shape[1], len(classes)), np.float32), np.full(len(classes), -1e30, np.float32)
    known = model.classes_
    if len(known) == 2:  # one row then tells the second from the first
        weight[:, known[1]], bias[known] = model.coef_[0], (0.0, model.intercept_[0])
    else:
        weight[:, known], bias[known] = model.coef_.T, model.intercept_
    as_is = np.eye(x.shape[1], dtype=np.float32), np.zeros(x.shape[1], np.float32)
    return Head((as_is,), (weight, bias), tuple(classes), activation="linear")


def _perceptron(settings: Settings, about: TrainingSet, rows: LabelledRows) -> tuple[Head | Neighbours, float]:
    stops = parts(rows.products, 5, about.seed) == 0
    cut = {TRAIN: rows.where(~stops), VALIDATION: rows.where(stops)}
    digest = hashlib.sha256(about.fingerprint.encode())
    with tempfile.TemporaryDirectory() as folder:
        for part, mine in cut.items():
            digest.update(mine.x.tobytes() + mine.y.tobytes())
            (Path(folder) / part).mkdir()
            table = pa.table({"label": pa.array(mine.y, pa.int32()), "embedding": lists(mine.x)})
            pyarrow.parquet.write_table(table, Path(folder) / part / "part-0.parquet")
        own = replace(about, folder=folder, fingerprint=digest.hexdigest()[:16], train=len(cut[TRAIN].y))
        own = replace(own, validation=len(cut[VALIDATION].y))
        return tune.top_head(settings, own), 0.0


def _best_knob(
    rows: LabelledRows, seed: int, values: tuple[float, ...], made: Callable[[LabelledRows, float], Head | Neighbours]
) -> float:
    """The value with which one half of the products tells the other half best."""
    half = parts(rows.products, 2, seed) == 0
    learned, asked = rows.where(~half), rows.where(half)
    return max(values, key=lambda value: accuracy(made(learned, value), asked))


FITS: dict[str, Fit] = {LINEAR_PROBE: _linear_probe, NEAREST: _neighbours, PERCEPTRON: _perceptron}
