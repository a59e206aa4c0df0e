import math

import numpy as np
import pytest

from vitrine.retrieval_metrics import per_query

# Four queries over five ranks; the last has nothing relevant in the index.
RELEVANCE = np.array(
    [
        [1, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ],
    dtype=bool,
)
N_RELEVANT = np.array([3, 2, 9, 0])


def test_every_metric_by_hand() -> None:
    each = per_query(RELEVANCE, N_RELEVANT)
    log = math.log2
    expected = {
        "mMP@5": [2 / 3, 0 / 2, 0 / 5],  # the second query's hits lie beyond rank min(2, 5)
        "mR@1": [1, 0, 0],
        "R@5": [1, 1, 0],
        "MAP@5": [(1 + 2 / 3) / 3, (1 / 3 + 2 / 4) / 2, 0],
        "MRR": [1, 1 / 3, 0],
        "NDCG@5": [
            (1 + 1 / log(4)) / (1 + 1 / log(3) + 1 / log(4)),
            (1 / log(4) + 1 / log(5)) / (1 + 1 / log(3)),
            0,
        ],
    }
    assert set(each) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(each[name][:3], values, rtol=1e-12, err_msg=name)
        assert np.isnan(each[name][3])


def test_names_state_the_depth_and_a_perfect_ranking_is_one() -> None:
    relevance = np.zeros((2, 120), dtype=bool)
    relevance[0, :3] = True
    relevance[1, :] = True
    each = per_query(relevance, np.array([3, 500]))
    assert list(each) == ["mMP@5", "mR@1", "R@10", "MAP@100", "MRR", "NDCG@100"]
    np.testing.assert_allclose(list(each.values()), 1.0)


def test_mrr_looks_over_the_whole_depth_and_the_others_do_not() -> None:
    relevance = np.zeros((1, 200), dtype=bool)
    relevance[0, 149] = True
    values = {name: figures[0] for name, figures in per_query(relevance, np.array([1])).items()}
    assert values["MRR"] == pytest.approx(1 / 150)
    assert values["MAP@100"] == values["NDCG@100"] == values["R@10"] == 0


def test_depth_of_one() -> None:
    each = per_query(np.array([[True], [False]]), np.array([4, 1]))
    assert list(each) == ["mMP@1", "mR@1", "R@1", "MAP@1", "MRR", "NDCG@1"]
    np.testing.assert_array_equal(list(each.values()), [[1.0, 0.0]] * 6)


def test_no_query_left() -> None:
    each = per_query(np.zeros((2, 3), dtype=bool), np.array([0, 0]))
    assert all(np.isnan(figures).all() for figures in each.values())
    assert all(figures.shape == (0,) for figures in per_query(np.zeros((0, 3), dtype=bool), np.zeros(0, int)).values())


@pytest.mark.parametrize(
    ("relevance", "n_relevant"),
    [
        (np.zeros(3, dtype=bool), np.array([1, 1, 1])),
        (np.zeros((3, 0), dtype=bool), np.array([1, 1, 1])),
        (np.zeros((3, 2), dtype=int), np.array([1, 1, 1])),
        (np.zeros((3, 2), dtype=bool), np.array([1, 1])),
        (np.zeros((3, 2), dtype=bool), np.array([1.0, 1.0, 1.0])),
        (np.zeros((3, 2), dtype=bool), np.array([1, 1, -1])),
        (np.ones((3, 2), dtype=bool), np.array([2, 1, 2])),
    ],
)
def test_what_does_not_fit_is_refused(relevance: np.ndarray, n_relevant: np.ndarray) -> None:
    with pytest.raises(ValueError, match="relevan"):
        per_query(relevance, n_relevant)
