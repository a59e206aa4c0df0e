import math

import numpy as np
import pytest

from evaluation.retrieval.retrieval_metrics import per_query, retrieval_metrics

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

    means = retrieval_metrics(RELEVANCE, N_RELEVANT)
    assert (means.queries, means.queries_left_out) == (3, 1)
    for name, values in expected.items():
        assert means.values[name] == pytest.approx(sum(values) / 3, rel=1e-12)


def test_names_state_the_depth_and_a_perfect_ranking_is_one() -> None:
    relevance = np.zeros((2, 120), dtype=bool)
    relevance[0, :3] = True
    relevance[1, :] = True
    means = retrieval_metrics(relevance, np.array([3, 500]))
    assert list(means.values) == ["mMP@5", "mR@1", "R@10", "MAP@100", "MRR", "NDCG@100"]
    assert means.values == pytest.approx(dict.fromkeys(means.values, 1.0))


def test_mrr_looks_over_the_whole_depth_and_the_others_do_not() -> None:
    relevance = np.zeros((1, 200), dtype=bool)
    relevance[0, 149] = True
    values = retrieval_metrics(relevance, np.array([1])).values
    assert values["MRR"] == pytest.approx(1 / 150)
    assert values["MAP@100"] == values["NDCG@100"] == values["R@10"] == 0


def test_depth_of_one() -> None:
    means = retrieval_metrics(np.array([[True], [False]]), np.array([4, 1]))
    assert means.values == dict.fromkeys(["mMP@1", "mR@1", "R@1", "MAP@1", "MRR", "NDCG@1"], 0.5)


def test_no_query_left() -> None:
    means = retrieval_metrics(np.zeros((2, 3), dtype=bool), np.array([0, 0]))
    assert (means.queries, means.queries_left_out) == (0, 2)
    assert all(np.isnan(value) for value in means.values.values())
    assert retrieval_metrics(np.zeros((0, 3), dtype=bool), np.zeros(0, dtype=int)).queries == 0


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
        retrieval_metrics(relevance, n_relevant)
