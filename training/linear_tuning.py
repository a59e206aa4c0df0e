"""Linear tuning: a matrix on frozen embeddings in closed form, its kind and strength chosen on photos left aside.

``python -m training.linear_tuning FOLDER``: the process of ``training.tune``. All is computed from the classes' sums
and the rows' second moments, which are added up in one pass over the training set; no process holds its rows.

- ``discriminants``: regularised linear discriminant analysis (Friedman 1989; Hastie, Tibshirani and Friedman, The
  Elements of Statistical Learning, 4.3): whitened within classes, then projected onto what separates their means.
- ``ridge``: ridge regression to one-hot classes, one dimension a class (ibid., 4.2).
- ``whitening``: whitened within classes, all dimensions kept (within-class covariance normalisation, Hatch and Stolcke
  2006), for products that it never saw.

``strength`` is the shrinkage of the covariance towards a sphere of the same trace, as scikit-learn's
``shrunk_covariance`` has it. Vectors are centred on the training rows' mean.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize, special

from training.nearest_scores import mmp_by_query
from training.training_set import TRAIN, VALIDATION, first_rows, open_part
from training.tuning_process import RESULT, LinearTuningRequest, read_result, run
from vitrine import files
from vitrine.encoders import heads
from vitrine.tuning_sections import LinearSettings
from vitrine.vectors import matrix

Doubles = NDArray[np.float64]
Ints = NDArray[np.int32]
AS_IS = "as it is"
_DRAWS = 3
"""Halves of the classes that are learned from, to see how the others fare."""
_QUERIES, _INDEX, _BLOCK = 2000, 20_000, 8192


@dataclass(frozen=True)
class Moments:
    """What a closed form needs of N rows of D numbers in C classes."""

    second: Doubles
    """Sum of the rows' outer products, (D, D)."""
    sums: Doubles
    """Of each class's rows, (C, D)."""
    counts: Doubles
    """Rows of each class, (C,)."""

    @classmethod
    def of_rows(cls, x: NDArray[np.floating], y: NDArray[np.integer], classes: int) -> "Moments":
        """Those of the rows ``x``, (N, D), of the classes ``y``, (N,)."""
        rows, sums = x.astype(np.float64), np.zeros((classes, x.shape[1]))
        np.add.at(sums, y, rows)
        return cls(rows.T @ rows, sums, np.bincount(y, minlength=classes).astype(np.float64))

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.second + other.second, self.sums + other.sums, self.counts + other.counts)

    def of(self, known: NDArray[np.bool_], second: Doubles) -> "Moments":
        """Those of the classes ``known``, whose rows' outer products sum to ``second``."""
        return Moments(second, self.sums * known[:, None], self.counts * known)


