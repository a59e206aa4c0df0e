"""The cluster bootstrap of plain means: what intervals of figures are held against."""

import numpy as np

from evaluation.statistics.bootstrap import cluster_sums, interval, ratios, resample


def mean_intervals(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """The interval of each column's mean over the queries: float64, (M, 2), low and high, all of the same resamples.

    A resample's mean is (sum of w_c * S_c) / (sum of w_c * n_c) over the clusters c, with w_c how often c was drawn,
    S_c the sum and n_c the number of its queries: a ratio, since clusters differ in size. A row of ``values``, (Q, M),
    that holds a NaN is left out; NaN where fewer than two clusters are left.
    """
    kept = ~np.isnan(values).any(axis=1)
    _, codes = np.unique(clusters[kept], return_inverse=True)
    sums = cluster_sums(values[kept], codes)
    if len(sums) < 2:
        return np.full((values.shape[1], 2), np.nan)
    return interval(resample(lambda counts: ratios(counts @ sums), len(sums)))
