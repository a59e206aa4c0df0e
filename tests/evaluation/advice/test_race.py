"""The race on drawn answers: how often it is wrong, that it ends, and what it says where it does not."""

import math
from dataclasses import replace

import numpy as np
import pytest

from evaluation.advice.race import CURVE_ERROR, Contender, clustered_mean, judge, level
from evaluation.statistics.bootstrap import paired_difference

PHOTOS = 4
COSTS = {"a": 3.0, "b": 2.0, "c": 1.0, "d": 4.0}


def draw(
    chance: np.random.Generator, products: int, truth: dict[str, float], spread: float = 0.25
) -> tuple[list[Contender], np.ndarray]:
    """Answers whose means are ``truth``: photos of one product are alike, and some are hard for all contenders."""
    codes = np.repeat(np.arange(products), PHOTOS)
    hard = chance.normal(0, 0.2, products)[codes]
    answers = []
    for name, mean in truth.items():
        own = chance.normal(0, spread, products)[codes] + chance.normal(0, spread, len(codes))
        answers.append(Contender(name, mean + hard + own, COSTS[name]))
    return answers, codes


def raced(seed: int, truth: dict[str, float], margin: float, sizes: tuple[int, ...]) -> tuple[set[str], str | None]:
    """Who left over all looks, and who was chosen; each look draws anew, the hardest case for an error budget."""
    chance, left = np.random.default_rng(seed), set[str]()
    for look, size in enumerate(sizes, 1):
        answers, codes = draw(chance, size, truth)
        standing = judge([each for each in answers if each.name not in left], codes, look, len(truth), margin)
        left |= standing.left.keys()
        if standing.chosen:
            return left, standing.chosen
    return left, None


def test_the_error_is_clustered_by_product_as_the_bootstrap_has_it():
    chance = np.random.default_rng(0)
    answers, codes = draw(chance, 200, {"a": 0.5, "b": 0.45})
    mean = clustered_mean(answers[1].values - answers[0].values, codes)
    drawn = paired_difference(answers[1].values, answers[0].values, codes)
    assert mean.value == pytest.approx(drawn.value)
    assert mean.error == pytest.approx(drawn.standard_error, rel=0.1)
    assert mean.products == drawn.clusters == 200


def test_how_far_curves_move_two_apart_is_known_up_to_a_share():
    answers, codes = draw(np.random.default_rng(0), 400, {"a": 0.5, "b": 0.3})
    assert judge(answers, codes, 1, 2, 0.01).left.keys() == {"b"}
    gap = answers[0].values.mean() - answers[1].values.mean()
    apart = [replace(answers[0], moved=-0.1), replace(answers[1], moved=-0.1 - gap)]  # all that is between them
    standing = judge(apart, codes, 1, 2, 0.01)
    assert standing.left.keys() == {"b"} and standing.left["b"].at_least < gap - 1.5 * CURVE_ERROR * gap
    farther = [answers[0], replace(answers[1], moved=-3 * gap)]
    assert judge(farther, codes, 1, 2, 0.01).chosen is None
    alike = [replace(each, moved=-0.4) for each in answers]
    assert judge(alike, codes, 1, 2, 0.01).left == judge(answers, codes, 1, 2, 0.01).left


def test_the_looks_share_one_chance_of_a_mistake():
    assert sum(level(look, 3) for look in range(1, 10_000)) * 3 == pytest.approx(0.05, rel=1e-3)


def test_the_best_leaves_no_more_often_than_it_may():
    """All are equal and there is no margin: the hardest case for each of them."""
    truth = {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.5}
    left = [raced(seed, truth, 0.0, (50, 100, 200, 400))[0] for seed in range(300)]
    assert all(sum(name in each for each in left) / 300 <= 0.05 + 0.02 for name in truth)  # 0.02: of 300 draws
    assert sum(map(len, left)) / 4 / 300 <= 0.05


def test_what_is_chosen_is_no_worse_than_the_margin():
    """The cheapest is worse by just more than the margin: choosing it is the mistake."""
    truth = {"a": 0.6, "b": 0.6, "c": 0.545, "d": 0.3}
    results = [raced(seed, truth, 0.05, (100, 200, 400))[1] for seed in range(200)]
    assert results.count("c") / 200 <= 0.05
    assert results.count("d") == 0


