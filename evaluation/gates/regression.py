"""Is a candidate worse than what it is held against? Paired differences on the same queries and photos, as checks.

Pure: no table, no file. One rule for all: refused is what is worse beyond its margin with the confidence asked for.
What could be either is unclear: it passes with a warning, or is refused, as ``[gates] unclear`` says.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from evaluation.classification.classification_metrics import PairedClassifier, paired_classification
from evaluation.gates.gate import Check
from evaluation.statistics.bootstrap import Floats, PairedDifference, paired_difference
from evaluation.statistics.several import holm
from vitrine.encoded_set import EncodedSet
from vitrine.setting_sections import GateSettings

FEWEST_PRODUCTS = 5
"""A category of fewer is not judged: its spread is hardly known."""
_SHOWN = 3
_NOISE = 1e-12


@dataclass(frozen=True)
class Against:
    """What a candidate is held against."""

    kind: str
    """``serving`` or ``base``: the names of its checks begin with it."""
    encoded: EncodedSet

    @property
    def called(self) -> str:
        what = "the serving" if self.kind == "serving" else "its own backbone"
        return f"{what} {self.encoded.encoder} ({self.encoded.encoder_version})"


@dataclass(frozen=True)
class PairedQueries:
    """One metric of two encoder versions, (Q,) each, by query; NaN where a query has nothing relevant."""

    metric: str
    candidate: Floats
    other: Floats
    products: NDArray[np.generic]
    """(Q,): what each query shows: what is drawn."""
    categories: NDArray[np.object_]
    """(Q,): names, None where there is none."""
    learned: NDArray[np.bool_]
    """(Q,): does the query's product have a photo in the split that tuning learns from?"""


def held_against(
    against: Against, queries: PairedQueries, classifiers: Sequence[PairedClassifier], thresholds: GateSettings
) -> list[Check]:
    """Four checks, named ``KIND``, ``KIND_new_products``, ``KIND_categories`` and ``KIND_classifiers``.

    - The mean over all queries, by the cluster bootstrap: worse where it is below ``-max_drop`` in a share
      ``confidence`` of the resamples.
    - The same over the queries of products that tuning could not learn from, where some are and some are not.
    - Every category with ``min_category_queries`` queries of ``FEWEST_PRODUCTS`` products: one falls hard where it is
      below ``-max_category_drop``. They share one chance of a false alarm, 1 - ``confidence``, by Holm's procedure.
    - Every classifier's accuracy and macro F1, below ``-max_drop``, which share it likewise.

    Raises:
        ValueError: no query has a figure on both sides.
    """
    return [
        _overall(against, queries, thresholds),
        _new_products(against, queries, thresholds),
        _categories(against, queries, thresholds),
        _classifiers(against, classifiers, thresholds),
    ]


# ---- all queries, and those of new products ----


def _new_products(against: Against, queries: PairedQueries, thresholds: GateSettings) -> Check:
    name, asked = f"{against.kind}_new_products", ~np.isnan(queries.candidate - queries.other)
    learned = queries.learned[asked]
    if learned.all():
        return Check.skipped(name, "every product that is asked about has a photo in the split train")
    if not learned.any():
        return Check.skipped(name, "no product that is asked about has a photo in the split train: all are new")
    kept = asked & ~queries.learned
    if len(np.unique(queries.products[kept])) < FEWEST_PRODUCTS:
        return Check.skipped(name, f"fewer than {FEWEST_PRODUCTS} products that are asked about are new")
    new = replace(
        queries,
        candidate=queries.candidate[kept],
        other=queries.other[kept],
        products=queries.products[kept],
    )
    return replace(_overall(against, new, thresholds), name=name)


def _overall(against: Against, queries: PairedQueries, thresholds: GateSettings) -> Check:
    most, confidence = thresholds.max_drop, thresholds.confidence
    change = paired_difference(queries.candidate, queries.other, queries.products, most, confidence)
    both = ~np.isnan(queries.candidate - queries.other)
    value, theirs = float(queries.candidate[both].mean()), float(queries.other[both].mean())
    detail = (
        f"{queries.metric} {value:.4f} against {theirs:.4f} of {against.called}: {_with_interval(change)}, "
        f"down to {-most:+.4f} allowed; {verdict(change)}; {change.queries:,} queries of {change.clusters:,} products"
    )
    figures: dict[str, float | str] = {"value": value, against.kind: theirs, "difference": change.value}
    bounds = {"low": change.low, "high": change.high, "p_worse": change.p_worse}
    figures |= {name: bound for name, bound in bounds.items() if not math.isnan(bound)}
    figures |= {"max_drop": most, "confidence": confidence, "queries": change.queries, "products": change.clusters}
    if change.more_queries:
        figures["more_queries"] = change.more_queries
    if not change.clear:
        figures["warning"] = "unclear"
    figures[f"{against.kind}_version"] = against.encoded.encoder_version
    return Check(against.kind, not change.worse and (change.clear or thresholds.unclear == "pass"), detail, figures)


