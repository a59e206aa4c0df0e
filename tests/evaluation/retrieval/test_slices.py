"""Slices of the queries: their means by hand, their intervals by drawing products."""

import numpy as np
import pytest

from evaluation.retrieval import slices
from evaluation.retrieval.slices import by_knowledge, slice_scores
from tests.support.mean_intervals import mean_intervals

# Products 7 (three queries), 2 (one), 5 (two), 9 (left out); of two categories and none.
EACH = {
    "a": np.array([1.0, 0.0, 0.5, 1.0, 0.25, 0.75, np.nan]),
    "b": np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, np.nan]),
}
PRODUCTS = np.array([7, 7, 7, 2, 5, 5, 9])
HOSTILE = "x' OR 1=1; --\n=é"
CATEGORIES = ["cat", "cat", HOSTILE, "cat", None, "cat", HOSTILE]


def test_means_by_hand() -> None:
    found = {one.slice: one for one in slice_scores(EACH, PRODUCTS, CATEGORIES, index_size=40)}
    expected = {
        "all": (3.5 / 6, 3 / 6, 6, 1),
        "macro_product": ((0.5 + 1 + 0.5) / 3, 2 / 3, 6, 1),
        "macro_category": ((2.75 / 4 + 0.5) / 2, 2 / 4 / 2, 5, 1),
        "category=cat": (2.75 / 4, 2 / 4, 4, 0),
        f"category={HOSTILE}": (0.5, 0.0, 1, 1),
    }
    assert list(found) == list(expected)
    for name, (a, b, queries, left_out) in expected.items():
        assert found[name].values == pytest.approx({"a": a, "b": b})
        assert (found[name].queries, found[name].queries_left_out) == (queries, left_out)
        assert found[name].index_size == 40


def test_intervals_draw_products() -> None:
    random = np.random.default_rng(0)
    products = random.integers(80, size=400)
    each = {"a": random.random(400), "b": random.random(80)[products]}
    each["a"][:9] = each["b"][:9] = np.nan
    categories = [None if p % 7 == 0 else f"c{p % 3}" for p in products]
    found = {one.slice: one for one in slice_scores(each, products, categories)}
    for name, one in found.items():
        for metric, (low, high) in one.intervals.items():
            assert low is not None and high is not None
            assert low < one.values[metric] < high, f"{name} {metric}"
    expected = mean_intervals(np.column_stack(list(each.values())), products)
    np.testing.assert_allclose(list(found["all"].intervals.values()), expected)
    means = np.array([[np.nanmean(each[m][products == p]) for m in each] for p in np.unique(products)])
    np.testing.assert_allclose(
        list(found["macro_product"].intervals.values()), mean_intervals(means, np.arange(len(means)))
    )
    whole = np.array([np.diff(found[name].intervals["b"])[0] for name in ("all", "category=c1")])
    assert whole[1] > 1.3 * whole[0]  # a third of the products


def test_a_slice_of_one_product_has_no_interval() -> None:
    found = {one.slice: one for one in slice_scores(EACH, PRODUCTS, CATEGORIES)}
    assert found[f"category={HOSTILE}"].intervals == {"a": (None, None), "b": (None, None)}
    low, high = found["category=cat"].intervals["a"]
    assert low is not None and high is not None and low < 2.75 / 4 < high
    alone = slice_scores({"a": np.array([0.2, 0.4])}, np.array([1, 1]), ["c", None])
    assert [one.slice for one in alone] == ["all", "macro_product", "macro_category", "category=c"]
    assert all(one.intervals == {"a": (None, None)} for one in alone)


def test_without_categories_or_queries() -> None:
    found = slice_scores(EACH, PRODUCTS, [None] * 7)
    assert [one.slice for one in found] == ["all", "macro_product"]
    assert slice_scores({"a": np.array([np.nan])}, np.array([1]), ["c"]) == []


def test_products_that_tuning_could_learn_from_and_new_ones() -> None:
    learned = np.isin(PRODUCTS, PRODUCTS[:1])
    found = by_knowledge(EACH, PRODUCTS, learned, 9)
    assert [(one.slice, one.index_size) for one in found] == [("known_products", 9), ("new_products", 9)]
    for one, mine in zip(found, (learned, ~learned), strict=True):
        alone = slice_scores({name: each[mine] for name, each in EACH.items()}, PRODUCTS[mine], [None] * mine.sum())[0]
        assert (one.values, one.intervals, one.queries) == (alone.values, alone.intervals, alone.queries)
    assert by_knowledge(EACH, PRODUCTS, learned | True, 9) == [] == by_knowledge(EACH, PRODUCTS, learned & False, 9)


def test_only_the_largest_categories_have_slices_and_all_count_in_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {one.slice: one for one in slice_scores(EACH, PRODUCTS, CATEGORIES)}
    monkeypatch.setattr(slices, "MOST_CATEGORIES", 1)
    cut = {one.slice: one for one in slice_scores(EACH, PRODUCTS, CATEGORIES)}
    assert list(cut) == ["all", "macro_product", "macro_category", "category=cat"]
    assert cut == {name: whole[name] for name in cut}