def test_it_ends_with_the_one_that_is_ahead_or_the_cheapest_of_equals():
    ahead = [raced(seed, {"a": 0.7, "b": 0.5, "c": 0.4, "d": 0.3}, 0.01, (150, 300, 600)) for seed in range(40)]
    assert [chosen for _, chosen in ahead] == ["a"] * 40
    equal = [raced(seed, {"a": 0.6, "b": 0.6, "c": 0.6, "d": 0.3}, 0.1, (150, 300, 600)) for seed in range(40)]
    assert [chosen for _, chosen in equal].count("c") >= 38


def test_undecided_says_about_how_many_products_would_decide():
    chance = np.random.default_rng(3)
    truth = {"a": 0.65, "b": 0.5}
    answers, codes = draw(chance, 20, truth)
    standing = judge(answers, codes, 1, 2, margin=0.01)
    assert standing.chosen is None and standing.remaining == ["a", "b"]
    assert standing.more_products and 10 < standing.more_products < 5_000
    decided = []
    for _ in range(20):
        answers, codes = draw(chance, 20 + 2 * standing.more_products, truth)
        decided.append(judge(answers, codes, 2, 2, margin=0.01).chosen == "a")
    assert sum(decided) >= 15


def test_equal_answers_of_few_products_prove_nothing():
    values = np.ones(20 * PHOTOS)
    codes = np.repeat(np.arange(20), PHOTOS)
    both = [Contender("a", values, 1.0), Contender("b", values, 2.0)]
    assert judge(both, codes, 1, 2, margin=0.01).chosen is None
    many = np.repeat(np.arange(2_000), PHOTOS)
    both = [Contender(name, np.ones(len(many)), COSTS[name]) for name in ("a", "b")]
    assert judge(both, many, 1, 2, margin=0.01).chosen == "b"


def test_few_products_that_differ_alike_tell_as_much_as_they_differ():
    """As encoders on large products do: a spread of some hundredths, nowhere near a product that differs wholly."""
    chance, codes = np.random.default_rng(0), np.repeat(np.arange(20), PHOTOS)
    leader = chance.normal(0.9, 0.05, 20)[codes]
    behind = leader - 0.08 + chance.normal(0, 0.03, 20)[codes]
    both = [Contender("a", leader, 2.0), Contender("b", behind, 1.0)]
    assert judge(both, codes, 1, 2, margin=0.01).chosen == "a"
    hardly = leader - 0.08 * (codes == 0)
    both = [Contender("a", leader, 2.0), Contender("b", hardly, 1.0)]
    assert judge(both, codes, 1, 2, margin=0.01).chosen is None, "one product of twenty tells them apart"


def test_of_the_whole_catalog_nothing_is_left_to_chance():
    chance = np.random.default_rng(0)
    answers, codes = draw(chance, 20, {"a": 0.6, "b": 0.55, "c": 0.5})
    figures = {each.name: float(each.values.mean()) for each in answers}
    assert judge(answers, codes, 1, 3, margin=0.0).chosen is None
    assert judge(answers, codes, 1, 3, margin=0.0, of=40).chosen is None
    assert judge(answers, codes, 1, 3, margin=0.0, of=20).chosen == max(figures, key=figures.__getitem__)
    near = [name for name, figure in figures.items() if max(figures.values()) - figure <= 0.3]
    assert judge(answers, codes, 1, 3, margin=0.3, of=20).chosen == min(near, key=COSTS.__getitem__)


def test_mistakes_about_a_small_catalog_are_as_few():
    """Of sixty products thirty are asked: the best of the sixty does not leave, and none is chosen that is worse."""
    left, worse = 0, 0
    for seed in range(300):
        chance = np.random.default_rng(seed)
        answers, codes = draw(chance, 60, {"a": 0.5, "b": 0.5, "c": 0.47, "d": 0.5})
        truth = {each.name: float(each.values.mean()) for each in answers}
        asked = codes < 30
        some = [Contender(each.name, each.values[asked], each.cost) for each in answers]
        standing = judge(some, codes[asked], 1, len(some), margin=0.02, of=60)
        left += max(truth, key=truth.__getitem__) in standing.left
        worse += standing.chosen is not None and truth[standing.chosen] < max(truth.values()) - 0.02
    assert left / 300 <= 0.05 and worse / 300 <= 0.05


def test_queries_without_a_right_answer_and_single_products():
    values = np.array([1.0, np.nan, 0.0, 1.0])
    assert clustered_mean(values, np.array(["p", "p", "q", "q"])).value == pytest.approx(2 / 3)
    alone = clustered_mean(np.array([1.0, 0.5]), np.array(["p", "p"]))
    assert alone.products == 1 and math.isinf(alone.upper(0.05))
    assert math.isnan(clustered_mean(np.array([np.nan]), np.array(["p"])).value)
