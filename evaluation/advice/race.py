"""The race: who leaves, who is chosen, and what is undecided, on the queries of a sample of whole products.

Each look at a larger sample is a test of its own, and the chance of a mistake is shared by all looks: look n may use
1 / (n (n + 1)) of it, and these parts add up to no more than the whole however often one looks, whatever changes
between the looks (Bonferroni's inequality over an infinite sequence; alpha spending, Lan and DeMets, Biometrika 70,
1983). Within a look it is shared by the rivals. So the best contender leaves, at any look, with a chance of at most
half of ``1 - CONFIDENCE``; one is chosen that is worse than another one left by more than the margin with at most the
other half.

Differences are paired by query. Their standard error is clustered by product (the linearised variance of a ratio of
sums, Cochran, Sampling Techniques, 1977, chapter 9A; as in Cameron and Miller, J. Human Resources 50, 2015), and bounds
have Student's t with one degree less than there are products. Where fewer than ``_SHOWN`` products tell two contenders
apart, the standard error is not taken to be below that of one product in all that differs wholly: what no product
showed, one in so many may.

What is asked is the catalog as it is, so figures are those of the sample as they would be among all of it: they fall
as the catalog grows, and one that falls less stays in. How far curves move two contenders apart is known up to a share
of it (``CURVE_ERROR``), an error beside the sample's. A sample of n of its N products leaves 1 - n / N of the variance
(the correction for finite populations, ibid., chapter 2): of the whole catalog nothing is left to chance or to a curve,
and the race ends.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
CONFIDENCE = 0.9
CURVE_ERROR = 0.25
"""Standard deviation of what a curve misses, as a share of what it moves a mean by: 0.04 to 0.31 on a drawn catalog
some three doublings larger than its samples (docs/advice.md)."""
_MOST_PRODUCTS = 10_000_000
_NOISE = 1e-12
_SHOWN, _TELLS = 10, 0.01
"""So many products whose difference is so far from the mean one show how differences spread."""


@dataclass(frozen=True)
class Contender:
    """An encoder, as it is or tuned, and what it answers on the sample."""

    name: str
    values: Floats
    """Each query's figure, as it would be among all of the catalog, (Q,); NaN where the query has no right answer."""
    cost: float
    """What using it costs, in any one unit."""
    moved: float = 0.0
    """By how much its curve moved the mean from what the sample showed."""


@dataclass(frozen=True)
class Mean:
    """A mean over queries, and how sure it is."""

    value: float
    error: float
    """Standard error, clustered by product."""
    products: int

    def upper(self, alpha: float) -> float:
        """What the mean is above with a chance of ``alpha``; infinite of fewer than two products."""
        return self.value + self._reach(alpha)

    def lower(self, alpha: float) -> float:
        """The same on the other side."""
        return self.value - self._reach(alpha)

    def _reach(self, alpha: float) -> float:
        return float(stats.t.isf(alpha, self.products - 1)) * self.error if self.products > 1 else math.inf


@dataclass(frozen=True)
class Behind:
    """By how much one that left is below the leader of that look, of the same queries."""

    leader: str
    by: float
    at_least: float
    """Surely."""

    @property
    def why(self) -> str:
        return f"{self.by:.3f} below {self.leader}, at least {self.at_least:.3f}"


@dataclass(frozen=True)
class Standing:
    """How the race stands after a look."""

    leader: str
    """The highest figure."""
    left: dict[str, Behind]
    """Who left at this look."""
    remaining: list[str]
    """The highest figure first."""
    chosen: str | None
    """None: undecided between those that remain."""
    why: str
    more_products: int | None = None
    """About how many more products would decide; None where it is decided, or where none would."""


def clustered_mean(values: Floats, products: NDArray[np.generic], bounded: float = 0.0, of: int | None = None) -> Mean:
    """The mean of ``values``, (Q,), NaN left out, with its error over ``products``, (Q,).

    Args:
        bounded: the most that one product may differ, for the least error that is believed where few products differ.
        of: how many products could be asked, where the mean is of these; None: of any number more.
    """
    kept = ~np.isnan(values)
    if not kept.any():
        return Mean(math.nan, math.nan, 0)
    values, (_, codes) = values[kept], np.unique(products[kept], return_inverse=True)
    count, mean = int(codes.max()) + 1, float(values.mean())
    if count < 2:
        return Mean(mean, math.inf, count)
    residuals = np.bincount(codes, weights=values - mean)
    error = math.sqrt(count / (count - 1) * float(residuals @ residuals)) / len(values)
    if np.count_nonzero(np.abs(residuals) >= _TELLS * np.bincount(codes)) < _SHOWN:
        error = max(error, bounded / count)
    return Mean(mean, error * math.sqrt(max(0.0, 1 - count / of)) if of else error, count)


