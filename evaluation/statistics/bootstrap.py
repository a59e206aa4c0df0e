"""How sure a figure is: intervals by the cluster bootstrap, in NumPy alone, no input, no output.

Queries with photos of one product are alike, so they are no independent draws. Whole products (clusters) are drawn with
replacement, as many as there are, each with all its queries, and the figure is computed again of every such resample.
The interval is what the middle 95 % of these figures span: the percentile interval (Efron and Tibshirani, An
Introduction to the Bootstrap, 1993) of the cluster bootstrap (Davison and Hinkley, Bootstrap Methods and their
Application, 1997; Field and Welsh, Bootstrapping clustered data, J. R. Statist. Soc. B 69, 2007, find its estimates of
variance consistent). The index is taken as it is: the interval says how the figure varies with what is asked.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

RESAMPLES, LEVEL, SEED = 1_000, 0.95, 0
_MOST_NUMBERS = 4_000_000  # held at once by a step of ``resample``, 8 bytes each, a few times over
_NOISE = 1e-12  # so that a drop of just the margin is decided by the figures, not by their last bit

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]
Statistic = Callable[[Floats], Floats]
"""From how often each cluster was drawn, float64 (b, C), a row a resample, to the figures of each, (b, ...)."""


def resample(statistic: Statistic, clusters: int, width: int = 1) -> Floats:
    """``statistic`` of every resample: float64, (RESAMPLES, ...).

    Counts are multinomial: ``clusters`` draws, each cluster as likely as any other. Some resamples are handled at a
    time, so that memory does not grow with their number; ``width`` is how many numbers ``statistic`` holds for each.
    The same number of clusters gives the same resamples: so two statistics are paired.
    """
    random = np.random.default_rng(SEED)
    step = max(1, _MOST_NUMBERS // max(clusters, width))
    parts = []
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        drawn = random.integers(clusters, size=(rows, clusters), dtype=np.int32) + clusters * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters)
        parts.append(statistic(counts.astype(np.float64)))
    return np.concatenate(parts)


def interval(draws: Floats) -> Floats:
    """The percentile interval of ``draws``, (R, ...): (..., 2), low and high.

    A resample whose figure is NaN (it drew nothing of what the figure is of) is left out; NaN where all are.
    """
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    if not np.isnan(draws).any():
        return np.moveaxis(np.quantile(draws, tails, axis=0), 0, -1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.moveaxis(np.nanquantile(draws, tails, axis=0), 0, -1)


def cluster_sums(values: Floats, clusters: Ints) -> Floats:
    """The sums of ``values``, (Q, M), over each cluster, and its size: float64, (C, M + 1).

    ``clusters``: int (Q,), 0 .. C - 1.
    """
    return np.column_stack([*(np.bincount(clusters, weights=column) for column in values.T), np.bincount(clusters)])


def ratios(sums: Floats) -> Floats:
    """Means of sums whose last column is the number summed: (..., M + 1) to (..., M); NaN where it is 0."""
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[..., :-1] / sums[..., -1:])


# ---- one encoder beside another ----


@dataclass(frozen=True)
class PairedDifference:
    """A figure of a candidate minus that of what it is compared with, on the same queries."""

    value: float
    low: float
    high: float
    """The interval of ``value``; NaN, as the next two, where there are fewer than two clusters."""
    standard_error: float
    p_worse: float
    """The share of resamples in which the candidate is worse by more than ``margin``."""
    queries: int
    clusters: int
    margin: float
    confidence: float

    @property
    def worse(self) -> bool:
        """Worse beyond the margin, with the confidence asked for."""
        return self.p_worse >= self.confidence

    @property
    def clear(self) -> bool:
        """Worse beyond the margin, or not, with the confidence asked for."""
        return self.worse or self.p_worse <= 1 - self.confidence

    @property
    def more_queries(self) -> int | None:
        """About how many more queries, of as many a cluster, would make it clear; 0 where it is, None where none would.

        If value v and spread stay as they are, the standard error of n' queries is s * sqrt(n / n') by the normal
        approximation, and the case is clear from z * s * sqrt(n / n') = |v + margin| on, z the normal quantile of
        the confidence: n' = n * (z * s / |v + margin|)^2. An estimate from few queries is itself unsure (Webber,
        Moffat and Zobel, Statistical power in retrieval experimentation, CIKM 2008).
        """
        if self.clear:
            return 0
        distance = abs(self.value + self.margin)
        if math.isnan(self.standard_error) or distance <= _NOISE:
            return None
        needed = self.queries * (NormalDist().inv_cdf(self.confidence) * self.standard_error / distance) ** 2
        return max(1, math.ceil(needed - self.queries))


def paired_difference(
    candidate: Floats, other: Floats, clusters: NDArray[np.generic], margin: float = 0.0, confidence: float = LEVEL
) -> PairedDifference:
    """The difference of two means over the same queries, resampled together.

    Args:
        candidate, other: float64, (Q,): each query's figure; one that is NaN in either is left out of both.
        clusters: (Q,): what each query belongs to.
        margin: how much worse the candidate may be.
        confidence: of ``worse`` and ``clear``, above 0.5; one-sided.

    Raises:
        ValueError: no query is left.
    """
    difference = candidate - other
    kept = np.asarray(~np.isnan(difference))
    if not kept.any():
        raise ValueError("no query has a figure on both sides")
    _, codes = np.unique(clusters[kept], return_inverse=True)
    sums = cluster_sums(difference[kept, None], codes)
    return compare(lambda counts: ratios(counts @ sums)[:, 0], len(sums), int(kept.sum()), margin, confidence)


def compare(
    difference: Statistic, clusters: int, queries: int, margin: float = 0.0, confidence: float = LEVEL, width: int = 1
) -> PairedDifference:
    """The same of any statistic: ``difference`` gives candidate minus other, (b,), of the clusters' counts."""
    value = float(difference(np.ones((1, clusters)))[0])
    low = high = error = p_worse = float("nan")
    if clusters >= 2:
        draws = resample(difference, clusters, width=width)
        low, high = interval(draws).tolist()
        error, p_worse = float(draws.std(ddof=1)), float((draws < -margin - _NOISE).mean())
    return PairedDifference(value, low, high, error, p_worse, queries, clusters, margin, confidence)
