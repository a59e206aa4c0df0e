"""Average precision over the whole index beside scikit-learn's, and by hand where cosines are equal."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from evaluation.retrieval import full_ranking
from evaluation.retrieval.full_ranking import average_precisions


@pytest.mark.parametrize("block_bytes", [256_000_000, 4 * 200 * 3])
def test_it_is_scikit_learns_over_the_whole_ranking(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_ranking, "_BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(full_ranking, "_COLUMNS", 64)
    random = np.random.default_rng(0)
    vectors = random.normal(size=(200, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = random.integers(-1, 20, 200)
    for in_index in (np.ones(200, dtype=bool), random.random(200) < 0.6):
        queries = np.flatnonzero(random.random(200) < 0.5)
        found = average_precisions(vectors, labels, in_index, queries)
        for query, value in zip(queries, found, strict=True):
            others = in_index & (np.arange(200) != query)
            right = (labels[others] == labels[query]) & (labels[query] >= 0)
            if right.any():
                assert value == pytest.approx(average_precision_score(right, vectors[others] @ vectors[query]))
            else:
                assert np.isnan(value)


def test_equal_cosines_rank_by_position() -> None:
    vectors = np.array([[1, 0], [0, 1], [0, 1], [0, 1], [1, 0]], dtype=np.float32)
    labels, everything = np.array([0, 1, 0, 0, 1]), np.ones(5, dtype=bool)
    # Query 0 ranks 4, 1, 2, 3: its relevant ones are third and fourth. Query 2: 1, 3, 0, 4, relevant second and third.
    found = average_precisions(vectors, labels, everything, np.array([0, 2]))
    np.testing.assert_allclose(found, [(1 / 3 + 2 / 4) / 2, (1 / 2 + 2 / 3) / 2])
