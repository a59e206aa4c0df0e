"""Retrieval figures of slices of the queries: all, each category, and the means over products and categories.

Every figure has its 95 % interval, all from one set of resamples that draws products. NumPy and SciPy's sparse
matrices alone: no input, no output.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse

from evaluation.bootstrap import Floats, Ints, Statistic, cluster_sums, interval, ratios, resample
from evaluation.scores import ALL_QUERIES, Scores, named

SHUFFLED = "shuffled_labels"
MACRO_PRODUCT, MACRO_CATEGORY = "macro_product", "macro_category"
MOST_CATEGORIES = 1_000
"""Slices of their own: those with the most queries. ``macro_category`` is over all."""


def category_slice(name: str) -> str:
    return f"category={name}"


def slice_scores(
    each: Mapping[str, Floats], products: Ints, categories: Sequence[str | None], index_size: int = 0
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

    Returns:
        ``all`` first. A category none of whose queries is left has no slice; an interval is undefined where fewer
        than two products are in the slice. A resample without a product of a category is left out of its interval.
    """
    values = np.column_stack(list(each.values()))
    kept = np.asarray(~np.isnan(values).any(axis=1))
    if not kept.any():
        return []
    _, codes = np.unique(products[kept], return_inverse=True)
    names, of_category = _by_size([name for name, there in zip(categories, kept, strict=True) if there])
    left_out = Counter(name for name, there in zip(categories, kept, strict=True) if not there)
    shown = names[:MOST_CATEGORIES]
    grouped, drawn = _grouped(values[kept], codes, of_category, len(names))
    statistic = _statistic(values[kept], codes, grouped, len(shown))
    clusters = int(codes.max()) + 1
    points, intervals = statistic(np.ones((1, clusters)))[0], np.full((3 + len(shown), values.shape[1], 2), np.nan)
    if clusters >= 2:
        draws = resample(statistic, clusters, width=grouped.shape[1])
        intervals = interval(draws)
        intervals[3:][drawn[: len(shown)] < 2] = np.nan
    total = int(kept.sum())
    everything = [(ALL_QUERIES, total), (MACRO_PRODUCT, total), (MACRO_CATEGORY, int((of_category >= 0).sum()))]
    sizes = np.bincount(of_category[of_category >= 0], minlength=len(names)).tolist()
    slices = everything + [(category_slice(name), size) for name, size in zip(shown, sizes, strict=False)]
    missing = [len(kept) - total] * 2 + [sum(n for name, n in left_out.items() if name is not None)]
    missing += [left_out[name] for name in shown]
    return [
        Scores(name, *named(each, points[at], intervals[at]), queries, missing[at], index_size)
        for at, (name, queries) in enumerate(slices)
        if queries
    ]


def _by_size(categories: list[str | None]) -> tuple[list[str], Ints]:
    """Category names, the most frequent first, and each query's place among them, -1 where it has none."""
    counts = Counter(name for name in categories if name is not None)
    names = sorted(counts, key=lambda name: (-counts[name], name))
    places = {name: place for place, name in enumerate(names)}
    return names, np.array([-1 if name is None else places[name] for name in categories], dtype=np.int64)


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
