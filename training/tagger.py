"""A classifier for tagging, learned in closed form from a training set, and when it is sure enough.

Kind and strength are those with which one half of the training part tells the other half best. The validation part
gives the temperature, the one of greatest likelihood (``training.linear_tuning``), and the threshold. That is the
loosest that fixed-sequence testing reaches (Angelopoulos et al., Learn then Test, 2021, arXiv 2110.01052): photos of
the validation part, surest first, are taken in, a step at a time, as long as the Clopper-Pearson lower bound of the
precision is at least what is asked. The first step that fails ends it, so steps need no correction among each other.
It is one threshold for all classes.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from training.linear_tuning import Candidate, Cells, Moments, as_head, scale, solutions
from training.training_set import TRAIN, VALIDATION, TrainingSet, first_rows
from training.tuning_process import LinearTuningRequest
from vitrine.encoders import classifiers, heads
from vitrine.encoders.classifiers import About, Classifier
from vitrine.errors import UserError
from vitrine.setting_sections import TagSettings
from vitrine.settings import Settings
from vitrine.vectors import Floats

KINDS = ("discriminants", "ridge")
_MOST = 20_000
"""Photos of each part that the choice is made with."""
_STEPS = 20


def learn(settings: Settings, rows: TrainingSet) -> Classifier:
    """The classifier of ``rows``, saved.

    Raises:
        UserError: no photos are aside to choose by, or every class has one photo.
    """
    strengths = settings.tune.linear.strengths
    request = LinearTuningRequest(rows.folder, rows.sizes, rows.classes, {}, rows.seed, 1.0, rows.validation_from)
    if not rows.validation:
        raise UserError(f"training set {rows.fingerprint} has no validation part: nothing says how sure a tag is")
    x, truth = first_rows(rows.folder, VALIDATION, _MOST)
    moments = Cells(request).all_of(TRAIN)
    learned, asked = _halves(rows)
    # One-hot classes of more classes than dimensions would need a matrix of classes by classes.
    kinds = [kind for kind in KINDS if kind != "ridge" or len(rows.classes) <= x.shape[1]]
    try:
        best = max(solutions(learned, kinds, strengths), key=lambda each: _accuracy(each, learned, rows, *asked))
        (best,) = solutions(moments, [best.kind], [best.strength])
    except ArithmeticError as error:
        raise UserError(str(error)) from None
    head = as_head(best, moments, rows.classes)
    (white,) = solutions(moments, ["whitening"], [best.strength])
    classifier = _calibrated(best, white, head, rows, scale(head, request), moments.sums, moments.counts)
    distances = classifier.distances(x)
    farthest = float(np.quantile(distances, 1 - settings.tags.unlike))
    about = replace(classifier.about, farthest=farthest)
    classifier = replace(classifier, about=about)
    said = classifier.tag(x)
    inside = distances <= farthest
    right = (said.best == truth) & inside
    threshold = precise_threshold(said.probability[inside], right[inside], settings.tags)
    taken = inside & (said.probability >= (np.inf if threshold is None else threshold))
    classifier = classifiers.with_threshold(
        classifier,
        threshold,
        photos=len(truth),
        accuracy=float((said.best == truth).mean()),
        coverage=float(taken.mean()),
        precision=float(right[taken].mean()) if taken.any() else None,
    )
    classifiers.save(settings, classifier)
    return classifier


def precise_threshold(
    probabilities: NDArray[np.floating], right: NDArray[np.bool_], asked: TagSettings
) -> float | None:
    """The least probability from which tags are precise enough with the confidence asked; None where there is none.

    ``probabilities`` and ``right``: of each photo's likeliest class, (N,).
    """
    order = np.argsort(-probabilities, kind="stable")
    likely, hits = probabilities[order], np.cumsum(right[order])
    error = 1 - asked.confidence
    # The first step is the fewest photos that may hold one mistake: with fewer, one unlucky photo would end it all.
    first = next((n for n in range(1, len(order) + 1) if lower_bound(n - 1, n, error) >= asked.precision), None)
    if first is None:
        first = next((n for n in range(1, len(order) + 1) if lower_bound(n, n, error) >= asked.precision), None)
    if first is None:
        return None
    threshold = None
    for count in np.unique(np.linspace(first, len(order), _STEPS).astype(int)):
        # Photos of one probability are in together.
        count = int(np.searchsorted(-likely, -likely[count - 1], side="right"))
        if lower_bound(int(hits[count - 1]), count, error) < asked.precision:
            break
        threshold = float(likely[count - 1])
    return threshold


def lower_bound(right: int, of: int, error: float) -> float:
    """The Clopper-Pearson lower bound of a share, which holds but for a probability of ``error``."""
    return float(stats.beta.ppf(error, right, of - right + 1)) if right else 0.0


def _halves(rows: TrainingSet) -> tuple[Moments, tuple[Floats, NDArray[np.int32]]]:
    """The moments of every other photo of the training part (its first ``_MOST``), and the others' rows and classes."""
    x, y = first_rows(rows.folder, TRAIN, _MOST)
    mine, labels = x[::2].astype(np.float64), y[::2]
    sums = np.zeros((len(rows.classes), x.shape[1]))
    np.add.at(sums, labels, mine)
    counts = np.bincount(labels, minlength=len(rows.classes)).astype(np.float64)
    return Moments(mine.T @ mine, sums, counts), (x[1::2], y[1::2])


def _accuracy(candidate: Candidate, learned: Moments, rows: TrainingSet, x: Floats, truth: NDArray[np.int32]) -> float:
    return float((as_head(candidate, learned, rows.classes).logits(x).argmax(1) == truth).mean())


def _calibrated(
    best: Candidate,
    white: Candidate,
    head: heads.Head,
    rows: TrainingSet,
    factor: float,
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> Classifier:
    weight, bias = (np.asarray(value * factor, np.float32) for value in head.classifier)
    present = counts > 0
    means = sums[present] / counts[present, None] @ white.weight
    about = About(
        rows.dataset,
        rows.label,
        str(rows.encoder),
        str(rows.encoder_version),
        best.kind,
        best.strength,
        rows.fingerprint,
        threshold=None,
        farthest=np.inf,
        validation={},
    )
    calibrated = replace(head, classifier=(weight, bias))
    return Classifier(about, calibrated, white.weight.astype(np.float32), means.astype(np.float32))
