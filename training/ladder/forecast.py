"""What a rung would gain at its full budget, from what it gained in probes: an interval, by resampling.

The learning curve is a power law with offset, gain(s) = a - b * s^-c (Viering and Loog, The shape of learning curves,
2021; it fits best among the parametric forms of LCDB, Mohr et al. 2022). Two or three shares cannot tell its exponent,
so each resample draws c uniformly from ``EXPONENTS`` and fits a and b alone: what the exponent leaves open
widens the interval. Resamples draw seeds, and within each probe classes, since photos of one class are alike. NumPy
alone, no input, no output.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXPONENTS = (0.1, 1.0)
RESAMPLES = 1000


class NoAnswer(ValueError):
    """No probe has a query with an answer."""


@dataclass(frozen=True)
class ByQuery:
    """mMP@5 query by query, or how much more of it one rung has than another: (Q,) each."""

    values: Floats
    """NaN where nothing is relevant."""
    classes: NDArray[np.integer]

    @property
    def mean(self) -> float:
        """NaN where there is no query with an answer."""
        return float(np.nanmean(self.values)) if not np.isnan(self.values).all() else float("nan")

    def nothing(self) -> "ByQuery":
        """No query at all."""
        return ByQuery(self.values[:0], self.classes[:0])

    def over(self, base: "ByQuery") -> "ByQuery":
        """What it has more than ``base``, which answered the same queries."""
        return ByQuery(self.values - base.values, self.classes)

    def sums(self) -> tuple[Floats, Floats]:
        """Of each class: the sum of the values, and how many."""
        kept = ~np.isnan(self.values)
        _, codes = np.unique(self.classes[kept], return_inverse=True)
        sums = np.bincount(codes, weights=self.values[kept])
        return sums.astype(np.float64), np.bincount(codes).astype(np.float64)


@dataclass(frozen=True)
class Probe:
    """One probe's outcome."""

    share: float
    """Of the full budget."""
    seed: int
    known: ByQuery
    """Gains over the rung below, by photos of classes that were learned from."""
    new: ByQuery
    """The same by photos of classes that were not; none at the share of 1."""


@dataclass(frozen=True)
class Forecast:
    """The gain at full budget in points of mMP@5 (0 to 1): its median, and an interval of the level asked for."""

    value: float
    low: float
    high: float

    def widened(self, factor: float) -> "Forecast":
        """The same with an interval ``factor`` times as wide."""
        return Forecast(self.value, *(self.value + factor * (bound - self.value) for bound in (self.low, self.high)))


def forecast(probes: Sequence[Probe], known_share: float, level: float, seed: int = 0) -> Forecast:
    """From the probes of one rung.

    Args:
        probes: of one share or more, one seed or more each.
        known_share: of the photos that will be asked about, how many show what was learned.
        level: of the interval, as 0.9.

    Raises:
        NoAnswer: there is nothing to forecast from.
    """
    random = np.random.default_rng(seed)
    exponents = random.uniform(*EXPONENTS, RESAMPLES)
    parts = []
    for weight, kind in ((known_share, "known"), (1 - known_share, "new")):
        sums = [(probe.share, probe.seed, *getattr(probe, kind).sums()) for probe in probes]
        answered = [each for each in sums if len(each[2])]
        if weight and answered:
            parts.append((weight, _predictions(answered, exponents, random)))
    if not parts:
        raise NoAnswer("no photo that its probes left aside has another one of its product to find")
    total = sum(weight for weight, _ in parts)
    draws = sum(weight / total * values for weight, values in parts)
    tail = (1 - level) / 2
    low, value, high = np.quantile(draws, [tail, 0.5, 1 - tail])
    return Forecast(float(value), float(low), float(high))


def _predictions(
    measured: list[tuple[float, int, Floats, Floats]], exponents: Floats, random: np.random.Generator
) -> Floats:
    """The gain at the share of 1 in every resample, (RESAMPLES,)."""
    shares = sorted({share for share, *_ in measured})
    means = np.column_stack([_mean_gains([each for each in measured if each[0] == at], random) for at in shares])
    if shares[-1] >= 1 or len(shares) == 1:  # measured, or nothing that tells a slope
        return np.asarray(means[:, -1])
    scaled = np.array(shares)[None, :] ** -exponents[:, None]
    weights = np.array(shares) / sum(shares)  # a larger probe is nearer to what is asked
    centre_x, centre_y = (scaled * weights).sum(1, keepdims=True), (means * weights).sum(1, keepdims=True)
    spread = (weights * (scaled - centre_x) ** 2).sum(1)
    slope = (weights * (scaled - centre_x) * (means - centre_y)).sum(1) / spread
    return np.asarray(centre_y[:, 0] + slope * (1 - centre_x[:, 0]))


def _mean_gains(measured: list[tuple[float, int, Floats, Floats]], random: np.random.Generator) -> Floats:
    """The mean gain of one share in every resample: seeds are drawn, and in each seed's probe classes."""
    each = np.empty((RESAMPLES, len(measured)))
    for at, (_, _, sums, counts) in enumerate(measured):
        drawn = random.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), RESAMPLES)
        each[:, at] = (drawn @ sums) / (drawn @ counts)
    chosen = random.integers(len(measured), size=each.shape)
    return np.asarray(np.take_along_axis(each, chosen, axis=1).mean(1))
