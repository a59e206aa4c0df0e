"""How well vectors in memory find their class again: mMP@5 by query, exact, in NumPy alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrine.retrieval_metrics import nearest_first, per_query
from vitrine.vectors import Floats

DEPTH = 5


def mmp_by_query(
    asked: Floats, truth: NDArray[np.integer], among: Floats, classes: NDArray[np.integer], *, themselves: bool = False
) -> NDArray[np.float64]:
    """Each query's mMP@5, (Q,): NaN where nothing among the rows is of its class.

    Args:
        asked: (Q, D) of unit length; ``truth``, (Q,): their classes.
        among: (N, D) of unit length; ``classes``, (N,): theirs.
        themselves: the queries are the first Q rows of ``among``: each is left out of its own answer.
    """
    if len(classes) <= DEPTH or not len(truth):
        return np.full(len(truth), np.nan)
    nearness = asked @ among.T
    relevant = np.bincount(classes, minlength=int(max(classes.max(), truth.max())) + 1)[truth]
    if themselves:
        np.fill_diagonal(nearness, -np.inf)
        relevant = relevant - 1
    hits: Any = classes[nearest_first(nearness, DEPTH)] == truth[:, None]
    return per_query(hits, relevant)[f"mMP@{DEPTH}"]
