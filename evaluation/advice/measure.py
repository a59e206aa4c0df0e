"""What an encoder answers on the sample: exact search in NumPy, as it is and tuned in closed form.

Every photo asks all others, at three sizes of the sample: its products in four parts, in two, and as a whole. So each
query has a figure at a quarter, a half and all of the products, of the gallery as of what the matrix is learned from.

A matrix is never asked about what it learned: of new products, one half of the products learns for the other; of known
ones, one half of each product's photos. Its kind and strength are those that did best on the other half's queries, less
those of products that are set aside.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from evaluation.advice import confirm
from evaluation.advice.race import Floats
from evaluation.advice.sample import Catalog, Ints, Sample
from vitrine import vectors
from vitrine.retrieval_metrics import MMP_DEPTH, nearest_first, per_query

SHARES = (0.25, 0.5, 1.0)
_PARTS = (4, 2, 1)
_FEWEST_A_PART = 5
_BLOCK = 1024
_NOISE = 1e-9
_MOSTLY = 0.5
"""From this share of known products on, these are whom a matrix is looked at for."""
Embed = Callable[[vectors.Floats], vectors.Floats]
"""Rows (N, D) to rows (N, K) of unit length."""
Fit = Callable[[vectors.Floats, Ints, int], Iterator[Embed]]
"""From rows, their classes, and how many dimensions the encoder has (rows may be written in fewer) to what can be
learned from them, the same kinds in the same order each time; raises ArithmeticError where that is nothing."""
Space = tuple[vectors.Floats, Ints]
"""Vectors of the sample, float32 (N, D) of unit length, and the places, (Q,), of those that ask there."""


@dataclass(frozen=True)
class Answers:
    """Each photo's figure, (3, N), at the shares of ``SHARES``: NaN where it was not asked, or nothing is right."""

    by_share: Floats
    taken: tuple[int, int] | None = None
    """Of a matrix, which kind each half's queries were answered by; None: as it is."""

    @property
    def values(self) -> Floats:
        return self.by_share[-1]

    @property
    def slopes(self) -> Floats:
        """What each figure gains when the products double, (N,): from the smallest share at which it was asked."""
        quarter, half, whole = self.by_share
        return np.where(np.isnan(quarter), whole - half, (whole - quarter) / 2)

    def moved(self, doublings: float) -> Floats:
        """Each figure once the sample has doubled so often, (N,): along its curve over the logarithm of the
        number of products, which bends as far as brings the mean to where a logistic curve has it.

        A mean near 1 so loses by a power of the number of products what it lacks, and one near 0 falls by a power; the
        log-odds are a line (as of a response over the logarithm of a dose: Berkson, JASA 39, 1944).
        """
        asked = ~np.isnan(self.values)
        if not asked.any():
            return self.values
        slopes = np.nan_to_num(self.slopes)
        mean, slope = float(self.values[asked].mean()), float(slopes[asked].mean())
        span = 1 if np.isnan(self.by_share[0]).all() else 2
        return self.values + slopes * _along_line(doublings, mean, slope, span, int(asked.sum()))

    @property
    def curve(self) -> list[float]:
        """The means at the shares."""
        known = ~np.isnan(self.by_share)
        return [
            float(row[mine].mean()) if mine.any() else np.nan for row, mine in zip(self.by_share, known, strict=True)
        ]


