"""What the literature foretells of an encoder by its vectors and labels alone: LogME and the regularised H-score.

They are shown beside what was measured and decide nothing: both speak of a classifier of the sample's labels, not of
finding products again.
"""

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from evaluation.advice.race import Floats
from evaluation.advice.sample import Ints
from vitrine import vectors

_STEPS, _NEAR = 100, 1e-6
_NOTHING = 1e-12


def scores(rows: vectors.Floats, labels: Ints) -> tuple[float, float] | None:
    """LogME and the regularised H-score of ``rows``, (N, D), by ``labels``, (N,); higher is better.

    Photos without a vector or label, and labels of one photo, are left out; None where no two labels are left.
    """
    kept = (labels >= 0) & np.asarray(rows.any(axis=1))
    counts = np.bincount(labels[kept], minlength=1)
    kept &= np.where(labels >= 0, counts[np.clip(labels, 0, len(counts) - 1)], 0) > 1
    _, codes = np.unique(labels[kept], return_inverse=True)
    if not len(codes) or codes.max() < 1:
        return None
    features, codes = rows[kept].astype(np.float64), codes.astype(np.int64)
    return logme(features, codes), h_score(features, codes)


def logme(features: Floats, codes: Ints) -> float:
    """The logarithm of the maximum evidence a photo, the mean over classes (You et al., ICML 2021, arXiv 2102.11005).

    For each class, whether a photo, (N,) of 0 and 1, shows it is regressed on ``features``, (N, D), by weights of
    precision alpha with noise of precision beta; the evidence is maximised over both by the paper's fixed point, all
    classes at once in the basis of the features' singular vectors.

    Args:
        codes: (N,), the classes 0 to K - 1, each with a photo.
    """
    count, dim = features.shape
    basis, singular, _ = np.linalg.svd(features, full_matrices=False)
    shown = np.bincount(codes).astype(np.float64)  # the squared length of each class's column
    columns = np.zeros((len(singular), len(shown)))
    np.add.at(columns.T, codes, basis)
    power = (singular**2)[:, None]
    inside, beyond = columns**2, np.maximum(shown - (columns**2).sum(0), 0.0)
    alpha, beta = np.ones(len(shown)), np.ones(len(shown))
    for _ in range(_STEPS):
        shrunk = alpha + beta * power
        known = (beta * power / shrunk).sum(0)
        weights, errors = _lengths(inside, beyond, power, alpha, beta)
        ratio, alpha, beta = alpha / beta, known / weights, (count - known) / errors
        if np.all(np.abs(alpha / beta - ratio) <= _NEAR * ratio):
            break
    weights, errors = _lengths(inside, beyond, power, alpha, beta)
    log_det = np.log(alpha + beta * power).sum(0) + (dim - len(singular)) * np.log(alpha)
    evidence = count * np.log(beta) + dim * np.log(alpha) - count * np.log(2 * np.pi)
    evidence -= beta * errors + alpha * weights + log_det
    return float((evidence / 2 / count).mean())


def _lengths(inside: Floats, beyond: Floats, power: Floats, alpha: Floats, beta: Floats) -> tuple[Floats, Floats]:
    """The squared lengths of each class's weights, and of what they leave unexplained, (K,)."""
    shrunk = alpha + beta * power
    weights = (beta**2 * power * inside / shrunk**2).sum(0)
    errors = (alpha**2 * inside / shrunk**2).sum(0) + beyond
    return np.maximum(weights, _NOTHING), np.maximum(errors, _NOTHING)


def h_score(features: Floats, codes: Ints, shrinkage: float | None = None) -> float:
    """How much of the features' spread lies between classes: the trace of inv(cov_a(f)) (1 - a) cov(E[f | y]).

    The H-score (Bao et al., ICIP 2019) with the covariance shrunk towards a sphere, cov_a = (1 - a) cov + a trace / D
    (Ibrahim, Ponomareva and Mazumder, arXiv 2110.06893), by Ledoit and Wolf's ``shrinkage`` a unless it is given; 0: as
    Bao et al. have it. Both covariances are divided by N.
    """
    centred = features - features.mean(0)
    share = float(ledoit_wolf_shrinkage(centred, assume_centered=True)) if shrinkage is None else shrinkage
    shown = np.bincount(codes).astype(np.float64)
    means = np.zeros((len(shown), centred.shape[1]))
    np.add.at(means, codes, centred)
    means /= np.sqrt(shown)[:, None]  # so that means.T @ means is N times the covariance of the classes' means
    powers, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    shrunk = (1 - share) * powers + share * powers.mean()
    seen = shrunk > _NOTHING * shrunk.max()
    between = ((means @ axes[:, seen]) ** 2).sum(0) / len(centred)
    return float((1 - share) * (between / shrunk[seen]).sum())
