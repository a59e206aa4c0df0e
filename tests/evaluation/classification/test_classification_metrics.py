"""Classifiers' figures beside scikit-learn's own, and their intervals beside resamples drawn literally."""

import numpy as np
import pytest
from sklearn import metrics

from evaluation.classification.classification_metrics import (
    NAMES,
    Predictions,
    _statistic,
    calibration,
    classification_intervals,
    classification_metrics,
    confusion,
    expected_calibration_error,
    paired_classification,
)
from tests.support.mean_intervals import mean_intervals


def said(seed: int = 0, photos: int = 300, classes: int = 6, right: float = 0.7) -> tuple[Predictions, np.ndarray]:
    """Some classes rarer than others, the last one never predicted, another never the truth; and products."""
    random = np.random.default_rng(seed)
    products = np.sort(random.integers(photos // 4, size=photos))
    truth = np.minimum(random.geometric(0.4, photos // 4) - 1, classes - 2)[products]
    truth[:3] = classes - 1
    other = random.integers(classes - 1, size=photos)
    predicted = np.where(random.random(photos) < right, truth, other)
    predicted[predicted == classes - 1] = 0
    predicted[5] = classes
    in_top = (truth == predicted) | (random.random(photos) < 0.5)
    return Predictions(truth, predicted, in_top, random.random(photos)), products


def sklearns(one: Predictions) -> dict[str, float]:
    macro = {"average": "macro", "zero_division": 0}
    return {
        "accuracy": metrics.accuracy_score(one.truth, one.predicted),
        "top5": one.in_top.mean(),
        "macro_precision": metrics.precision_score(one.truth, one.predicted, **macro),
        "macro_recall": metrics.recall_score(one.truth, one.predicted, **macro),
        "macro_f1": metrics.f1_score(one.truth, one.predicted, **macro),
    }


def test_figures_are_scikit_learns() -> None:
    one, _ = said()
    found = classification_metrics(one)
    assert tuple(found) == NAMES
    assert {name: value for name, value in found.items() if name != "ece"} == pytest.approx(sklearns(one))


def test_calibration_by_hand() -> None:
    truth, predicted = np.zeros(5, dtype=int), np.array([0, 0, 1, 0, 1])
    one = Predictions(truth, predicted, truth == predicted, np.array([0.95, 1.0, 0.99, 0.2, 0.21]))
    # (14/15, 1]: 2 of 3 right at 0.98; (2/15, 3/15]: right at 0.2, the bin's upper bound; (3/15, 4/15]: wrong at 0.21.
    expected = 3 / 5 * abs(2 / 3 - 2.94 / 3) + 1 / 5 * 0.8 + 1 / 5 * 0.21
    assert expected_calibration_error(one) == pytest.approx(expected)
    bins = calibration(one)
    assert [bin["photos"] for bin in bins] == [1, 1, 3]
    assert (bins[0]["upto"], bins[2]["upto"]) == (3 / 15, 1)
    assert bins[2]["accuracy"] == pytest.approx(2 / 3) and bins[2]["confidence"] == pytest.approx(0.98)
    assert sum(b["photos"] / 5 * abs(b["accuracy"] - b["confidence"]) for b in bins) == pytest.approx(expected)


def test_a_resample_has_scikit_learns_figures_of_the_photos_drawn() -> None:
    one, products = said(seed=3, photos=80)
    _, codes = np.unique(products, return_inverse=True)
    counts = np.random.default_rng(4).multinomial(codes.max() + 1, np.full(codes.max() + 1, 1 / (codes.max() + 1)), 20)
    found = _statistic(one, codes)(counts.astype(float))
    for row, figures in zip(counts, found, strict=True):
        drawn = np.repeat(np.arange(len(codes)), row[codes])
        part = Predictions(*(getattr(one, name)[drawn] for name in ("truth", "predicted", "in_top", "confidence")))
        expected = sklearns(part) | {"ece": expected_calibration_error(part)}
        assert dict(zip(NAMES, figures, strict=True)) == pytest.approx(expected)


def test_intervals_hold_the_figures_and_one_product_has_none() -> None:
    one, products = said()
    found = classification_intervals(one, products)
    for name, (low, high) in zip(NAMES, found, strict=True):
        assert low < high and (name == "ece" or low < classification_metrics(one)[name] < high), name
    expected = mean_intervals((one.truth == one.predicted)[:, None].astype(float), products)
    np.testing.assert_allclose(found[:1], expected)
    assert np.isnan(classification_intervals(one, np.zeros(len(products)))).all()


def test_the_most_confused_classes_come_first() -> None:
    truth, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([1, 1, 2, 1, 0, 2])
    one = Predictions(truth, predicted, truth == predicted, np.ones(6))
    found = confusion(one, ["a", "b'", "c\n"])
    pairs = [(pair["truth"], pair["predicted"], pair["photos"]) for pair in found["most_confused"]]
    assert pairs == [("a", "b'", 2), ("a", "c\n", 1), ("b'", "a", 1)]
    assert found["confusion_matrix"] == [[0, 2, 1], [1, 1, 0], [0, 0, 1]] and found["classes"] == ["a", "b'", "c\n"]
    assert list(confusion(one, [str(n) for n in range(21)])) == ["most_confused"]


def test_classifiers_are_compared_photo_by_photo() -> None:
    better, products = said(seed=5, photos=2000, right=0.75)
    worse = Predictions(
        better.truth, np.where(np.arange(2000) % 12 == 7, 0, better.predicted), better.in_top, better.confidence
    )
    found = paired_classification(worse, better, products)
    ours, theirs = classification_metrics(worse), classification_metrics(better)
    for name in ("accuracy", "macro_f1"):
        assert found[name].value == pytest.approx(ours[name] - theirs[name]) and found[name].queries == 2000
        assert found[name].worse and found[name].high < 0
    assert not paired_classification(better, better, products)["macro_f1"].worse
