"""The fewest bytes that lose nothing, by vectors whose dimensions are known."""

import numpy as np

from evaluation.advice.measure import Questions
from evaluation.advice.shorter_vectors import shortest
from tests.evaluation.advice.test_measure import catalog, drawn, sample, unit, whitened


def in_more_dimensions(products: int, photos: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors that vary in 20 directions of ``dim``, and a little in all."""
    random = np.random.default_rng(1)
    codes = np.repeat(np.arange(products), photos)
    rows = random.normal(size=(products, 20))[codes] + 0.4 * random.normal(size=(len(codes), 20))
    return codes, unit(rows @ random.normal(size=(20, dim)) + 0.05 * random.normal(size=(len(codes), dim)))


def test_principal_components_of_few_bits_are_found_and_asked_as_all_queries_are():
    codes, rows = in_more_dimensions(300, 4, 256)
    questions = Questions(catalog(), sample(codes))
    found = shortest(questions, questions.spaces(rows, None), 0.02)
    assert found and found.full_bytes == 1024 and found.bytes <= 64 and "PCA" in found.codec
    assert found.low <= found.change <= found.high and found.low > -0.02
    whole = questions.as_it_is(rows).values
    assert np.array_equal(questions.ask(rows, rows, np.arange(len(rows))), whole, equal_nan=True)


def test_what_a_sample_cannot_show_is_not_said():
    codes, rows = in_more_dimensions(6, 4, 256)
    questions = Questions(catalog(), sample(codes))
    assert shortest(questions, questions.spaces(rows, None), 0.02) is None  # equal answers of few products prove little


def test_a_matrix_is_asked_by_those_that_did_not_teach_it():
    codes, rows = drawn(200, 4, 1.0)
    for known_share in (0.0, 1.0):
        questions = Questions(catalog(known_share=known_share), sample(codes))
        spaces = questions.spaces(rows, whitened)
        assert sorted(np.concatenate([asks for _, asks in spaces]).tolist()) == [*range(len(rows))]
        sides = questions.half if known_share else questions.fold
        assert all(len({*sides[asks].tolist()}) == 1 for _, asks in spaces)
        figures = np.concatenate([questions.ask(space, space, asks) for space, asks in spaces])
        assert np.nanmean(figures) > np.nanmean(questions.as_it_is(rows).values) + 0.05
        found = shortest(questions, spaces, 0.05)
        assert found and found.bytes < found.full_bytes == 4 * 32
