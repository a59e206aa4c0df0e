"""A figure that choosing did not flatter: every fifth product of the sample is set aside, and the race never asks it.

The best of several is the best partly by luck, on the queries that chose it. So what an option has over the others is
told by the products that were set aside (data splitting; Cox, Biometrika 62, 1975), and what all contenders have in
common, on which no choice depends, by the whole sample: the difference estimator of double sampling (Cochran, Sampling
Techniques, 1977, chapter 12), with the contenders' mean as the figure that is known of all queries. It expects what the
set-aside products alone would, with an interval nearly as narrow as the whole sample's.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evaluation.advice.race import CONFIDENCE, CURVE_ERROR, Floats, Mean, clustered_mean
from evaluation.advice.sample import FEWEST, Catalog, Sample

EVERY = 5
"""One product in so many, of those with two photos or more, is set aside."""
FROM = EVERY * FEWEST
"""Such products in the catalog, below which none is: the race needs them all."""


def set_aside(catalog: Catalog, sample: Sample) -> NDArray[np.bool_]:
    """Whose queries the race may not see, (N,). Products count in the order of their hashes, so that one that was asked
    in a smaller sample is asked in a larger one, too. None of the whole catalog: what it answers is no estimate."""
    if catalog.asked < FROM or sample.whole:
        return np.zeros(len(sample.ids), dtype=bool)
    asked = np.bincount(sample.products, minlength=sample.product_count) > 1
    return np.asarray((asked & (np.cumsum(asked) % EVERY == 0))[sample.products])


def expected(
    figures: Floats, common: Floats, aside: NDArray[np.bool_], products: NDArray[np.generic], moved: float = 0.0
) -> tuple[float, float, float]:
    """The mean of ``figures``, (Q,), as the products set aside have it, and its 90 % interval.

    Args:
        figures: each query's, NaN where it has no right answer.
        common: the mean of all contenders' figures, (Q,).
        aside: whose queries the race did not see; where none are, the mean is a plain one, and flattered.
        products: of each query, (Q,).
        moved: by how much a curve moved the mean of ``figures`` from what was measured; it may err by a share of that.
    """
    known = ~(np.isnan(figures) | np.isnan(common))
    mine = known & aside
    mean = (
        _difference_mean(figures, common, known, mine, products)
        if mine.any()
        else clustered_mean(figures, products, bounded=1.0)
    )
    mean = replace(mean, error=math.hypot(mean.error, CURVE_ERROR * moved))
    reach = (1 - CONFIDENCE) / 2
    value, low, high = (float(np.clip(each, 0, 1)) for each in (mean.value, mean.lower(reach), mean.upper(reach)))
    return value, low, high


def _difference_mean(
    figures: Floats, common: Floats, known: NDArray[np.bool_], mine: NDArray[np.bool_], products: NDArray[np.generic]
) -> Mean:
    """The error is linearised, and clustered by product as the race's; Student's degrees are those of ``mine``."""
    ahead = np.where(mine, figures - common, 0.0)
    shared, own = float(common[known].mean()), float(ahead[mine].mean())
    _, codes = np.unique(products[known], return_inverse=True)
    count, few = int(codes.max()) + 1, len(np.unique(products[mine]))
    if few < 2:
        return Mean(shared + own, math.inf, few)
    of_all = np.bincount(codes, weights=common[known] - shared) / known.sum() * math.sqrt(count / (count - 1))
    of_mine = np.bincount(codes, weights=np.where(mine, ahead - own, 0.0)[known]) / mine.sum()
    error = float(np.linalg.norm(of_all + of_mine * math.sqrt(few / (few - 1))))
    return Mean(shared + own, max(error, 1 / count), few)
