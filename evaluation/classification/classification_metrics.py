"""How well a classifier tells classes apart, by scikit-learn, and whether its confidence can be believed.

Pure: no input, no output. A classifier is known by what ``predictions`` keeps: the five likeliest classes of each
photo and their probabilities. They define neither the log loss nor the Brier score of all classes (the rest of the
probability may lie anywhere), so neither is given.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from evaluation.statistics.bootstrap import (
    LEVEL,
    Floats,
    Ints,
    PairedDifference,
    Statistic,
    cluster_sums,
    compare,
    interval,
    ratios,
    resample,
)

NAMES = ("accuracy", "top5", "macro_precision", "macro_recall", "macro_f1", "ece")
BINS = 15
MOST_PAIRS = 10
MOST_CLASSES = 20
"""Up to as many classes have their confusion matrix shown whole."""


@dataclass(frozen=True)
class Predictions:
    """What a classifier predicted of N photos; classes are numbers, alike in all fields."""

    truth: Ints
    predicted: Ints
    """(N,): the likeliest."""
    in_top: NDArray[np.bool_]
    """(N,): whether the truth is among the five likeliest."""
    confidence: Floats
    """(N,): the probability of the likeliest, in [0, 1]."""

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        return np.asarray(self.truth == self.predicted)


@dataclass(frozen=True)
class PairedClassifier:
    """One classifier (its name says label and seed too) on the vectors of two encoder versions, photos in one order."""

    name: str
    candidate: Predictions
    other: Predictions
    products: NDArray[np.generic]


def classification_metrics(predictions: Predictions) -> dict[str, float]:
    """Figures of ``NAMES`` over all photos.

    Macro precision, recall and F1 are means over the classes that occur, as truth or as prediction (scikit-learn's
    own choice); a class that was never predicted has precision 0, one that is no photo's truth recall 0.
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support  # slow to import

    macro = precision_recall_fscore_support(predictions.truth, predictions.predicted, average="macro", zero_division=0)
    accuracy = accuracy_score(predictions.truth, predictions.predicted)
    figures = (accuracy, predictions.in_top.mean(), *macro[:3], expected_calibration_error(predictions))
    return {name: float(figure) for name, figure in zip(NAMES, figures, strict=True)}


def expected_calibration_error(predictions: Predictions) -> float:
    """The mean gap between confidence and accuracy: sum over 15 equal bins m of |B_m| / N * |acc(B_m) - conf(B_m)|.

    Bin m holds the photos whose confidence is in ((m - 1) / 15, m / 15] (Guo, Pleiss, Sun and Weinberger, On
    Calibration of Modern Neural Networks, 2017; the bins as in Pleiss' temperature_scaling). Binning biases it upwards,
    most where photos are few and the classifier is well calibrated.
    """
    return float(np.abs(_gaps(predictions).sum(axis=0)).sum() / len(predictions.truth))


def _bins(predictions: Predictions) -> Ints:
    # In float32, as confidences are kept: what is just a bin's upper bound belongs to it.
    uppers = np.linspace(0, 1, BINS + 1, dtype=np.float32)[1:-1]
    return np.searchsorted(uppers, predictions.confidence.astype(np.float32), side="left")


def _gaps(predictions: Predictions) -> Floats:
    """(N, BINS): right (1 or 0) minus confidence, in the photo's bin: their sum over a bin is |B| * (acc - conf)."""
    gaps = np.zeros((len(predictions.truth), BINS))
    gaps[np.arange(len(predictions.truth)), _bins(predictions)] = predictions.right - predictions.confidence
    return gaps


def calibration(predictions: Predictions) -> list[dict[str, float]]:
    """The reliability diagram: each bin that holds photos, with their mean confidence and accuracy."""
    bins = _bins(predictions)
    return [
        {
            "above": at / BINS,
            "upto": (at + 1) / BINS,
            "photos": int((bins == at).sum()),
            "confidence": float(predictions.confidence[bins == at].mean()),
            "accuracy": float(predictions.right[bins == at].mean()),
        }
        for at in np.unique(bins).tolist()
    ]