def verdict(change: PairedDifference) -> str:
    """What a change says of its margin, in words."""
    if change.worse:
        return f"worse beyond that in {change.p_worse:.1%} of the resamples, {change.confidence:.1%} refuse"
    if change.clear:
        return "not worse"
    if change.more_queries is None:
        return "unclear, and more queries like these would not settle it"
    return f"unclear: about {change.more_queries:,} more queries would settle it"


def _with_interval(change: PairedDifference) -> str:
    if math.isnan(change.low):
        return f"{change.value:+.4f}"
    return f"{change.value:+.4f} (95 % interval {change.low:+.4f} to {change.high:+.4f})"


# ---- many at once ----


def worse_ones(differences: Mapping[str, PairedDifference], confidence: float) -> list[str]:
    """Those that are worse beyond their margin, the surest first; none is falsely named with that confidence (Holm's
    procedure)."""
    ordered = sorted(differences, key=lambda name: (differences[name].value, name))
    return holm({name: p_value(differences[name]) for name in ordered}, 1 - confidence)


def p_value(change: PairedDifference) -> float:
    """One-sided, of "not worse by more than the margin".

    Student's t of (value + margin) / s with C - 1 degrees of freedom, C clusters, s the bootstrap's standard error
    times sqrt(C / (C - 1)), as resampling C of C gives C - 1 parts of their variance. A share of 1,000 resamples could
    not tell 0.999 from 0.9999, which Holm's procedure needs; and t is less sure than the normal where clusters are few
    (Cameron and Miller, A practitioner's guide to cluster-robust inference, 2015, find it still too sure where they
    are very few: hence ``FEWEST_PRODUCTS``).
    """
    distance = change.value + change.margin
    if change.clusters < 2:
        return 1.0
    error = change.standard_error * math.sqrt(change.clusters / (change.clusters - 1))
    if error <= _NOISE:
        return 0.0 if distance < -_NOISE else 1.0
    return float(stdtr(change.clusters - 1, distance / error))


def _categories(against: Against, queries: PairedQueries, thresholds: GateSettings) -> Check:
    name, most, least = f"{against.kind}_categories", thresholds.max_category_drop, thresholds.min_category_queries
    differences: dict[str, PairedDifference] = {}
    means, small = {}, 0
    asked = ~np.isnan(queries.candidate - queries.other)
    for category in sorted({category for category in queries.categories[asked] if category is not None}):
        own = asked & (queries.categories == category)
        if own.sum() < least or len(np.unique(queries.products[own])) < FEWEST_PRODUCTS:
            small += 1
            continue
        sides = queries.candidate[own], queries.other[own]
        differences[category] = paired_difference(*sides, queries.products[own], most, thresholds.confidence)
        means[category] = f"{sides[1].mean():.4f} to {sides[0].mean():.4f}"
    if not differences:
        return Check.skipped(name, f"no category has {least} queries of {FEWEST_PRODUCTS} products")
    fallen = worse_ones(differences, thresholds.confidence)
    shown = (fallen or sorted(differences, key=lambda one: differences[one].value)[:1])[:_SHOWN]
    named = "; ".join(f"{one!r} from {means[one]}, {_with_interval(differences[one])}" for one in shown)
    head = f"{len(fallen)} of {len(differences)} categories fell" if fallen else f"none of {len(differences)} fell"
    detail = (
        f"{head} by more than {most:.4f} in {queries.metric} against {against.called}, {small} too small to judge; "
        f"{'they are' if fallen else 'the lowest is'} {named}"
    )
    figures: dict[str, float | str] = {"value": differences[shown[0]].value, "max_category_drop": most}
    figures |= {"fallen": len(fallen), "categories": len(differences), "too_small": small, "worst": shown[0]}
    return Check(name, not fallen, detail, figures)


def _classifiers(against: Against, classifiers: Sequence[PairedClassifier], thresholds: GateSettings) -> Check:
    name, most = f"{against.kind}_classifiers", thresholds.max_drop
    if not classifiers:
        return Check.skipped(name, "no classifier told the same photos by both versions' vectors")
    differences: dict[str, PairedDifference] = {}
    for one in classifiers:
        changes = paired_classification(one.candidate, one.other, one.products, most, thresholds.confidence)
        differences |= {f"{figure} of {one.name}": change for figure, change in changes.items()}
    worse = worse_ones(differences, thresholds.confidence)
    lowest = min(differences, key=lambda each: differences[each].value)
    shown = worse[:_SHOWN] or [lowest]
    named = "; ".join(f"{each} {_with_interval(differences[each])}" for each in shown)
    head = f"{len(worse)} of {len(differences)} figures are" if worse else f"none of {len(differences)} figures is"
    detail = (
        f"{head} worse by more than {most:.4f} against {against.called}; "
        f"{'they are' if worse else 'the lowest is'} {named}"
    )
    figures: dict[str, float | str] = {"value": differences[shown[0]].value, "max_drop": most, "worst": shown[0]}
    figures |= {"worse": len(worse), "figures": len(differences)}
    return Check(name, not worse, detail, figures)