@dataclass(frozen=True)
class Candidate:
    """One matrix, and what validation says of it: mMP@5, NaN where it was not asked."""

    kind: str
    strength: float
    weight: Doubles
    """(D, K): centred rows times it are the embedding, before it gets unit length."""
    mean: Doubles
    """Of the rows, (D,)."""
    known: float = np.nan
    """Photos of classes that were learned from, among the photos that were learned from."""
    new: float = np.nan
    """Photos of classes that were not learned from, among each other; the mean of ``_DRAWS`` draws."""

    def score(self, share: float) -> float:
        """``known`` and ``new``, weighed by the share of known products in what will be asked."""
        parts = [(share, self.known), (1 - share, self.new)]
        return sum(weight * value for weight, value in parts if weight)

    def embed(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Embeddings of unit length, (N, K), of (N, D), in the type of ``rows``."""
        embeddings = (rows - self.mean.astype(rows.dtype)) @ self.weight.astype(rows.dtype)
        return np.asarray(embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-30))

    def told(self, share: float) -> dict[str, Any]:
        scores = {"known": self.known, "new": self.new, "score": self.score(share)}
        asked = {name: None if np.isnan(value) else value for name, value in scores.items()}
        return {"kind": self.kind, "strength": self.strength, **asked}


def tune(folder: Path) -> dict[str, Any]:
    """Choose, fit, export; what ``result.json`` then says. A folder that has one is done."""
    if result := read_result(folder):
        return result
    request = LinearTuningRequest.read(folder)
    settings, share = LinearSettings(**request.settings), request.known_share
    started = time.monotonic()
    cells = Cells(request)
    summed = time.monotonic()
    candidates, as_is = _validated(cells, settings, request)
    best = max(candidates, key=lambda candidate: candidate.score(share))
    chosen = time.monotonic()
    judged = as_head(best, cells.all_of(TRAIN), request.classes)
    factor = scale(judged, request)
    # A validation part that is cut from the split train is learned from in the end; a split of its own is not.
    moments = cells.all_of(TRAIN, *([VALIDATION] if request.validation_from == TRAIN else []))
    fitted = as_head(next(solutions(moments, [best.kind], [best.strength])), moments, request.classes)
    weight, bias = (np.asarray(value * factor, np.float32) for value in fitted.classifier)
    heads.save(replace(fitted, classifier=(weight, bias)), folder)
    result = {
        "recipe": {"kind": best.kind, "strength": best.strength, "known_share": share},
        "val_score": best.score(share),
        "val_score_as_it_is": as_is.score(share),
        "val_accuracy": _accuracy(judged, request),
        "candidates": [candidate.told(share) for candidate in (as_is, *candidates)],
        "seconds": {
            "sums": round(summed - started, 3),
            "choice": round(chosen - summed, 3),
            "training": round(time.monotonic() - chosen, 3),
        },
    }
    files.write_json(folder / RESULT, result)
    return result


def estimate(folder: Path) -> dict[str, Any]:
    """What ``tune`` would take: a block of the rows and one decomposition are timed.

    Returns:
        ``training_seconds``, without the start.
    """
    request = LinearTuningRequest.read(folder)
    rows, _ = first_rows(request.training_set, TRAIN, _BLOCK)
    started = time.monotonic()
    second = rows.astype(np.float64).T @ rows.astype(np.float64)
    block = time.monotonic() - started
    linalg.eigh(second)
    decomposed = time.monotonic() - started - block
    blocks = sum(request.rows.values()) / max(len(rows), 1)
    tried = len(LinearSettings(**request.settings).strengths) * (_DRAWS + 1)
    return {"training_seconds": round(block * blocks + decomposed * (_DRAWS + 2 + tried / 2), 1)}


class Cells:
    """The moments of both parts, apart for the classes that are learned from in the same draws."""

    def __init__(self, request: LinearTuningRequest) -> None:
        count = len(request.classes)
        random = np.random.default_rng(request.seed)
        # With fewer classes, a half would hold one, and nothing to tell apart.
        draws = _DRAWS if count >= 4 else 0
        self.learned = np.array([random.permutation(count) < count // 2 for _ in range(draws)]).reshape(draws, count)
        self._cell = (self.learned.T @ (1 << np.arange(draws))).astype(np.int64) if draws else np.zeros(count, np.int64)
        self._parts = {part: self._add_up(request, part, 1 << draws) for part, rows in request.rows.items() if rows}

    def _add_up(self, request: LinearTuningRequest, part: str, cells: int) -> "tuple[Doubles, Moments]":
        seconds, sums = np.zeros((0, 0, 0)), np.zeros((0, 0))
        counts = np.zeros(len(request.classes))
        for batch in open_part(request.training_set, part).to_batches(
            columns=["embedding", "label"], batch_size=_BLOCK
        ):
            if not len(batch):
                continue
            x, y = matrix(batch["embedding"]).astype(np.float64), batch["label"].to_numpy()
            if not len(seconds):
                seconds = np.zeros((cells, x.shape[1], x.shape[1]))
                sums = np.zeros((len(counts), x.shape[1]))
            counts += np.bincount(y, minlength=len(counts))
            np.add.at(sums, y, x)
            for cell in np.unique(self._cell[y]):
                mine = x[self._cell[y] == cell]
                seconds[cell] += mine.T @ mine
        return seconds, Moments(seconds.sum(0), sums, counts)

    def all_of(self, *parts: str) -> Moments:
        moments = [self._parts[part][1] for part in parts if part in self._parts]
        return sum(moments[1:], moments[0])

    def draw(self, number: int) -> Moments:
        """Those of the training part's classes that are learned from in that draw."""
        seconds, moments = self._parts[TRAIN]
        inside = (np.arange(len(seconds)) >> number) & 1 == 1
        return moments.of(self.learned[number], seconds[inside].sum(0))


def solutions(moments: Moments, kinds: Sequence[str], strengths: Sequence[float]) -> Iterator[Candidate]:
    """A candidate for each kind and strength.

    Raises:
        ArithmeticError: no class has two rows, so nothing says how photos of one class differ.
    """
    counts, total = moments.counts, moments.counts.sum()
    present = counts > 0
    mean = moments.sums.sum(0) / total
    means = moments.sums[present] / counts[present, None]
    freedom = total - present.sum()
    if freedom < 1:
        raise ArithmeticError("every class has one photo: nothing says how photos of one class differ")
    within = (moments.second - (means * counts[present, None]).T @ means) / freedom
    between = np.sqrt(counts[present] / total)[:, None] * (means - mean)
    values, vectors = linalg.eigh(within)
    values = np.maximum(values, 0)
    if "ridge" in kinds:
        # The total covariance has a basis of its own, in which every strength is a division.
        total_values, total_vectors = linalg.eigh(moments.second / total - np.outer(mean, mean))
        towards = total_vectors.T @ ((moments.sums - counts[:, None] * mean).T / total)
    for strength in strengths:
        whiten = vectors / np.sqrt(_shrunk(values, strength))
        for kind in kinds:
            if kind == "whitening":
                weight = whiten
            elif kind == "ridge":
                weight = total_vectors @ (towards / _shrunk(np.maximum(total_values, 0), strength)[:, None])
            else:
                kept = min(int(present.sum()) - 1, len(mean))
                weight = whiten @ _axes(between @ whiten)[:, :kept]
            yield Candidate(kind, strength, weight, mean)


def _axes(rows: Doubles) -> Doubles:
    """The directions in which ``rows``, (N, D), reach farthest, as columns: (D, min(N, D))."""
    if len(rows) <= rows.shape[1]:
        return np.asarray(linalg.svd(rows, full_matrices=False)[2].T)
    return np.asarray(linalg.eigh(rows.T @ rows)[1][:, ::-1])  # far cheaper for many rows


def _shrunk(values: Doubles, strength: float) -> Doubles:
    """The eigenvalues of a covariance that is shrunk; tiny ones keep a direction from being divided by nothing."""
    return np.asarray((1 - strength) * values + strength * values.mean() + 1e-12 * max(values.max(), 1e-300))


def _validated(
    cells: Cells, settings: LinearSettings, request: LinearTuningRequest
) -> tuple[list[Candidate], Candidate]:
    """The candidates, and the encoder as it is, with their scores."""
    width = cells.all_of(TRAIN).second.shape[0]
    as_is = Candidate(AS_IS, 0.0, np.eye(width), np.zeros(width))
    # One dimension a class, for more classes than dimensions, would make vectors longer than they were.
    kinds = [kind for kind in settings.kinds if kind != "ridge" or len(request.classes) <= width]
    strengths = list(settings.strengths)
    index, queries = first_rows(request.training_set, TRAIN, _INDEX), _queries(request)
    share, can_ask = request.known_share, len(queries[1]) > 0
    candidates = list(solutions(cells.all_of(TRAIN), kinds, strengths))
    if can_ask and (share > 0 or not len(cells.learned)):
        candidates = [replace(each, known=_mmp(each, queries, index)) for each in candidates]
        as_is = replace(as_is, known=_mmp(as_is, queries, index))
    if len(cells.learned) and (share < 1 or not can_ask):
        draws = []
        for number, learned in enumerate(cells.learned):
            others = _of_classes(index, ~learned)
            tried = [as_is, *solutions(cells.draw(number), kinds, strengths)]
            draws.append([_mmp(each, others, None) for each in tried])
        first, *rest = np.nanmean(draws, axis=0)
        candidates = [replace(each, new=float(value)) for each, value in zip(candidates, rest, strict=True)]
        as_is = replace(as_is, new=float(first))
    return [_told(each, share) for each in candidates], _told(as_is, share)


def _told(candidate: Candidate, share: float) -> Candidate:
    """Where one of both figures cannot be had, the other stands for it."""
    known, new = candidate.known, candidate.new
    if np.isnan(known) and np.isnan(new):
        raise ArithmeticError("too few photos to choose by: every class needs two or more")
    if share < 1 and np.isnan(new):
        return replace(candidate, new=known)
    return replace(candidate, known=new) if share > 0 and np.isnan(known) else candidate


def _queries(request: LinearTuningRequest) -> tuple[NDArray[np.float32], Ints]:
    if not request.rows[VALIDATION]:
        return np.zeros((0, 1), np.float32), np.zeros(0, np.int32)
    return first_rows(request.training_set, VALIDATION, _QUERIES)


def _of_classes(rows: tuple[Any, Any], known: NDArray[np.bool_]) -> tuple[Any, Any]:
    mine = known[rows[1]]
    return rows[0][mine], rows[1][mine]


def _mmp(candidate: Candidate, queries: tuple[Any, Any], index: tuple[Any, Any] | None) -> float:
    """The mean mMP@5 of ``queries``, rows and classes, among ``index``; without one, among themselves, each without
    itself. NaN where no query has a right answer."""
    rows, classes = queries if index is None else index
    asked, truth = queries[0][:_QUERIES], queries[1][:_QUERIES]
    among = candidate.embed(rows)
    embedded = among[: len(truth)] if index is None else candidate.embed(asked)
    values = mmp_by_query(embedded, truth, among, classes, themselves=index is None)
    return float(np.nanmean(values)) if not np.isnan(values).all() else np.nan


def as_head(fitted: Candidate, moments: Moments, classes: list[str]) -> heads.Head:
    """The matrix as a head, and its classifier: the discriminants' own (each class a Gaussian of the same covariance),
    or ridge's."""
    counts = moments.counts
    layer = (fitted.weight.astype(np.float32), (-fitted.mean @ fitted.weight).astype(np.float32))
    if fitted.kind == "ridge":
        weight, bias = np.eye(len(counts)), counts / counts.sum()
    else:
        means = (moments.sums / np.maximum(counts, 1)[:, None] - fitted.mean) @ fitted.weight
        with np.errstate(divide="ignore"):
            bias = np.log(counts / counts.sum()) - (means**2).sum(1) / 2
        weight, bias = means.T, np.where(counts > 0, bias, -1e30)
    classifier = (weight.astype(np.float32), bias.astype(np.float32))
    return heads.Head((layer,), classifier, tuple(classes), activation="linear")


def scale(head: heads.Head, request: LinearTuningRequest) -> float:
    """``likeliest_scale`` by the validation part."""
    rows, classes = _queries(request)
    return likeliest_scale(head.logits(rows), classes) if len(classes) else 1.0


def likeliest_scale(scores: NDArray[np.floating], classes: NDArray[np.integer]) -> float:
    """The factor of logits, (N, C), at which the true classes, (N,), are likeliest (temperature scaling, Guo et al.
    2017, arXiv 1706.04599)."""
    logits = scores.astype(np.float64)

    def loss(power: float) -> float:
        scaled = logits * np.exp(power)
        right = scaled[np.arange(len(classes)), classes]
        return float((special.logsumexp(scaled, axis=1) - right).mean())

    return float(np.exp(optimize.minimize_scalar(loss, bounds=(-6, 6), method="bounded").x))


def _accuracy(head: heads.Head, request: LinearTuningRequest) -> float | None:
    rows, classes = _queries(request)
    return float((head.logits(rows).argmax(1) == classes).mean()) if len(classes) else None


if __name__ == "__main__":
    run(tune, estimate, sys.argv[1:])
