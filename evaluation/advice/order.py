"""Which encoder to measure next: the best of each pre-training first, then by an upper bound.

What a candidate is worth on this catalog is its prior, scaled, plus a Gaussian process over the public scores, plus a
part of its own. The next one is that with the most to gain by the upper bound (GP-UCB, Srinivas et al., ICML 2010),
for each second that measuring it takes. The process's widths are fixed, not fitted: a handful of measurements decides
nothing about them. But where figures lie farther apart than the process allows, all its deviations are so much wider,
as a Student-t process has them (Shah, Wilson and Ghahramani, AISTATS 2014): it excludes nothing by what surprised it.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from evaluation.advice.priors import Candidate, Floats
from vitrine.names import JOIN


@dataclass(frozen=True)
class Beliefs:
    """How far public figures are trusted, in units of ``spread``."""

    spread: float = 0.1
    """Standard deviation of R@1 over models, the mean of the public tasks (0.10)."""
    prior: float = 0.7
    """What one standard score promises."""
    shared: float = 0.6
    """Variance that candidates of like scores have together."""
    own: float = 0.05
    """Variance that is each candidate's own."""
    length: float = 1.5
    """Distance in scores at which candidates stop being alike."""
    optimism: float = 2.0
    """Deviations above the mean that the upper bound lies."""


@dataclass(frozen=True)
class Measured:
    """A candidate's figure on the sample, and its variance."""

    value: float
    variance: float


BELIEFS = Beliefs()


def firsts(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The best of each pre-training by its prior, the best first."""
    best: dict[str, Candidate] = {}
    for each in sorted(candidates, key=lambda candidate: (-candidate.prior, candidate.name)):
        best.setdefault(each.pretraining, each)
    return list(best.values())


def pairs(figures: Mapping[str, float], networks: Mapping[str, Hashable], most: int) -> list[str]:
    """Which encoders to join: the best one with the best of each other network, up to ``most`` of these.

    One network at two sizes, or in eight bits, sees alike, and is joined with others alone.

    Args:
        figures: of each encoder that may be joined.
        networks: which network each is, whatever its size.
    """
    best: dict[Hashable, str] = {}
    for name in sorted(figures, key=lambda name: (-figures[name], name)):
        best.setdefault(networks[name], name)
    first, *others = best.values() or [""]
    return [JOIN.join(sorted((first, other))) for other in others[:most]]


def next_to_measure(
    candidates: Sequence[Candidate],
    measured: Mapping[str, Measured],
    beliefs: Beliefs = BELIEFS,
    *,
    each_pretraining: bool = True,
    margin: float = 0.0,
) -> Candidate | None:
    """The one to measure next; None where the upper bounds of all that are left are below the best one measured by more
    than ``margin``: a cheaper one within it may still be taken.

    ``each_pretraining``: one candidate of each has to be measured before any is passed over.
    """
    left = [each for each in candidates if each.name not in measured]
    if not left:
        return None
    if each_pretraining:
        seen = {each.pretraining for each in candidates if each.name in measured}
        if new := [each for each in firsts(candidates) if each.pretraining not in seen]:
            return new[0]
    if not measured:
        return max(left, key=lambda each: (each.prior, each.name))
    best = max(each.value for each in measured.values())
    gains = upper_bounds(candidates, measured, left, beliefs) - best + margin
    if gains.max() <= 0:
        return None
    worth = np.where(gains > 0, gains / np.array([each.seconds for each in left]), -np.inf)
    return left[int(worth.argmax())]


def upper_bounds(
    candidates: Sequence[Candidate], measured: Mapping[str, Measured], left: Sequence[Candidate], beliefs: Beliefs
) -> Floats:
    """What each of ``left`` may be worth, (L,), in the figure's unit; ``measured`` has one or more."""
    done = [each for each in candidates if each.name in measured]
    values = np.array([measured[each.name].value for each in done]) / beliefs.spread
    noise = np.array([measured[each.name].variance for each in done]) / beliefs.spread**2
    above = values - beliefs.prior * np.array([each.prior for each in done])
    level = above.mean()  # the catalog's own difficulty, of which nothing is known before
    process = GaussianProcessRegressor(
        ConstantKernel(beliefs.shared, "fixed") * RBF(beliefs.length, "fixed") + WhiteKernel(beliefs.own, "fixed"),
        alpha=noise + 1e-9,
        optimizer=None,
    )
    process.fit(np.stack([each.scores for each in done]), above - level)
    mean, deviation = process.predict(np.stack([each.scores for each in left]), return_std=True)
    deviation = deviation * np.sqrt(max(1.0, _surprise(process, above - level)))
    prior = beliefs.prior * np.array([each.prior for each in left])
    return np.asarray(beliefs.spread * (prior + level + mean + beliefs.optimism * deviation))


def _surprise(process: GaussianProcessRegressor, above: Floats) -> float:
    """The mean squared distance of what was measured from the process, in its own variances; the level took one degree
    of freedom."""
    within = solve_triangular(process.L_, above, lower=True)
    return float(within @ within) / max(1, len(above) - 1)
