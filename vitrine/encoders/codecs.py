"""Codecs: how vectors are made shorter, by a linear part and a quantiser, fitted to the vectors of an index alone.

- **Linear part**: centred on the mean; then nothing, a random rotation, or principal components (and a rotation within
  them, which spreads their variance evenly, as iterative quantisation starts from: Gong and Lazebnik, CVPR 2011).
- **Quantiser**, a dimension at a time: fp16; int8 and 4 bits, uniform between clipped percentiles; 1 bit, the sign
  times the dimension's mean size (XNOR-Net's scale, Rastegari et al. 2016).

Queries go through the linear part and stay in floats: the distance is asymmetric (Jégou et al., PAMI 2011). NumPy
alone, the same every time.
"""

from collections.abc import Iterator
from dataclasses import dataclass

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
    """One of ``BITS``."""

    @property
    def name(self) -> str:
        return self.quantiser if self.linear.name == "as it is" else f"{self.linear.name}, {self.quantiser}"

    @property
    def bytes(self) -> int:
        """Of a vector."""
        return -(-self.linear.dim * BITS[self.quantiser] // 8)

    def decoded(self, vectors: Floats) -> Floats:
        """What is left of ``vectors``, (N, D), once they were encoded: float32 (N, K)."""
        return quantised(self.linear.apply(vectors), self.quantiser)


def quantised(rows: Floats, quantiser: str) -> Floats:
    """``rows``, float32 (N, K), encoded and decoded."""
    if quantiser == "float32":
        return rows
    if quantiser == "fp16":
        return rows.astype(np.float16).astype(np.float32)
    if quantiser == "1 bit":
        return np.where(rows > 0, 1, -1).astype(np.float32) * np.abs(rows).mean(0)
    clipped = _CLIPPED[quantiser]
    low, high = np.percentile(rows, [clipped, 100 - clipped], axis=0).astype(np.float32)
    step = np.maximum(high - low, 1e-12) / (2 ** BITS[quantiser] - 1)
    return np.asarray(low + step * np.round((np.clip(rows, low, high) - low) / step), np.float32)


def tried(index: Floats, dims: tuple[int, ...]) -> Iterator[Codec]:
    """The codecs that are worth a try on ``index``, float32 (N, D): every linear part of ``linear_parts``, with what
    goes with it."""
    for linear in linear_parts(index, dims):
        of_components = _OF_ROTATED if linear.name.endswith("rotated") else _OF_COMPONENTS
        for quantiser in _QUANTISERS.get(linear.name, of_components):
            yield Codec(linear, quantiser)


def linear_parts(index: Floats, dims: tuple[int, ...]) -> list[LinearPart]:
    """All that are tried on ``index``, float32 (N, D): as it is, centred, rotated, and ``dims`` components each also
    rotated; components that the vectors do not have are left out."""
    width = index.shape[1]
    mean = index.mean(0, dtype=np.float64)
    centred = mean.astype(np.float32)
    parts = [
        LinearPart("as it is", np.zeros(width, np.float32), None),
        LinearPart("centred", centred, None),
        LinearPart("centred and rotated", centred, _rotation(width)),
    ]
    components = _components(index, mean)
    for dim in dims:
        if dim < width and dim < len(index):
            chosen = components[:, :dim].astype(np.float32)
            parts.append(LinearPart(f"PCA {dim}", centred, chosen))
            parts.append(LinearPart(f"PCA {dim} rotated", centred, chosen @ _rotation(dim)))
    return parts


def _components(index: Floats, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Principal directions as columns, (D, D), the one of the greatest variance first."""
    second = np.zeros((index.shape[1],) * 2)
    for first in range(0, len(index), 8192):
        block = index[first : first + 8192].astype(np.float64)
        second += block.T @ block
    _, vectors = np.linalg.eigh(second / len(index) - np.outer(mean, mean))
    return np.asarray(vectors[:, ::-1])


def _rotation(width: int) -> Floats:
    """A random orthogonal matrix, (width, width), the same every time."""
    drawn = np.random.default_rng(_SEED).normal(size=(width, width))
    q, r = np.linalg.qr(drawn)
    return np.asarray(q * np.sign(np.diag(r)), np.float32)  # uniform over rotations (Mezzadri 2007)
