"""From which probability on a classifier's tags are precise enough, with the confidence asked.

The threshold is the loosest that fixed-sequence testing reaches (Angelopoulos et al., Learn then Test, 2021, arXiv
2110.01052): ``GRID`` is tried, the strictest first, as long as the lower bound of the precision (``vitrine.shares``) is
at least what is asked. The first one that fails ends it, so they need no correction among each other. Which is the
first is read from how many draws there are, not from what is right.

A product is one draw, whatever the number of its photos: its share of right tags counts once. So the precision is that
of a product's tags, on average over products. (With ``[tags] independent = "photos"`` each photo is a draw.)

Classes with enough draws are tested each by itself, the others together; all at the error divided by the number of
these tests (Bonferroni), so that with the confidence asked all of them are as precise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrine import shares
from vitrine.setting_sections import TagSettings

GRID = (
    *(0.9999, 0.9995, 0.999, 0.998, 0.997, 0.996, 0.995, 0.99, 0.985, 0.98, 0.97, 0.96, 0.95, 0.94, 0.92, 0.9),
    *(0.88, 0.85, 0.82, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05, 0.0),
)
_ENOUGH = 2
"""A class with so many times the draws that can show its precision, if all are right, is tested by itself."""


@dataclass(frozen=True)
class Told:
    """What was said of N photos whose truth is known; (N,) each."""

    probability: NDArray[np.floating]
    """Of the likeliest class."""
    best: NDArray[np.integer]
    """The likeliest class."""
    right: NDArray[np.bool_]
    draws: NDArray[np.integer]
    """A number for each draw: its product's, or its own."""

    def where(self, kept: NDArray[np.bool_]) -> "Told":
        return Told(self.probability[kept], self.best[kept], self.right[kept], self.draws[kept])


def choose(told: Told, asked: TagSettings) -> tuple[float | None, dict[int, float | None]]:
    """The threshold of all classes but those that have their own, and these; None where none is precise enough."""
    own = _own_classes(told, asked)
    others = told.where(~np.isin(told.best, own))
    error = (1 - asked.confidence) / max(len(own) + (len(others.best) > 0), 1)
    each = {number: _threshold(told.where(told.best == number), asked.precision, error) for number in own}
    return _threshold(others, asked.precision, error), each


def _own_classes(told: Told, asked: TagSettings) -> list[int]:
    """The classes that are tested by themselves: those with the most draws, as many as have enough of them."""
    pairs = np.unique(np.column_stack([told.best, told.draws]), axis=0)
    numbers, counts = np.unique(pairs[:, 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    for many in range(len(order), 0, -1):
        least = _ENOUGH * shares.fewest(asked.precision, (1 - asked.confidence) / (many + 1))
        if counts[order[many - 1]] >= least:
            return sorted(int(number) for number in numbers[order[:many]])
    return []


def _threshold(told: Told, precision: float, error: float) -> float | None:
    threshold, before = None, 0
    for least in _tried(told, precision, error):
        taken = told.probability >= least
        if int(taken.sum()) == before:
            continue  # it would take in photos of which none was seen
        if not shares.shows(told.right[taken], told.draws[taken], precision, error):
            break
        threshold, before = least, int(taken.sum())
    return threshold


def _tried(told: Told, precision: float, error: float) -> list[float]:
    """The thresholds of ``GRID`` from the strictest that leaves as many draws as may hold one mistake: with fewer,
    one unlucky draw would end it all. Where there are not so many, from that which leaves as many as must all be
    right."""
    draws = [len(np.unique(told.draws[told.probability >= least])) for least in GRID]
    for mistakes in (1, 0):
        enough = shares.fewest(precision, error, mistakes)
        start = next((at for at, many in enumerate(draws) if many >= enough), None)
        if start is not None:
            return list(GRID[start:])
    return []
