"""LogME and the H-score against their published formulas, written out with dense matrices."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf

from evaluation.advice.transferability import h_score, logme, scores


def drawn(count: int, dim: int, classes: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    codes = np.arange(count) % classes
    return chance.normal(size=(classes, dim))[codes] + noise * chance.normal(size=(count, dim)), codes


@pytest.mark.parametrize(("count", "dim"), [(40, 6), (20, 30)])
def test_logme_is_the_highest_evidence_of_the_marginal_likelihood(count: int, dim: int):
    """Arxiv 2102.11005: y is normal with covariance I / beta + F F' / alpha; here found by a search, class by class."""
    features, codes = drawn(count, dim, 4, noise=1.0)
    highest = []
    for each in range(4):
        shown = (codes == each).astype(float)

        def unlikely(logs: np.ndarray) -> float:
            alpha, beta = np.exp(logs)
            covariance = np.eye(count) / beta + features @ features.T / alpha
            return -float(multivariate_normal(np.zeros(count), covariance).logpdf(shown))  # noqa: B023

        highest.append(-minimize(unlikely, [1.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-8}).fun / count)
    assert logme(features, codes) == pytest.approx(np.mean(highest), abs=1e-5)


def test_the_h_score_is_the_trace_of_the_published_formula():
    features, codes = drawn(60, 8, 5, noise=0.7)
    between = np.cov(np.stack([features[codes == each].mean(0) for each in codes]), rowvar=False, bias=True)
    plain = np.linalg.inv(np.cov(features, rowvar=False, bias=True)) @ between
    assert h_score(features, codes, shrinkage=0.0) == pytest.approx(np.trace(plain))
    shrunk = LedoitWolf().fit(features)
    regularised = np.linalg.inv(shrunk.covariance_) @ ((1 - shrunk.shrinkage_) * between)
    assert h_score(features, codes) == pytest.approx(np.trace(regularised))


def test_both_are_higher_where_classes_lie_apart_and_leave_out_what_says_nothing():
    near, codes = drawn(60, 8, 5, noise=2.0)
    far, _ = drawn(60, 8, 5, noise=0.3)
    low, high = scores(near.astype(np.float32), codes), scores(far.astype(np.float32), codes)
    assert low and high and low[0] < high[0] and low[1] < high[1]
    more = np.vstack([far, np.zeros((1, 8)), np.ones((2, 8))]).astype(np.float32)
    assert scores(more, np.append(codes, [0, 5, -1])) == pytest.approx(high)
    assert scores(far[:5].astype(np.float32), np.arange(5)) is None
    assert scores(far.astype(np.float32), np.zeros(60, np.int64)) is None


def test_vectors_that_lie_in_a_plane_have_finite_scores():
    features, codes = drawn(40, 3, 4, noise=0.5)
    found = scores(np.hstack([features, np.zeros((40, 5))]).astype(np.float32), codes)
    assert found and np.isfinite(found).all()
    told = scores(np.eye(4, dtype=np.float32)[codes], codes)
    assert told and np.isfinite(told).all()
