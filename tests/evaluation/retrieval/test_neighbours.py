"""Answers of the index as ranks."""

import numpy as np
import pyarrow as pa

from evaluation.retrieval.neighbours import Items, ranked

ROUNDING = 2e-7


def make_items(contents: list[int]) -> Items:
    numbers = np.arange(len(contents))
    return Items(
        pa.array([f"shop/{number:02d}.jpg" for number in numbers]),
        numbers,
        numbers,
        np.array(contents),
        np.array([None] * len(contents), dtype=object),
        np.ones(len(contents), dtype=bool),
        np.zeros(len(contents), dtype=bool),
    )


def test_copies_of_a_photo_go_by_id_whatever_rounding_says():
    items = make_items([7, 1, 2, 1, 1, 3])  # 1, 3 and 4 are one photo
    ids = [f"shop/{number:02d}.jpg" for number in range(6)]
    query = pa.array([ids[0]])
    for copies in ([1, 3, 4], [4, 3, 1], [3, 1, 4]):
        hits = [[ids[0], ids[5], *(ids[copy] for copy in copies), ids[2]]]
        cosines = [[1.0, 0.9, 0.8, 0.8 - ROUNDING, 0.8 - 2 * ROUNDING, 0.5]]
        queries, neighbours, similarities = ranked(items, query, hits, cosines, 5)
        assert queries.tolist() == [0] and neighbours.tolist() == [[5, 1, 3, 4, 2]]
        assert np.allclose(similarities, [[0.9, 0.8, 0.8, 0.8, 0.5]], atol=0, rtol=1e-7)


def test_a_short_answer_ends_in_nothing_and_the_query_is_left_out_wherever_it_ranks():
    items = make_items([1, 1, 2])
    ids = items.ids.to_pylist()
    answers = [[ids[0], ids[1], ids[2]], [ids[0], ids[2]]]  # the second query is not among its own neighbours
    cosines = [[1.0, 1.0 + ROUNDING, 0.3], [1.0, 0.3]]
    queries, neighbours, similarities = ranked(items, pa.array(ids[1::-1]), answers, cosines, 2)
    assert queries.tolist() == [1, 0]
    assert neighbours.tolist() == [[0, 2], [2, -1]]
    assert np.isnan(similarities[1, 1]) and np.allclose(similarities[0], [1, 0.3])
