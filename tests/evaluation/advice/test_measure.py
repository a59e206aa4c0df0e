"""What is asked of the sample: equal to the evaluation's metrics, and a matrix is never asked about what it learned."""

from collections.abc import Iterator

import numpy as np
import pytest

from evaluation.advice.measure import Answers, Embed, Questions
from evaluation.advice.sample import Catalog, Ints, Sample
from vitrine.vectors import Floats


def catalog(label: str = "product_id", known_share: float = 0.0) -> Catalog:
    return Catalog("shop", 0, 0, 0, label, known_share)


def sample(products: np.ndarray, labels: np.ndarray | None = None) -> Sample:
    ids = [f"{number:05d}" for number in range(len(products))]
    return Sample("g", ids, products, products if labels is None else labels, True)


def unit(rows: np.ndarray) -> Floats:
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)).astype(np.float32)


def drawn(products: int, photos: int, noise: float, seed: int = 0, dim: int = 16) -> tuple[np.ndarray, Floats]:
    """Vectors about their product's: half of the dimensions say nothing of it, and are louder."""
    chance = np.random.default_rng(seed)
    codes = np.repeat(np.arange(products), photos)
    rows = chance.normal(size=(products, dim))[codes] + noise * chance.normal(size=(len(codes), dim))
    return codes, unit(np.hstack([rows, 3 * chance.normal(size=rows.shape)]))


def whitened(rows: Floats, classes: Ints, dim: int) -> Iterator[Embed]:
    """Each dimension divided by its spread within classes; and, as a second kind, all directions turned to one."""
    means = np.stack([rows[classes == each].mean(0) for each in range(classes.max() + 1)])
    spread = (rows - means[classes]).std(0)
    yield lambda asked: unit(asked / spread)
    yield lambda asked: unit(np.ones_like(asked))


def test_as_it_is_by_hand():
    rows = unit(np.array([[1, 0], [1, 0.1], [0.9, 0.2], [0, 1], [0.1, 1], [1, 1]]))
    products = np.array([0, 0, 0, 1, 1, 2])
    answers = Questions(catalog(), sample(products)).as_it_is(rows)
    assert answers.values[:5].tolist() == [1.0, 1.0, 1.0, 1.0, 1.0]
    assert np.isnan(answers.values[5])  # it has no other photo
    assert np.isnan(answers.by_share[:2]).all()  # too few products for a curve
    wrong = rows[[0, 3, 1, 2, 4, 5]]
    assert Questions(catalog(), sample(products)).as_it_is(wrong).values[0] == 0.5  # one of its two, first or second


def test_a_tag_is_told_by_another_products_photo():
    rows = unit(np.array([[1, 0], [1, 0.1], [0.9, 0.2], [0, 1], [0.1, 1], [1, 1]]))
    products, labels = np.array([0, 0, 1, 2, 2, 3]), np.array([0, 0, 0, 1, 1, -1])
    values = Questions(catalog("category"), sample(products, labels)).as_it_is(rows).values
    assert values[:3].tolist() == [1.0, 1.0, 1.0]
    assert np.isnan(values[3:]).all()  # 1 has no other product, the last one no label


def test_figures_fall_with_the_gallery_and_every_photo_asks_at_every_size():
    codes, rows = drawn(160, 4, noise=0.6)
    answers = Questions(catalog(), sample(codes)).as_it_is(rows)
    assert not np.isnan(answers.by_share).any()
    quarter, half, whole = answers.curve
    assert quarter > half > whole
    assert answers.slopes.mean() == pytest.approx((whole - quarter) / 2)


@pytest.mark.parametrize("known_share", [0.0, 0.5, 1.0])
def test_a_matrix_that_helps_is_found_and_the_one_that_harms_is_not(known_share: float):
    codes, rows = drawn(120, 6, noise=0.5)
    questions = Questions(catalog(known_share=known_share), sample(codes))
    tuned = questions.tuned(rows, whitened)
    assert tuned and not np.isnan(tuned.by_share).any()
    assert tuned.values.mean() > questions.as_it_is(rows).values.mean() + 0.05


def test_a_matrix_that_knows_the_answers_by_heart_gains_nothing_on_products_that_it_did_not_learn():
    codes, rows = drawn(80, 4, noise=2.0)

    def by_heart(learned: Floats, classes: Ints, _: int) -> Iterator[Embed]:
        def embed(asked: Floats) -> Floats:
            exact = (asked @ learned.T) > 1 - 1e-6
            known = exact.any(1)
            return unit(
                np.hstack([asked, 100.0 * known[:, None] * np.eye(classes.max() + 1)[classes[exact.argmax(1)]]])
            )

        yield embed

    questions = Questions(catalog(), sample(codes))
    tuned = questions.tuned(rows, by_heart)
    assert tuned and tuned.values.mean() < questions.as_it_is(rows).values.mean() + 0.05


def test_nothing_is_learned_where_no_product_has_two_photos_to_learn_from():
    def nothing(_: Floats, __: Ints, ___: int) -> Iterator[Embed]:
        raise ArithmeticError("every class has one photo")

    codes, rows = drawn(20, 2, noise=0.5)
    assert Questions(catalog(), sample(codes)).tuned(rows, nothing) is None


def test_a_photo_without_a_vector_finds_nothing():
    codes, rows = drawn(20, 3, noise=0.1)
    rows[0] = 0
    questions = Questions(catalog(), sample(codes))
    assert questions.as_it_is(rows).values[0] == 0.0
    tuned = questions.tuned(rows, whitened)
    assert tuned and tuned.values[0] == 0.0


def test_a_falling_mean_falls_by_the_same_share_with_each_doubling():
    """0.45, 0.4, 0.35 of four photos: after 20 doublings a line would be far below 0."""
    values = np.array([0.9, 0.5, 0.0, 0.0])
    falls = Answers(np.stack([values + [0.1, 0.3, 0, 0], values + [0.05, 0.15, 0, 0], values]))
    means = [float(falls.moved(doublings).mean()) for doublings in (0, 1, 2, 20)]
    share = 0.35 / 0.4
    assert means == pytest.approx([0.35, 0.35 * share, 0.35 * share**2, 0.35 * share**20])
    assert (falls.moved(3)[2:] == 0).all(), "a figure that does not fall stays"


def test_what_a_rising_mean_lacks_shrinks_by_the_same_share():
    values = np.array([0.9, 0.5, np.nan])
    rises = Answers(np.stack([values - [0.0, 0.4, 0], values - [0.0, 0.2, 0], values]))
    means = [float(np.nanmean(rises.moved(doublings))) for doublings in (0, 1, 2, 20)]
    share = 0.3 / 0.4
    assert means == pytest.approx([0.7, 1 - 0.3 * share, 1 - 0.3 * share**2, 1 - 0.3 * share**20])
    assert np.isnan(rises.moved(1)[2])
    flat = Answers(np.stack([values, values, values]))
    assert flat.moved(5)[:2] == pytest.approx(values[:2])
    nearly_flat = Answers(np.stack([values + [0.1, 2e-17 - 0.1, 0], values, values]))
    assert nearly_flat.moved(5)[:2] == pytest.approx(values[:2] + [-0.25, 0.25]), "some rise as others fall"
    alone = Answers(np.full((3, 2), np.nan))
    assert np.isnan(alone.moved(2)).all()