def confusion(predictions: Predictions, classes: list[str]) -> dict[str, Any]:
    """``most_confused``: the pairs of classes that were mistaken most often; and where there are few classes
    ``confusion_matrix``, a row a true class, with its ``classes``."""
    wrong = ~predictions.right
    mistakes = Counter(zip(predictions.truth[wrong].tolist(), predictions.predicted[wrong].tolist(), strict=True))
    ordered = sorted(mistakes.items(), key=lambda item: (-item[1], item[0]))[:MOST_PAIRS]
    pairs = [{"truth": classes[true], "predicted": classes[other], "photos": n} for (true, other), n in ordered]
    if len(classes) > MOST_CLASSES:
        return {"most_confused": pairs}
    from sklearn.metrics import confusion_matrix

    matrix = confusion_matrix(predictions.truth, predictions.predicted, labels=range(len(classes)))
    return {"most_confused": pairs, "classes": classes, "confusion_matrix": matrix.tolist()}


# ---- intervals ----


def classification_intervals(predictions: Predictions, clusters: NDArray[np.generic]) -> Floats:
    """The 95 % interval of each figure of ``NAMES``, (6, 2): photos resampled by ``clusters`` (N,), their products.

    NaN where there are fewer than two clusters. That of ``ece`` leans upwards, as ``ece`` itself does.
    """
    _, codes = np.unique(clusters, return_inverse=True)
    count = int(codes.max()) + 1
    if count < 2:
        return np.full((len(NAMES), 2), np.nan)
    return interval(resample(_statistic(predictions, codes), count, width=_width(predictions)))


def paired_classification(
    candidate: Predictions,
    other: Predictions,
    clusters: NDArray[np.generic],
    margin: float = 0.0,
    confidence: float = LEVEL,
) -> dict[str, PairedDifference]:
    """``accuracy`` and ``macro_f1`` of two classifiers on the same photos, resampled together.

    ``clusters``, ``margin`` and ``confidence`` as for ``bootstrap.paired_difference``.
    """
    _, codes = np.unique(clusters, return_inverse=True)
    ours, theirs = _statistic(candidate, codes), _statistic(other, codes)
    width, same = _width(candidate) + _width(other), (len(codes), margin, confidence)

    def difference(at: int) -> Statistic:
        return lambda counts: ours(counts)[:, at] - theirs(counts)[:, at]

    return {
        name: compare(difference(NAMES.index(name)), int(codes.max()) + 1, *same, width=width)
        for name in ("accuracy", "macro_f1")
    }


def _width(predictions: Predictions) -> int:
    return 3 * (int(max(predictions.truth.max(), predictions.predicted.max())) + 1)


def _statistic(predictions: Predictions, clusters: Ints) -> Statistic:
    """All figures of the clusters' counts, (b, 6), by sums over each cluster.

    Macro figures of a resample need only three counts a class: photos of it, predicted as it, and rightly so. They
    are sums over the drawn clusters: the row sums, column sums and diagonal of the weighted confusion matrix.
    """
    sums = cluster_sums(np.column_stack([predictions.right, predictions.in_top]).astype(np.float64), clusters)
    gaps = cluster_sums(_gaps(predictions), clusters)
    shape = (len(sums), int(max(predictions.truth.max(), predictions.predicted.max())) + 1)

    def by_class(of: Ints, where: Any = slice(None)) -> sparse.csr_array:
        ones = np.ones(len(of[where]))
        return sparse.coo_array((ones, (clusters[where], of[where])), shape=shape).tocsr()

    true, predicted = by_class(predictions.truth), by_class(predictions.predicted)
    right = by_class(predictions.truth, predictions.right)

    def statistic(counts: Floats) -> Floats:
        ece = np.abs(ratios(counts @ gaps)).sum(axis=1)
        macro = _macro(counts @ true, counts @ predicted, counts @ right)
        return np.column_stack([ratios(counts @ sums), *macro, ece])

    return statistic


def _macro(true: Floats, predicted: Floats, right: Floats) -> tuple[Floats, Floats, Floats]:
    """Macro precision, recall and F1, each (b,), of the photos of each class, predicted as it, and rightly so, (b, K);
    over the classes that the resample has."""
    occur = (true + predicted > 0).sum(axis=1)
    shares = (
        right / np.maximum(predicted, 1),
        right / np.maximum(true, 1),
        2 * right / np.maximum(true + predicted, 1),
    )
    precision, recall, f1 = (share.sum(axis=1) / occur for share in shares)
    return precision, recall, f1
