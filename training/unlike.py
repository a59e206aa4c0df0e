"""Which distance tells photos that are unlike anything learned: tried on classes that are left out.

- ``cosine``: one minus the cosine to the nearest class's mean in the discriminants' space (``training.linear_tuning``),
  from the mean of all rows. Directions that tell no class apart are gone, so that photos of new classes, which lie in
  between, are told from those of learned ones. It says nothing where few classes leave few directions.
- ``mahalanobis``: the Mahalanobis distance to the nearest class's mean, all directions kept (Lee et al., A simple
  unified framework for detecting out-of-distribution samples, 2018, arXiv 1807.03888).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from training.linear_tuning import Candidate, Ints, Moments, solutions
from vitrine.encoders.classifiers import COSINE, MAHALANOBIS, Space
from vitrine.vectors import Floats

KINDS = {COSINE: "discriminants", MAHALANOBIS: "whitening"}
"""The closed form that makes each one's space."""
_FEWEST_CLASSES = 4
_DRAWS = 4


@dataclass(frozen=True)
class Choice:
    rule: str
    auroc: dict[str, float]
    """By rule: how likely a photo of a class left out is farther than one of a class learned; empty where too few
    classes are there to leave any out."""


def space(rule: str, fitted: Candidate, moments: Moments) -> Space:
    """The space of ``rule``, of its closed form's solution ``fitted`` of ``moments``."""
    present = moments.counts > 0
    means = (moments.sums[present] / moments.counts[present, None] - fitted.mean) @ fitted.weight
    values = (fitted.weight, fitted.mean @ fitted.weight, means)
    return Space(rule, *(np.asarray(each, np.float32) for each in values))


def choose(x: Floats, y: Ints, asked: NDArray[np.bool_], classes: int, strength: float) -> Choice:
    """The rule that tells photos of classes left out best, in ``_DRAWS`` draws, each of which leaves out others.

    Args:
        x, y: rows, (N, D), and their classes.
        asked: (N,): rows that are asked about and not learned from.
    """
    if classes < _FEWEST_CLASSES:
        return Choice(MAHALANOBIS, {})
    turn = np.random.default_rng(0).permutation(classes) % _DRAWS
    scores: dict[str, list[float]] = {rule: [] for rule in KINDS}
    for number in range(_DRAWS):
        out = turn[y] == number
        moments = Moments.of_rows(x[~out & ~asked], y[~out & ~asked], classes)
        known, strange = asked & ~out & (moments.counts[y] > 0), out
        if not known.any() or not strange.any():
            continue
        for rule, fitted in zip(KINDS, solutions(moments, list(KINDS.values()), [strength]), strict=True):
            here = space(rule, fitted, moments)
            far, near = here.distances(x[strange]), here.distances(x[known])
            scores[rule].append(float(stats.mannwhitneyu(far, near).statistic / (len(far) * len(near))))
    auroc = {rule: float(np.mean(values)) for rule, values in scores.items() if values}
    return Choice(max(auroc, key=lambda rule: auroc[rule]) if auroc else MAHALANOBIS, auroc)
