"""How few bytes the chosen encoder's vectors may have, asked of the sample: each codec is held against them in full.

As in ``evaluation.compression``: the index is encoded and decoded, queries stay in floats, and what is surely not worse
beyond the margin is good enough, all codecs sharing one chance of a mistake (Bonferroni). Bounds are the race's, which
take equal answers of few products for the little that they prove. Codecs are fitted to the sample, its own index.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.advice.measure import Questions, Space
from evaluation.advice.race import Floats, clustered_mean
from evaluation.advice.sample import Ints
from vitrine import vectors
from vitrine.encoders.codecs import Codec, tried

DIMS = (128, 64, 32)
CONFIDENCE = 0.95
_TAIL = 0.025


@dataclass(frozen=True)
class Shorter:
    """The fewest bytes that are good enough."""

    codec: str
    bytes: int
    full_bytes: int
    change: float
    """Of the figure, to vectors in full."""
    low: float
    high: float
    """The 95 % interval of ``change``."""


def shortest(questions: Questions, spaces: Sequence[Space], margin: float) -> Shorter | None:
    """The codec of the fewest bytes that surely loses no more than ``margin``; None where that is shown of none."""
    products = questions.sample.products[np.concatenate([asks for _, asks in spaces])]
    full = np.concatenate([questions.ask(rows, rows, asks) for rows, asks in spaces])
    if np.isnan(full).all():
        return None
    whole = 4 * spaces[0][0].shape[1]
    changes = [
        (size, name, clustered_mean(values - full, products, bounded=1.0))
        for name, size, values in _answers(questions, spaces)
        if size < whole
    ]
    chance = (1 - CONFIDENCE) / max(1, len(changes))
    shown = [(size, -change.value, name, change) for size, name, change in changes if change.lower(chance) > -margin]
    if not shown:
        return None
    size, _, name, change = min(shown, key=lambda each: each[:3])
    bounds = (round(each, 5) for each in (change.value, change.lower(_TAIL), change.upper(_TAIL)))
    return Shorter(name, size, whole, *bounds)


def _answers(questions: Questions, spaces: Sequence[Space]) -> Iterator[tuple[str, int, Floats]]:
    """Each codec's name, bytes and the figures of all queries; a codec that one of the spaces has not is left out."""
    for codecs in zip(*(tried(rows, DIMS) for rows, _ in spaces), strict=False):
        if len({codec.name for codec in codecs}) == 1:
            values = [_asked(questions, codec, *space) for codec, space in zip(codecs, spaces, strict=True)]
            yield codecs[0].name, codecs[0].bytes, np.concatenate(values)


def _asked(questions: Questions, codec: Codec, rows: vectors.Floats, asks: Ints) -> Floats:
    """A photo without a vector has none in fewer bytes either."""
    seen = np.asarray(rows.any(axis=1))[:, None]
    asking, index = (np.where(seen, made, np.float32(0)) for made in (codec.linear.apply(rows), codec.decoded(rows)))
    return questions.ask(asking, index, asks)
