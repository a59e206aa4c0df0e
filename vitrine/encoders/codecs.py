"""Codecs: how vectors are made shorter, by a linear part and a quantiser, fitted to the vectors of an index alone.

- **Linear part**: centred on the mean; then nothing, a random rotation, or principal components (and a rotation within
  them, which spreads their variance evenly, as iterative quantisation starts from: Gong and Lazebnik, CVPR 2011).
  Components are kept as they are, or half-whitened: each divided by the square root of its standard deviation, which
  is half of what whitening does (PCA whitening with shrinkage: Mukundan et al., IJCV 2019, arXiv 1811.11147).
- **Quantiser**, a dimension at a time: fp16; int8 and 4 bits, uniform between clipped percentiles; 1 bit, the sign
  times the dimension's mean size (XNOR-Net's scale, Rastegari et al. 2016). Or a part of the dimensions at a time:
  product quantisation (Jégou et al., PAMI 2011), ``PQ m``: m parts, each the nearest of 256 centroids, a byte.
  Principal components are allotted to its parts so that each has the same product of variances (the parametric solution
  of optimised product quantisation: Ge et al., PAMI 2014).
- **Second pass**, where there is one: what the first codec finds first is ranked again by a longer one.

Queries go through the linear part and stay in floats: the distance is asymmetric (ibid.). NumPy, and Faiss for
centroids; the same every time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from vitrine.vectors import Floats

BITS = {"float32": 32, "fp16": 16, "int8": 8, "4 bits": 4, "1 bit": 1}
_CLIPPED = {"int8": 0.1, "4 bits": 0.3}
"""Percent of the values, at either end, that are clipped."""
_SEED = 0
_QUANTISERS = {
    "as it is": ("fp16", "int8", "4 bits", "1 bit"),
    "centred": ("1 bit",),
    "centred and rotated": ("4 bits", "1 bit"),
}
# Few bits a dimension need equal variances, which the rotation gives.
_OF_COMPONENTS, _OF_ROTATED = ("float32", "int8"), ("4 bits", "1 bit")
_PQ, _CENTROIDS = "PQ ", 256
_PARTS = (64, 40, 32, 20, 16, 10)
"""Of product quantisation: those that have two dimensions or more each."""
_MOST_PARTED = 256
"""Components that are parted at most: more have hardly any variance."""
_WHITENED = {"": 0.0, " half-whitened": 0.25}
"""What is said of components, and by which power of its variance each is divided; 0.5 would be whitening."""
_NO_VARIANCE = 1e-9
"""Relative to the greatest: what is below is rounding."""
CANDIDATES = 100
"""What a first pass leaves for the second."""


@dataclass(frozen=True)
class LinearPart:
    """Centring and a matrix."""

    name: str
    mean: Floats
    """(D,): taken off."""
    weight: Floats | None
    """(D, K); None: as it is."""

    @property
    def dim(self) -> int:
        return int(self.mean.shape[0] if self.weight is None else self.weight.shape[1])

    def apply(self, vectors: Floats) -> Floats:
        """(N, D) to (N, K) of unit length, float32; a row without direction stays all zero."""
        moved = vectors - self.mean
        if self.weight is not None:
            moved = moved @ self.weight
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        return np.asarray(moved / np.maximum(lengths, 1e-30), np.float32)


@dataclass(frozen=True)
class Codec:
    """A linear part and a quantiser, which is fitted to what is encoded."""

    linear: LinearPart
    quantiser: str
    """One of ``BITS``, or ``PQ m``."""
    again: "Codec | None" = None
    """The second pass: by what the first ``CANDIDATES`` are ranked again."""

    @property
    def name(self) -> str:
        own = self.quantiser if self.linear.name == "as it is" else f"{self.linear.name}, {self.quantiser}"
        return f"{own}; {CANDIDATES} again by {self.again.name}" if self.again else own

    @property
    def searched_bytes(self) -> int:
        """Of a vector, what the first pass goes through."""
        parts = parts_of(self.quantiser)
        return parts if parts else -(-self.linear.dim * BITS[self.quantiser] // 8)

    @property
    def bytes(self) -> int:
        """Of a vector, of both passes."""
        return self.searched_bytes + (self.again.bytes if self.again else 0)

    def decoded(self, vectors: Floats) -> Floats:
        """What is left of ``vectors``, (N, D), once they were encoded: float32 (N, K)."""
        return quantised(self.linear.apply(vectors), self.quantiser)


def parts_of(quantiser: str) -> int:
    """How many parts product quantisation has; 0 of another quantiser."""
    return int(quantiser.removeprefix(_PQ)) if quantiser.startswith(_PQ) else 0


def quantised(rows: Floats, quantiser: str) -> Floats:
    """``rows``, float32 (N, K), encoded and decoded.

    Raises:
        ValueError: product quantisation of fewer rows than it has centroids.
    """
    if parts := parts_of(quantiser):
        if len(rows) < _CENTROIDS:
            raise ValueError(f"{quantiser} needs {_CENTROIDS} rows or more, not {len(rows)}")
        product: Any = faiss.ProductQuantizer(rows.shape[1], parts, 8)
        product.cp.min_points_per_centroid = 1  # it would warn of each part
        product.train(rows)
        return np.asarray(product.decode(product.compute_codes(rows)), np.float32)
    if quantiser == "float32":
        return rows
    if quantiser == "fp16":
        return rows.astype(np.float16).astype(np.float32)
    if quantiser == "1 bit":
        return np.where(rows > 0, 1, -1).astype(np.float32) * np.abs(rows).mean(0)
    levels = Levels.of(rows, quantiser)
    return levels.low + levels.step * levels.codes(rows)


@dataclass(frozen=True)
class Levels:
    """The levels of each dimension, uniform between clipped percentiles."""

    low: Floats
    """(K,)."""
    high: Floats
    """(K,)."""
    step: Floats
    """(K,): from one level to the next."""

    @classmethod
    def of(cls, rows: Floats, quantiser: str) -> Self:
        """Of ``rows``, (N, K), by int8 or 4 bits."""
        clipped = _CLIPPED[quantiser]
        low, high = np.percentile(rows, [clipped, 100 - clipped], axis=0).astype(np.float32)
        return cls(low, high, np.asarray(np.maximum(high - low, 1e-12) / (2 ** BITS[quantiser] - 1), np.float32))

    def codes(self, rows: Floats) -> Floats:
        """Which level each number of ``rows``, (N, K), has, from 0 on: whole numbers in float32."""
        return np.asarray(np.round((np.clip(rows, self.low, self.high) - self.low) / self.step), np.float32)


def as_it_is(dim: int) -> LinearPart:
    """The linear part that leaves vectors, (N, dim), as they are."""
    return LinearPart("as it is", np.zeros(dim, np.float32), None)


def tried(index: Floats, dims: tuple[int, ...]) -> Iterator[Codec]:
    """The codecs that are worth a try on ``index``, float32 (N, D): every linear part of ``linear_parts``, with what
    goes with it; product quantisation, where there are enough vectors; and one bit with a second pass by int8."""
    components = _Components.of(index)
    parts = linear_parts(index, dims, components)
    for linear in parts:
        of_components = _OF_ROTATED if linear.name.endswith("rotated") else _OF_COMPONENTS
        for quantiser in _QUANTISERS.get(linear.name, of_components):
            yield Codec(linear, quantiser)
    if len(index) >= _CENTROIDS:
        yield from _product_quantised(index, parts[1], components)
    by_name = {linear.name: linear for linear in parts}
    in_full = Codec(by_name["as it is"], "int8")
    yield Codec(by_name["centred and rotated"], "1 bit", in_full)
    if most := max((dim for dim in dims if f"PCA {dim}" in by_name), default=None):
        for kind in _WHITENED:
            name = f"PCA {most}{kind}"
            yield Codec(by_name[f"{name} rotated"], "1 bit", Codec(by_name[name], "int8"))


def _product_quantised(index: Floats, centred: LinearPart, components: "_Components") -> Iterator[Codec]:
    """Components allotted to as many parts as may be, and, at the most parts, the dimensions as they come."""
    width = index.shape[1]
    most = min(width, _MOST_PARTED, len(index) - 1)
    if whole := [parts for parts in _PARTS if width % parts == 0 and width >= 2 * parts]:
        yield Codec(centred, f"{_PQ}{whole[0]}")
    for parts in _PARTS:
        dim = most - most % parts  # all have as many
        if dim >= 2 * parts:
            for kind, power in _WHITENED.items():
                order = allotted(components.variances[:dim] ** (1 - 2 * power), parts)
                chosen = components.first(dim, power)[:, order].astype(np.float32)
                yield Codec(LinearPart(f"PCA {dim}{kind} allotted", centred.mean, chosen), f"{_PQ}{parts}")


def allotted(variances: NDArray[np.float64], parts: int) -> list[int]:
    """The order of components, (D,), that gives each of ``parts`` as many, and as nearly as may be the same product of
    ``variances``: the greatest left goes to the part of the least product so far (Ge et al., PAMI 2014, 4.2)."""
    size, logs = len(variances) // parts, np.log(np.maximum(variances, 1e-12 * variances.max()))
    logs = logs - logs.min() + 1e-9  # all above 0, so that a part's product grows
    held: list[list[int]] = [[] for _ in range(parts)]
    for component in np.argsort(-logs, kind="stable").tolist():
        free = [part for part in held if len(part) < size]
        min(free, key=lambda part: sum(logs[at] for at in part)).append(component)
    return [component for part in held for component in part]


def linear_parts(index: Floats, dims: tuple[int, ...], components: "_Components | None" = None) -> list[LinearPart]:
    """All that are tried on ``index``, float32 (N, D): as it is, centred, rotated, and ``dims`` components, as they are
    and half-whitened, each also rotated; components that the vectors do not have are left out."""
    width = index.shape[1]
    mean = index.mean(0, dtype=np.float64)
    centred = mean.astype(np.float32)
    parts = [
        as_it_is(width),
        LinearPart("centred", centred, None),
        LinearPart("centred and rotated", centred, _rotation(width)),
    ]
    components = components or _Components.of(index)
    for dim in dims:
        if dim < width and dim < len(index):
            for kind, power in _WHITENED.items():
                chosen = components.first(dim, power).astype(np.float32)
                parts.append(LinearPart(f"PCA {dim}{kind}", centred, chosen))
                parts.append(LinearPart(f"PCA {dim}{kind} rotated", centred, chosen @ _rotation(dim)))
    return parts


@dataclass(frozen=True)
class _Components:
    """Principal components, the one of the greatest variance first."""

    directions: NDArray[np.float64]
    """(D, D), as columns."""
    variances: NDArray[np.float64]
    """(D,): each above 0."""

    @classmethod
    def of(cls, index: Floats) -> Self:
        mean = index.mean(0, dtype=np.float64)
        second = np.zeros((index.shape[1],) * 2)
        for first in range(0, len(index), 8192):
            block = index[first : first + 8192].astype(np.float64)
            second += block.T @ block
        values, vectors = np.linalg.eigh(second / len(index) - np.outer(mean, mean))
        variances = np.maximum(values[::-1], 1e-12 * max(float(values[-1]), 1e-30))
        return cls(np.asarray(vectors[:, ::-1]), variances)

    def first(self, dim: int, power: float) -> NDArray[np.float64]:
        """The first ``dim`` as columns, (D, dim), each divided by its variance, relative to the greatest, to ``power``.
        Where it is, one without variance is all zero: nothing in the index lies there, and a query that does would be
        told by it alone."""
        relative = self.variances[:dim] / self.variances[0]
        scale = np.where((power == 0) | (relative > _NO_VARIANCE), relative**-power, 0.0)
        return np.asarray(self.directions[:, :dim] * scale)


def _rotation(width: int) -> Floats:
    """A random orthogonal matrix, (width, width), the same every time."""
    drawn = np.random.default_rng(_SEED).normal(size=(width, width))
    q, r = np.linalg.qr(drawn)
    return np.asarray(q * np.sign(np.diag(r)), np.float32)  # uniform over rotations (Mezzadri 2007)
