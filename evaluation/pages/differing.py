"""Queries that two ways answer differently: what each of them finds first, as pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrine import lake, photo_store, thumbnails
from vitrine.plain_page import Gallery, Picture, Strip
from vitrine.settings import Settings
from vitrine.tables import CATALOG

MOST, NEAREST = 4, 5
"""Queries that either way answers better, each of another product; photos that each query finds."""
_SIDE = 160
"""Pixels."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Side:
    """A way to answer: the figure of each photo as a query, and what it finds."""

    name: str
    values: Floats
    """(N,): NaN of a photo that asks nothing."""
    nearest: Callable[[int], Sequence[tuple[int, bool]]]
    """Of the photo at a place: the places of what it finds first, and whether each is right."""


@dataclass(frozen=True)
class Photos:
    """The photos that ask and are found."""

    name: Callable[[int], str]
    """The id of the photo at a place."""
    products: NDArray[Any]
    """(N,): a number for each product."""
    uris: Callable[[Sequence[str]], Mapping[str, str]]
    """Where those of these ids are read that are still there."""
    max_pixels: int
    """The most that a photo may have."""


def uris(settings: Settings, dataset: str, ids: Sequence[str]) -> dict[str, str]:
    """Where the photos of a data set can be read, by their ids."""
    where = f"{lake.matches(dataset=dataset)} AND image_id IN ({', '.join(map(lake.quote, ids))})"
    sql = f"SELECT image_id, {photo_store.readable_in_sql(settings)} AS uri FROM {CATALOG.name} WHERE {where}"
    return {row["image_id"]: row["uri"] for row in lake.rows(settings, sql)}


def galleries(photos: Photos, ours: Side, theirs: Side) -> list[Gallery]:
    """Queries that ``ours`` answers better, and those that ``theirs`` does, the greatest difference first."""
    chosen = [
        (f"{better.name} answers better than {other.name}", _queries(photos, better.values - other.values))
        for better, other in ((ours, theirs), (theirs, ours))
    ]
    found = {at: [side.nearest(at)[:NEAREST] for side in (ours, theirs)] for _, places in chosen for at in places}
    shown = {*found, *(place for sides in found.values() for side in sides for place, _ in side)}
    readable = photos.uris([photos.name(at) for at in sorted(shown)]) if shown else {}
    thumbnail = cache(partial(thumbnails.inline, side=_SIDE, max_pixels=photos.max_pixels))

    def picture(at: int, right: bool | None = None) -> Picture:
        name = photos.name(at)
        data, fault = thumbnail(readable[name]) if name in readable else (None, "no longer in the catalog")
        return Picture(data, name if data else f"{name}: {fault}", right)

    def strips(at: int) -> list[Strip]:
        made = [Strip(f"{photos.name(at)} is asked.", [picture(at)])]
        for side, places in zip((ours, theirs), found[at], strict=True):
            answered = [picture(*each) for each in places]
            made.append(Strip(f"{side.name} finds ({side.values[at]:.2f}):", answered))
        return made

    return [Gallery(title, [strip for at in places for strip in strips(at)]) for title, places in chosen if places]


def _queries(photos: Photos, gaps: Floats) -> list[int]:
    """The places with the greatest of ``gaps`` above 0, one of each product."""
    first: dict[int, int] = {}
    for at in np.argsort(-np.nan_to_num(gaps), kind="stable"):
        if not gaps[at] > 0 or len(first) == MOST:
            break
        first.setdefault(int(photos.products[at]), int(at))
    return list(first.values())
