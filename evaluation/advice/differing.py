"""Queries that two options of an advice answer differently: what each of them finds first, as pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from evaluation.advice.measure import Questions, Space
from evaluation.advice.race import Floats
from vitrine import thumbnails
from vitrine.plain_page import Gallery, Picture, Strip

MOST, NEAREST = 4, 5
"""Queries that either option answers better, each of another product; photos that each query finds."""
_SIDE = 160
"""Pixels."""


@dataclass(frozen=True)
class Side:
    """An option, the figure of each query, (N,), and the spaces in which they were found."""

    name: str
    values: Floats
    spaces: Sequence[Space]


def galleries(
    questions: Questions, ours: Side, theirs: Side, uris: Mapping[str, str], max_pixels: int
) -> list[Gallery]:
    """Queries that ``ours`` answers better, and those that ``theirs`` does, the greatest difference first.

    Args:
        uris: where each photo of the sample is read.
        max_pixels: the most that a photo may have.
    """

    thumbnail = cache(partial(thumbnails.inline, side=_SIDE, max_pixels=max_pixels))

    def picture(at: int, right: bool | None = None) -> Picture:
        name = questions.sample.ids[at]
        gone = None, "no longer in the catalog"
        data, fault = thumbnail(uris[name]) if name in uris else gone
        return Picture(data, name if data else f"{name}: {fault}", right)

    def strips(at: int) -> list[Strip]:
        made = [Strip(f"{questions.sample.ids[at]} is asked.", [picture(at)])]
        for side in (ours, theirs):
            found = [picture(*each) for each in questions.nearest(side.spaces, at, NEAREST)]
            made.append(Strip(f"{side.name} finds ({side.values[at]:.2f}):", found))
        return made

    pairs = ((ours, theirs), (theirs, ours))
    made = [
        (f"{better.name} answers better than {other.name}", _queries(questions, better.values - other.values))
        for better, other in pairs
    ]
    return [Gallery(title, [strip for at in queries for strip in strips(at)]) for title, queries in made if queries]


def _queries(questions: Questions, gaps: Floats) -> list[int]:
    """The places with the greatest of ``gaps`` above 0, one of each product."""
    first: dict[int, int] = {}
    for at in np.argsort(-np.nan_to_num(gaps), kind="stable"):
        if not gaps[at] > 0 or len(first) == MOST:
            break
        first.setdefault(int(questions.sample.products[at]), int(at))
    return list(first.values())
