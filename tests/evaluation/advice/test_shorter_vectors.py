"""The fewest bytes that lose nothing, by vectors whose dimensions are known."""

import numpy as np

from evaluation.advice.measure import Questions
from evaluation.advice.shorter_vectors import _asked, shortest
from tests.evaluation.advice.test_measure import catalog, drawn, sample, unit, whitened
from vitrine.encoders.codecs import tried


def in_more_dimensions(products: int, photos: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors that vary in 20 directions of ``dim``, and a little in all."""
    random = np.random.default_rng(1)
    codes = np.repeat(np.arange(products), photos)
    rows = random.normal(size=(products, 20))[codes] + 0.4 * random.normal(size=(len(codes), 20))
    return codes, unit(rows @ random.normal(size=(20, dim)) + 0.05 * random.normal(size=(len(codes), dim)))


def test_principal_components_of_few_bits_are_found_and_asked_as_all_queries_are():
    codes, rows = in_more_dimensions(300, 4, 256)
    questions = Questions(catalog(), sample(codes))
    found = shortest(questions, questions.spaces(rows, whitened, questions.as_it_is(rows)), 0.02)
    assert found and found.full_bytes == 1024 and found.bytes <= 64 and "PCA" in found.codec
    assert found.low <= found.change <= found.high and found.low > -0.02
    whole = questions.as_it_is(rows).values
    assert np.array_equal(questions.ask(rows, rows, np.arange(len(rows))), whole, equal_nan=True)


def test_what_a_sample_cannot_show_is_not_said():
    codes, rows = in_more_dimensions(6, 4, 256)
    questions = Questions(catalog(), sample(codes))
    as_it_is = questions.spaces(rows, whitened, questions.as_it_is(rows))
    assert shortest(questions, as_it_is, 0.02) is None  # equal answers of few products prove little


def test_a_matrix_is_asked_by_those_that_did_not_teach_it():
    codes, rows = drawn(200, 4, 1.0)
    for known_share in (0.0, 1.0):
        questions = Questions(catalog(known_share=known_share), sample(codes))
        answers = questions.tuned(rows, whitened)
        assert answers and answers.taken == (0, 0)  # the second kind tells nothing apart
        spaces = questions.spaces(rows, whitened, answers)
        assert sorted(np.concatenate([asks for _, asks in spaces]).tolist()) == [*range(len(rows))]
        sides = questions.half if known_share else questions.fold
        assert all(len({*sides[asks].tolist()}) == 1 for _, asks in spaces)
        figures = np.concatenate([questions.ask(space, space, asks) for space, asks in spaces])
        assert np.nanmean(figures) > np.nanmean(questions.as_it_is(rows).values) + 0.05
        order = np.concatenate([asks for _, asks in spaces])
        assert np.array_equal(figures, answers.values[order], equal_nan=True)  # the very figures that were compared
        found = shortest(questions, spaces, 0.05)
        assert found and found.bytes < found.full_bytes == 4 * 32


def test_a_photo_without_a_vector_has_none_in_fewer_bytes():
    codes, rows = in_more_dimensions(40, 3, 64)
    rows[5] = 0
    questions = Questions(catalog(), sample(codes))
    one_bit = next(codec for codec in tried(rows, ()) if codec.name == "centred and rotated, 1 bit")
    asked = _asked(questions, one_bit, rows, np.arange(len(rows)))
    assert asked[5] == 0.0 and asked[4] <= 0.5  # it finds nothing, and no photo of its product finds it
