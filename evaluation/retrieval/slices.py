"""Retrieval figures of slices of the queries: all, each category, each value of an attribute, and the means over them.

Every figure has its 95 % interval, all from one set of resamples that draws products. NumPy and SciPy's sparse
matrices alone: no input, no output.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from evaluation.metrics_table import ALL_QUERIES, Scores, named
from evaluation.statistics.bootstrap import Floats, Ints, Statistic, cluster_sums, interval, ratios, resample

SHUFFLED, WITHOUT_DUPLICATES = "shuffled_labels", "without_duplicates"
KNOWN_PRODUCTS, NEW_PRODUCTS = "known_products", "new_products"
"""By whether a product has a photo in the split that tuning learns from."""
CATEGORY = "category"
MACRO_PRODUCT, MACRO_CATEGORY = "macro_product", "macro_category"
MOST_CATEGORIES = 1_000
"""Slices of their own, of each label: those with the most queries. ``macro_category`` is over all."""


def value_slice(label: str, value: str) -> str:
    return f"{label}={value}"


def macro_slice(label: str) -> str:
    return f"macro_{label}"


def slice_scores(
    each: Mapping[str, Floats],
    products: Ints,
    categories: Sequence[str | None],
    index_size: int = 0,
    label: str = CATEGORY,
) -> list[Scores]:
    """The mean of every figure over all queries, over each category's, and the macro means.

    - ``all``: over the queries.
    - ``macro_product``: the mean over products of each product's mean; ``macro_category``: over categories. Small ones
      count as much as large ones.
    - ``category=NAME``: over the queries of that category.

    Args:
        each: name to each query's figure, float64 (Q,), NaN where the query is left out (of every figure alike).
        products: int (Q,), which product each query shows: what is drawn.
        categories: each query's, None where it has none.
        label: whose values ``categories`` are: of an attribute, slices are called ``macro_NAME`` and ``NAME=VALUE``.

    Returns:
        ``all`` first. A category none of whose queries is left has no slice; an interval is undefined where fewer
        than two products are in the slice. A resample without a product of a category is left out of its interval.
    """
    values = np.column_stack(list(each.values()))
    kept = np.asarray(~np.isnan(values).any(axis=1))
    if not kept.any():
        return []
    asked = Counter(itertools.compress(categories, kept))
    left_out = Counter(itertools.compress(categories, ~kept))
    names = sorted((name for name in asked if name is not None), key=lambda name: (-asked[name], name))
    places = {name: place for place, name in enumerate(names)} | {None: -1}
    of_category = np.array([places[name] for name in itertools.compress(categories, kept)], dtype=np.int64)
    shown = names[:MOST_CATEGORIES]
    points, intervals = _figures(values[kept], products[kept], of_category, len(names), len(shown))
    slices = [(name, asked.total(), left_out.total()) for name in (ALL_QUERIES, MACRO_PRODUCT)]
    slices += [(macro_slice(label), asked.total() - asked[None], left_out.total() - left_out[None])]
    slices += [(value_slice(label, name), asked[name], left_out[name]) for name in shown]
    return [
        Scores(name, *named(each, points[at], intervals[at]), queries, missing, index_size)
        for at, (name, queries, missing) in enumerate(slices)
        if queries
    ]


def by_label(
    each: Mapping[str, Floats], products: Ints, values: Mapping[str, Sequence[str | None]], index_size: int
) -> list[Scores]:
    """As ``slice_scores``, of several labels, each query's ``values`` by label; the first is the category."""
    whole = slice_scores(each, products, values[CATEGORY], index_size)
    for label in (name for name in values if name != CATEGORY):
        scores = slice_scores(each, products, values[label], index_size, label)
        whole += [one for one in scores if one.slice not in (ALL_QUERIES, MACRO_PRODUCT)]
    return whole


def by_knowledge(
    each: Mapping[str, Floats], products: Ints, learned: NDArray[np.bool_], index_size: int
) -> list[Scores]:
    """``known_products`` and ``new_products``: the means over the queries that ``learned``, (Q,), is true and false of;
    none where one of the two has no query left."""
    scores = []
    for name, mine in ((KNOWN_PRODUCTS, learned), (NEW_PRODUCTS, ~learned)):
        values = {metric: figures[mine] for metric, figures in each.items()}
        scores += [replace(one, slice=name) for one in slice_scores(values, products[mine], [None] * mine.sum())[:1]]
    return [replace(one, index_size=index_size) for one in scores] if len(scores) == 2 else []


def _figures(values: Floats, products: Ints, categories: Ints, count: int, shown: int) -> tuple[Floats, Floats]:
    """All slices' figures, (3 + shown, M), and their intervals, (3 + shown, M, 2); ``count`` categories in all."""
    _, codes = np.unique(products, return_inverse=True)
    grouped, drawn = _grouped(values, codes, categories, count)
    statistic, clusters = _statistic(values, codes, grouped, shown), int(codes.max()) + 1
    points = statistic(np.ones((1, clusters)))[0]
    if clusters < 2:
        return points, np.full((*points.shape, 2), np.nan)
    intervals = interval(resample(statistic, clusters, width=grouped.shape[1]))
    intervals[3:][drawn[:shown] < 2] = np.nan
    return points, intervals


def _grouped(values: Floats, products: Ints, categories: Ints, count: int) -> tuple[sparse.csr_array, Ints]:
    """Sums by product and category: (C, K * (M + 1)), for each category its figures' sums and its queries; and (K,)
    how many products each category has."""
    there = categories >= 0
    width = values.shape[1] + 1
    data = np.column_stack([values[there], np.ones(int(there.sum()))])
    rows = np.repeat(products[there], width)
    columns = categories[there][:, None] * width + np.arange(width)
    shape = (int(products.max()) + 1, count * width)
    sums = sparse.coo_array((data.ravel(), (rows, columns.ravel())), shape=shape).tocsr()
    return sums, np.bincount(np.unique(np.column_stack([categories, products])[there], axis=0)[:, 0], minlength=count)


def _statistic(values: Floats, products: Ints, grouped: sparse.csr_array, shown: int) -> Statistic:
    """All slices' figures of the products' counts: (b, 3 + shown, M)."""
    sums = cluster_sums(values, products)
    means, width = ratios(sums), sums.shape[1]

    def statistic(counts: Floats) -> Floats:
        within = (counts @ grouped).reshape(len(counts), grouped.shape[1] // width, width)
        by_category = ratios(within)  # NaN: the resample has none of that category
        present = (within[:, :, -1:] > 0).sum(axis=1)
        over_categories = ratios(np.hstack([np.nansum(by_category, axis=1), present]))
        macros = np.stack([ratios(counts @ sums), counts @ means / len(means), over_categories], axis=1)
        return np.concatenate([macros, by_category[:, :shown]], axis=1)

    return statistic