class Questions:
    """What the sample asks of vectors."""

    def __init__(self, catalog: Catalog, sample: Sample) -> None:
        self.sample, self.catalog = sample, catalog
        self.tags = catalog.label == "category"
        self.aside = confirm.set_aside(catalog, sample)
        # Whole products in halves, and the photos of each product in halves.
        self.fold = sample.products % 2
        order = np.lexsort((np.arange(len(sample.ids)), sample.products))
        starts = np.searchsorted(sample.products[order], sample.products[order])
        self.half = np.empty(len(order), np.int64)
        self.half[order] = (np.arange(len(order)) - starts) % 2
        parts = sample.products // 2
        self.groups: list[list[Ints]] = [
            [np.flatnonzero(parts % count == number) for number in range(count)]
            if count == 1 or sample.product_count >= _FEWEST_A_PART * count
            else []
            for count in _PARTS
        ]

    def as_it_is(self, rows: vectors.Floats) -> Answers:
        """What ``rows``, (N, D), answer."""
        return self._by_share(lambda group: self._ask(rows[group], group))

    def tuned(self, rows: vectors.Floats, fit: Fit) -> Answers | None:
        """What matrices on ``rows`` answer; None where too few photos say how photos of one product differ."""
        share = self.catalog.known_share
        try:
            new = self._learned(rows, fit, self.fold) if share < 1 else None
            known = self._learned(rows, fit, self.half) if share > 0 else None
        except ArithmeticError:
            return None
        if new is None or known is None:
            return new or known
        mixed = share * known.by_share + (1 - share) * new.by_share
        return Answers(np.where(np.isnan(mixed), new.by_share, mixed), known.taken if share >= _MOSTLY else new.taken)

    def _learned(self, rows: vectors.Floats, fit: Fit, sides: Ints) -> Answers:
        whole = np.arange(len(rows))
        tried = [self._sided(rows, fit, whole, sides, side) for side in (0, 1)]
        # Each side takes what did best on the other one.
        first, second = (self._best(tried[1 - side], np.flatnonzero(sides == 1 - side)) for side in (0, 1))
        taken = first, second

        def answers(group: Ints) -> Floats:
            values = np.full(len(group), np.nan)
            for side in (0, 1):
                mine = sides[group] == side
                full = len(group) == len(rows)
                values[mine] = (
                    tried[side][taken[side]] if full else self._sided(rows, fit, group, sides, side, taken[side])[0]
                )
            return values

        return replace(self._by_share(answers), taken=taken)

    def _best(self, tried: Floats, asks: Ints) -> int:
        """Which of the kinds, (kinds, queries), does best where the race asks."""
        seen = tried[:, ~self.aside[asks]]
        return int(np.nanmean(seen, axis=1).argmax()) if seen.size else 0

    def _sided(
        self, rows: vectors.Floats, fit: Fit, group: Ints, sides: Ints, side: int, only: int | None = None
    ) -> Floats:
        """What the queries of one side answer by what the other side teaches: (kinds, queries)."""
        mine = _in_fewest_dimensions(rows[group])
        labels, seen = self.sample.labels[group], np.asarray(mine.any(axis=1))
        teaches = np.flatnonzero((sides[group] != side) & (labels >= 0) & seen)
        classes, codes = np.unique(labels[teaches], return_inverse=True)
        if len(classes) < 2:
            raise ArithmeticError("one class: there is nothing to tell apart")
        kinds = fit(mine[teaches], codes.astype(np.int64), rows.shape[1])
        chosen = kinds if only is None else islice(kinds, only, only + 1)
        asks = np.flatnonzero(sides[group] == side)
        return np.stack(
            [self._ask(np.where(seen[:, None], embed(mine), np.float32(0)), group, asks) for embed in chosen]
        )

    def spaces(self, rows: vectors.Floats, fit: Fit, answers: Answers) -> list[Space]:
        """The vectors in which ``answers`` were found, and who asks there: ``rows`` themselves, or those by the matrix
        that each half's photos taught the other half."""
        if answers.taken is None:
            return [(rows, np.arange(len(rows)))]
        sides, made = self.half if self.catalog.known_share >= _MOSTLY else self.fold, []
        mine, labels, seen = _in_fewest_dimensions(rows), self.sample.labels, np.asarray(rows.any(axis=1))
        for side in (0, 1):
            teaches = np.flatnonzero((sides != side) & (labels >= 0) & seen)
            codes = np.unique(labels[teaches], return_inverse=True)[1]
            kinds = fit(mine[teaches], codes.astype(np.int64), rows.shape[1])
            embed = next(islice(kinds, answers.taken[side], None))
            made.append((np.where(seen[:, None], embed(mine), np.float32(0)), np.flatnonzero(sides == side)))
        return made

    def ask(self, asking: vectors.Floats, index: vectors.Floats, asks: Ints) -> Floats:
        """As every query is asked, of the whole sample: ``asking`` and ``index``, (N, K), are vectors of its photos."""
        return self._ask(index, np.arange(len(index)), asks, asking)

    def nearest(self, spaces: Sequence[Space], at: int, count: int) -> list[tuple[int, bool]]:
        """What the photo at place ``at`` finds first in ``spaces``: ``count`` places, and whether each is right.

        A photo without a vector finds nothing.
        """
        rows = next(rows for rows, asks in spaces if at in asks)
        if not rows[at].any():
            return []
        near = rows @ rows[at]
        near[self.sample.products == self.sample.products[at] if self.tags else at] = -np.inf
        labels = self.sample.labels
        return [(int(other), bool(labels[other] == labels[at])) for other in nearest_first(near[None], count)[0]]

    def _by_share(self, answers: Callable[[Ints], Floats]) -> Answers:
        by_share = np.full((len(SHARES), len(self.sample.ids)), np.nan)
        for row, groups in zip(by_share, self.groups, strict=True):
            for group in groups:
                row[group] = answers(group)
        return Answers(by_share)

    def _ask(
        self, rows: vectors.Floats, group: Ints, asks: Ints | None = None, asking: vectors.Floats | None = None
    ) -> Floats:
        """The figure of the queries ``asks``, places in ``group``, (Q,): mMP@5 in search; for categories, whether the
        nearest photo of another product has the query's. ``asking``: the queries' vectors, where they are others."""
        labels, products = self.sample.labels[group], self.sample.products[group]
        asks = np.arange(len(group)) if asks is None else asks
        parts = [asks[first : first + _BLOCK] for first in range(0, len(asks), _BLOCK)]
        asking = rows if asking is None else asking
        blocks = [self._ask_block(asking[part] @ rows.T, rows, labels, products, part) for part in parts]
        return np.concatenate(blocks or [np.zeros(0)])

    def _ask_block(
        self, near: vectors.Floats, rows: vectors.Floats, labels: Ints, products: Ints, asks: Ints
    ) -> Floats:
        near[np.arange(len(asks)), asks] = -np.inf
        same = (labels[None, :] == labels[asks, None]) & (labels[asks, None] >= 0)
        same[np.arange(len(asks)), asks] = False
        if self.tags:
            own = products[None, :] == products[asks, None]
            near[own], same[own] = -np.inf, False
        depth = min(MMP_DEPTH, len(labels) - 1)
        hits = np.take_along_axis(same, nearest_first(near, depth), axis=1)
        figures = per_query(hits, same.sum(1))
        values = figures["mR@1" if self.tags else f"mMP@{depth}"]
        unseen = ~rows[asks].any(axis=1) & ~np.isnan(values)  # a photo without a vector finds nothing
        return np.where(unseen, 0.0, values)


def _along_line(doublings: float, mean: float, slope: float, span: int, count: int) -> float:
    """By how many doublings along its line, of ``slope`` at ``mean``, the mean of ``count`` figures gets where it does
    along the logistic curve through it and what it was ``span`` doublings before.

    Log-odds are those with half a query more on either side, so that they are finite where all queries are right.
    """
    if abs(slope) < _NOISE:
        return doublings
    shares = (np.clip([mean, mean - span * slope], 0, 1) * count + 0.5) / (count + 1)
    odds = np.log(shares) - np.log1p(-shares)
    moved = 1 / (1 + np.exp(-odds[0] - doublings * (odds[0] - odds[1]) / span))
    return float((moved - shares[0]) * (count + 1) / count / slope)


def _in_fewest_dimensions(rows: vectors.Floats) -> vectors.Floats:
    """``rows``, (N, D), by a basis of what they span, (N, min(N, D)): what is learned from them takes N * N then."""
    if len(rows) >= rows.shape[1]:
        return rows
    basis, _ = np.linalg.qr(rows.T)
    return np.asarray(rows @ basis)
