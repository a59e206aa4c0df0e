"""The figures beside those of known libraries: scikit-learn and MLflow.

Equal where the definition is the same; and where one differs, why ours is what it is.
"""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from vitrine.retrieval_metrics import per_query

QUERIES, ITEMS = 40, 300


@pytest.fixture(scope="module")
def rankings() -> tuple[np.ndarray, np.ndarray]:
    """Whole rankings, relevant items rather early: bool (Q, N); and how many each query has, 1 to some 60."""
    random = np.random.default_rng(0)
    n_relevant = random.integers(1, 12, QUERIES) ** 2 // 2 + 1
    chances = 1 / (5 + np.arange(ITEMS))
    relevance = np.zeros((QUERIES, ITEMS), dtype=bool)
    for row, n in zip(relevance, n_relevant, strict=True):
        row[random.choice(ITEMS, n, replace=False, p=chances / chances.sum())] = True
    return relevance, n_relevant


def test_scikit_learn_agrees(rankings: tuple[np.ndarray, np.ndarray]) -> None:
    relevance, n_relevant = rankings
    ours = per_query(relevance, n_relevant)
    scores = -np.arange(ITEMS, dtype=float)
    for query, row in enumerate(relevance):
        ndcg = ndcg_score(row[None].astype(float), scores[None], k=100, ignore_ties=True)
        assert ours["NDCG@100"][query] == pytest.approx(ndcg)
        if not row[100:].any():
            assert ours["MAP@100"][query] == pytest.approx(average_precision_score(row, scores))


def test_mlflow_agrees(rankings: tuple[np.ndarray, np.ndarray]) -> None:
    from mlflow.metrics import ndcg_at_k, precision_at_k

    relevance, n_relevant = rankings
    ours = per_query(relevance, n_relevant)
    retrieved, wanted = mlflow_lists(relevance)
    ndcg = ndcg_at_k(100).eval_fn(retrieved, wanted).scores
    np.testing.assert_allclose(ours["NDCG@100"], ndcg, atol=1e-6)
    nearest = precision_at_k(1).eval_fn(retrieved, wanted).scores
    np.testing.assert_allclose(ours["mR@1"], nearest)
    five = np.array(precision_at_k(5).eval_fn(retrieved, wanted).scores)
    enough = n_relevant >= 5
    np.testing.assert_allclose(ours["mMP@5"][enough], five[enough])


def mlflow_lists(relevance: np.ndarray) -> tuple[pd.Series, pd.Series]:
    names = np.array([f"d{d}" for d in range(relevance.shape[1])])
    return pd.Series([list(names)] * len(relevance)), pd.Series([list(names[row]) for row in relevance])


def test_precision_at_5_cannot_reach_1_where_a_product_has_few_photos_and_mmp_5_can() -> None:
    """A product of three photos: each finds both others first, and no ranking could be better."""
    from mlflow.metrics import precision_at_k

    relevance = np.zeros((1, 100), dtype=bool)
    relevance[0, :2] = True
    assert precision_at_k(5).eval_fn(*mlflow_lists(relevance)).scores == [0.4]
    assert per_query(relevance, np.array([2]))["mMP@5"] == 1.0