def level(look: int, rivals: int) -> float:
    """The chance of one kind of mistake that look ``look``, from 1 on, may take for one of ``rivals``."""
    return (1 - CONFIDENCE) / 2 / (look * (look + 1)) / max(1, rivals)


def judge(
    contenders: Sequence[Contender],
    products: NDArray[np.generic],
    look: int,
    started: int,
    margin: float,
    of: int | None = None,
) -> Standing:
    """Who leaves and who is chosen, by the queries of ``products``, (Q,).

    Args:
        contenders: those that are still in, one or more.
        look: which sample this is, from 1 on.
        started: how many contenders there ever were.
        margin: what one may be worse and still be as good.
        of: how many products of the catalog can be asked; None: any number.
    """
    alpha = level(look, started - 1)
    ranked = sorted(contenders, key=lambda each: (-_mean(each), each.cost, each.name))
    leader = ranked[0]
    left, remaining = {}, [leader]
    for each in ranked[1:]:
        behind = _difference(each, leader, products, of)
        if behind.upper(alpha) >= -margin:
            remaining.append(each)
        else:
            left[each.name] = Behind(leader.name, -behind.value, -behind.upper(alpha))
    names = [each.name for each in remaining]
    if len(remaining) == 1:
        return Standing(leader.name, left, names, leader.name, "all others are surely worse by more than the margin")
    cheapest = min(remaining, key=lambda each: (each.cost, -_mean(each), each.name))
    others = [each for each in remaining if each is not cheapest]
    ahead = {each.name: _difference(each, cheapest, products, of) for each in others}
    if all(mean.upper(alpha) <= margin for mean in ahead.values()):
        why = f"the cheapest of {len(remaining)} that are within the margin of {margin:g}"
        return Standing(leader.name, left, names, cheapest.name, why)
    more = _more_products(leader, remaining, products, level(look + 1, started - 1), margin, of)
    return Standing(leader.name, left, names, None, "undecided", more)


def _difference(one: Contender, other: Contender, products: NDArray[np.generic], of: int | None) -> Mean:
    """By how much ``one`` is ahead of ``other``."""
    mean = clustered_mean(one.values - other.values, products, 1.0, of)
    return replace(mean, error=math.hypot(mean.error, CURVE_ERROR * (one.moved - other.moved)))


def _mean(contender: Contender) -> float:
    return float(np.nanmean(contender.values))


def _more_products(
    leader: Contender,
    remaining: Sequence[Contender],
    products: NDArray[np.generic],
    alpha: float,
    margin: float,
    of: int | None,
) -> int | None:
    """How many more products would decide, if figures and their spread stay as they are: normal approximation.

    One is chosen once each of the others has left, or costs no less and is surely not ahead by more than the margin;
    the one for which that takes the fewest counts.
    """
    reach = float(stats.norm.isf(alpha))

    def needed(ahead: Contender, behind: Contender, gap: float) -> float:
        """Products that show ``ahead`` minus ``behind`` to be on its side of ``gap``."""
        mean = clustered_mean(ahead.values - behind.values, products, bounded=1.0)
        distance = abs(mean.value - gap)
        count = mean.products * (reach * mean.error / distance) ** 2 if distance > _NOISE else math.inf
        return count if of is None else 1 / (1 / max(count, 1) + 1 / of)

    def until_out(one: Contender, chosen: Contender) -> float:
        ways = [math.inf]
        if one is not leader and _mean(leader) - _mean(one) > margin:
            ways.append(needed(leader, one, margin))
        if one.cost >= chosen.cost and _mean(one) - _mean(chosen) < margin:
            ways.append(needed(one, chosen, margin))
        return min(ways)

    least = min(max(until_out(one, chosen) for one in remaining if one is not chosen) for chosen in remaining)
    if not math.isfinite(least) or least > _MOST_PRODUCTS:
        return None
    return max(1, math.ceil(least - clustered_mean(leader.values, products).products))
