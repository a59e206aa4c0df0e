"""Which encoder for which use: the Pareto front, and a recommendation that says when the figures do not decide.

Pure: no table, no file, no text. Options are compared with the best of them by paired differences where the queries'
results allow that, else by whether their intervals overlap. All comparisons of one recommendation share one chance of
a false "worse", 1 - ``CONFIDENCE``, in equal parts (Bonferroni's inequality; Hsu, Multiple Comparisons, 1996, on
comparing with the best).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from evaluation.statistics.bootstrap import PairedDifference

CONFIDENCE = 0.95

Name = TypeVar("Name", bound=Hashable)


def pareto_front(points: Mapping[Name, tuple[float, float]]) -> list[Name]:
    """The names of the points, (cost, value), that no other beats, cheapest first.

    A point is beaten by one that costs no more and is worth no less, and is better in one of the two; equal points
    beat each other not.
    """
    front: list[Name] = []
    for name in sorted(points, key=lambda each: (points[each][0], -points[each][1])):
        cost, value = points[name]
        if not front or value > points[front[-1]][1] or (cost, value) == points[front[-1]]:
            front.append(name)
    return front


@dataclass(frozen=True)
class Option:
    """What can be chosen, and its figure with the interval; ``cost`` in any one unit, None where it is not known."""

    key: str
    value: float
    low: float | None = None
    high: float | None = None
    cost: float | None = None


@dataclass(frozen=True)
class Comparison:
    """An option held against the best one."""

    option: Option
    paired: PairedDifference | None
    """Option minus best, on the same queries; None where there are no such results."""
    worse: bool
    """By more than the margin, with confidence."""
    surely_within: bool
    """Not worse by more than the margin, with confidence."""

    @property
    def known(self) -> bool:
        """Is anything known of how sure the two figures are?"""
        return self.paired is not None or None not in (self.option.low, self.option.high)

    @property
    def more_queries(self) -> int | None:
        """About how many more queries would decide; None where that is not known, or none would."""
        return self.paired.more_queries if self.paired else None


@dataclass(frozen=True)
class Recommendation:
    """``chosen`` for one use, beside the ``best`` figure."""

    chosen: Option
    best: Option
    margin: float
    comparisons: list[Comparison]
    """All others, the highest figure first."""

    @property
    def rivals(self) -> list[Comparison]:
        """Those that the figures do not show to be worse than the best by more than the margin."""
        return [each for each in self.comparisons if not each.worse]

    @property
    def decided(self) -> bool:
        """Do the figures by themselves lead to ``chosen``?

        Without a margin: no other may be as good. With one: what was chosen is the best, or surely within the margin.
        """
        if not self.margin:
            return not self.rivals
        mine = [each for each in self.comparisons if each.option.key == self.chosen.key]
        return not mine or mine[0].surely_within


Compare = Callable[[Option, Option, float, float], PairedDifference | None]
"""(option, best, margin, confidence) to option minus best; None where no query was asked of both."""


def recommend(options: Sequence[Option], compare: Compare, margin: float = 0.0) -> Recommendation | None:
    """The cheapest of all that are not shown to be worse than the best by more than ``margin``; None of no options.

    Without a margin that is the best where it is told apart from all others; else the cheaper one of those that are not
    told apart. An option whose cost is not known comes last, the best one before others; one of which nothing says how
    sure its figure is is never chosen before the best.
    """
    if not options:
        return None
    ranked = sorted(options, key=lambda each: (-each.value, _cost(each), each.key))
    best = ranked[0]
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(ranked) - 1)
    comparisons = [
        _compared(each, best, compare(each, best, margin, confidence), margin, confidence) for each in ranked[1:]
    ]
    within = [best, *(each.option for each in comparisons if each.known and not each.worse)]
    return Recommendation(min(within, key=_cost), best, margin, comparisons)


def _cost(option: Option) -> float:
    return float("inf") if option.cost is None else option.cost


def _compared(
    option: Option, best: Option, paired: PairedDifference | None, margin: float, confidence: float
) -> Comparison:
    if paired is not None:
        return Comparison(option, paired, paired.worse, paired.p_worse <= 1 - confidence)
    known = option.high is not None and best.low is not None
    worse = known and (option.high or 0.0) < (best.low or 0.0) - margin
    within = option.low is not None and best.high is not None and option.low >= best.high - margin
    return Comparison(option, None, worse, within)
