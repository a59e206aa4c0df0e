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


def logistic(before: float, after: float, doublings: float, count: int) -> float:
    """What a mean of ``count`` figures, ``before`` two doublings ago and ``after`` now, comes to: by its odds."""
    odds = [(mean * count + 0.5) / ((1 - mean) * count + 0.5) for mean in (before, after)]
    moved = odds[1] * (odds[1] / odds[0]) ** (doublings / 2)
    return (moved / (1 + moved) * (count + 1) - 0.5) / count


def test_a_falling_mean_falls_along_a_logistic_curve():
    """0.45, 0.4, 0.35 of four photos: after 20 doublings a line would be far below 0."""
    values = np.tile([0.9, 0.5, 0.0, 0.0], 250)
    before, between = np.tile([0.1, 0.3, 0, 0], 250), np.tile([0.05, 0.15, 0, 0], 250)
    falls = Answers(np.stack([values + before, values + between, values]))
    means = [float(falls.moved(doublings).mean()) for doublings in (-2, 0, 1, 2, 8)]
    assert means == pytest.approx([0.45, 0.35, *(logistic(0.45, 0.35, doublings, 1000) for doublings in (1, 2, 8))])
    assert 0 < means[-1] < 0.1 < means[-2] < 0.27
    assert (falls.moved(3)[2::4] == 0).all(), "a figure that does not fall stays"


def test_a_mean_near_all_loses_ever_more_at_first():
    """From 0.99 to 0.98 in two doublings: what is lost doubles so, where a line would lose the same each time."""
    values = np.r_[np.ones(980), np.zeros(20)]
    earlier = np.r_[np.ones(990), np.zeros(10)]
    falls = Answers(np.stack([earlier, (earlier + values) / 2, values]))
    lost = [1 - float(falls.moved(doublings).mean()) for doublings in (0, 2, 4)]
    assert lost == pytest.approx([1 - logistic(0.99, 0.98, doublings, 1000) for doublings in (0, 2, 4)])
    assert lost[2] > 0.07, "a line would lose 0.04"


def test_a_rising_mean_bends_towards_one_and_passes_it_by_half_a_query_at_most():
    values = np.tile([0.9, 0.5, np.nan], 100)
    rises = Answers(np.stack([values - np.tile([0, 0.4, 0], 100), values - np.tile([0, 0.2, 0], 100), values]))
    means = [float(np.nanmean(rises.moved(doublings))) for doublings in (0, 1, 2, 20)]
    assert means == pytest.approx([0.7, *(logistic(0.5, 0.7, doublings, 200) for doublings in (1, 2, 20))])
    assert 0.95 < means[-1] <= 1 + 0.5 / 200
    assert np.isnan(rises.moved(1)[2])


def test_a_mean_that_stays_moves_no_figure_or_each_along_its_line():
    values = np.array([0.9, 0.5, np.nan])
    flat = Answers(np.stack([values, values, values]))
    assert flat.moved(5)[:2] == pytest.approx(values[:2])
    nearly_flat = Answers(np.stack([values + [0.1, 2e-17 - 0.1, 0], values, values]))
    assert nearly_flat.moved(5)[:2] == pytest.approx(values[:2] + [-0.25, 0.25]), "some rise as others fall"
    alone = Answers(np.full((3, 2), np.nan))
    assert np.isnan(alone.moved(2)).all()
