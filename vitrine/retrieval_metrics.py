"""Retrieval metrics over ranked results, in NumPy alone: no rounding, no input, no output.

A query has ``n`` relevant items in the index (itself excluded); ``rel(j)`` is 1 where the item at rank j (from 1) is
relevant. A query with n = 0 has no right answer: it is left out of every mean, and counted.
"""

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.integer]
Floats = NDArray[np.float64]

MMP_DEPTH, RECALL_DEPTH, RANKING_DEPTH = 5, 10, 100


def nearest_first(nearness: NDArray[np.floating], depth: int) -> NDArray[np.intp]:
    """The columns of each row's ``depth`` greatest values, the greatest first: (Q, depth) of (Q, N)."""
    top = np.argpartition(-nearness, depth - 1, axis=1)[:, :depth]
    order = np.argsort(-np.take_along_axis(nearness, top, axis=1), axis=1, kind="stable")
    return np.take_along_axis(top, order, axis=1)


def per_query(relevance: Bools, n_relevant: Ints) -> dict[str, Floats]:
    """Each query's figures: float64, (Q,) a metric, NaN where ``n_relevant`` is 0.

    A name says the depth used: ``MAP@100`` over k = 20 ranks is ``MAP@20``. Formulas, with m = min(n, K):

    - ``mMP@5``: (1/m) * sum of rel(j), j = 1..m, K = 5; hits beyond rank m do not count (modified mean precision
      of the Google Universal Image Embedding challenge and of UnED, Ypsilantis et al. 2023).
    - ``mR@1``: rel(1). ``R@10``: 1 where any of rel(1..10) is, else 0.
    - ``MAP@100``: (1/m) * sum of P(j) * rel(j), j = 1..K, where P(j) is the share of relevant items in ranks 1..j
      (Manning, Raghavan and Schuetze, Introduction to Information Retrieval, 8.4, cut at K).
    - ``MRR``: 1 / rank of the first relevant item, 0 where none is among all k ranks (ibid.).
    - ``NDCG@100``: DCG / ideal DCG, DCG = sum of rel(j) / log2(j + 1), j = 1..K; the ideal has m ones first (ibid.).

    Args:
        relevance: bool, (Q, k): whether the item at each rank is relevant, nearest first.
        n_relevant: int, (Q,): relevant items in the whole index, the query itself not counted.

    Raises:
        ValueError: shapes or types do not fit, or a row has more hits than its ``n_relevant``.
    """
    relevance, n_relevant = _checked(relevance, n_relevant)
    figures = (
        _modified_precision(relevance[:, :MMP_DEPTH], n_relevant),
        relevance[:, 0].astype(np.float64),
        relevance[:, :RECALL_DEPTH].any(axis=1).astype(np.float64),
        _average_precision(relevance[:, :RANKING_DEPTH], n_relevant),
        _reciprocal_rank(relevance),
        _ndcg(relevance[:, :RANKING_DEPTH], n_relevant),
    )
    named = zip(metric_names(relevance.shape[1]), figures, strict=True)
    return {name: np.where(n_relevant > 0, values, np.nan) for name, values in named}


def metric_names(depth: int) -> tuple[str, ...]:
    """The names of ``per_query``'s figures over ``depth`` ranks, in their order."""
    k_mmp, k_recall, k_ranking = (min(k, depth) for k in (MMP_DEPTH, RECALL_DEPTH, RANKING_DEPTH))
    return (f"mMP@{k_mmp}", "mR@1", f"R@{k_recall}", f"MAP@{k_ranking}", "MRR", f"NDCG@{k_ranking}")


def _checked(relevance: Bools, n_relevant: Ints) -> tuple[Bools, Ints]:
    relevance, n_relevant = np.asarray(relevance), np.asarray(n_relevant)
    if relevance.ndim != 2 or relevance.shape[1] == 0 or relevance.dtype != np.bool_:
        raise ValueError(f"relevance must be bool (Q, k >= 1), not {relevance.dtype} {relevance.shape}")
    if n_relevant.shape != (len(relevance),) or not np.issubdtype(n_relevant.dtype, np.integer):
        raise ValueError(f"n_relevant must be int ({len(relevance)},), not {n_relevant.dtype} {n_relevant.shape}")
    wrong = np.flatnonzero(relevance.sum(axis=1) > n_relevant)
    if wrong.size or (n_relevant < 0).any():
        raise ValueError(
            f"n_relevant is negative or below the hits of {wrong.size} queries (first: {wrong[:1].tolist()})"
        )
    return relevance, n_relevant


def _reachable(n_relevant: Ints, k: int) -> Ints:
    """m = min(n, k), and 1 where it would divide by zero (such queries are left out later)."""
    return np.clip(n_relevant, 1, k)


def _modified_precision(relevance: Bools, n_relevant: Ints) -> Floats:
    reach = _reachable(n_relevant, relevance.shape[1])
    counted = relevance & (np.arange(relevance.shape[1]) < reach[:, None])
    return np.asarray(counted.sum(axis=1) / reach, dtype=np.float64)


def mmp_in_sql() -> str:
    """The mMP@5 of a row with ``relevance`` and ``n_relevant``, for DataFusion: pages sort and filter by it before they
    read photos. A test holds it to ``per_query``."""
    hit = "CASE WHEN n_relevant >= {0} AND coalesce(relevance[{0}], false) THEN 1.0 ELSE 0.0 END"
    hits = " + ".join(hit.format(rank) for rank in range(1, MMP_DEPTH + 1))
    return f"(({hits}) / least(n_relevant, {MMP_DEPTH}))"


def _average_precision(relevance: Bools, n_relevant: Ints) -> Floats:
    precision = np.cumsum(relevance, axis=1) / np.arange(1, relevance.shape[1] + 1)
    total = (precision * relevance).sum(axis=1)
    return np.asarray(total / _reachable(n_relevant, relevance.shape[1]), dtype=np.float64)


def _reciprocal_rank(relevance: Bools) -> Floats:
    first = relevance.argmax(axis=1)
    return np.where(relevance.any(axis=1), 1.0 / (first + 1), 0.0)


def _ndcg(relevance: Bools, n_relevant: Ints) -> Floats:
    discounts = 1.0 / np.log2(np.arange(2, relevance.shape[1] + 2))
    ideal = np.cumsum(discounts)[_reachable(n_relevant, relevance.shape[1]) - 1]
    return np.asarray((relevance @ discounts) / ideal, dtype=np.float64)
