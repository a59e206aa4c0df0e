"""What two places hold differently: each difference by its name, counted, with a few ids, however large the catalog."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

SHOWN = 10
"""Ids kept of each difference."""

# A difference's name: what it means, and the step of ``vitrine check --repair`` that mends it, None where none can.
NAMES: dict[str, tuple[str, str | None]] = {
    "catalog.twice": ("photos that the catalog has more than once", "dedupe"),
    "photos.lost": ("photos whose copy the photo store lacks or has of another size: ingest keeps it again", None),
    "labels.missing": ("photos whose label now is not the last one in labels", "labels"),
    "quarantine.in_catalog": ("photos in the catalog that are in quarantine at stage ingest too", None),
    "quarantine.embedded": ("photos with a vector that are in quarantine at stage embed too", "embed"),
    "quarantine.left": ("photos in quarantine at stage embed that the catalog has not", "embed"),
    "encoders.missing": ("vectors of a version that encoders has not", "embed"),
    "embeddings.missing": ("photos of the catalog without a vector", "embed"),
    "embeddings.orphaned": ("vectors of photos that the catalog has not", "embed"),
    "embeddings.stale": ("vectors of older content", "embed"),
    "embeddings.relabelled": ("vectors with another product, category or split than the catalog's", "embed"),
    "embeddings.twice": ("photos with more than one vector of a version", "dedupe"),
    "embeddings.bad_vector": ("vectors of a wrong dimension or length, or with NaN", "vectors"),
    "products.missing": ("products without a vector", "products"),
    "products.too_many": ("vectors of products that have no photo with a vector", "products"),
    "products.other": ("products whose vector is not their photos' mean, or n_images not their number", "products"),
    "products.twice": ("products with more than one vector of a version", "dedupe"),
    "tags.twice": ("photos with more than one tag of a label", None),
    "tags.orphaned": ("tags of photos that the catalog has not, which vitrine tag takes away", None),
    "tags.unknown": ("tags by a classifier that classifiers has not", None),
    "online.missing": ("vectors that Feast's online store has not", "features"),
    "online.too_many": ("photos in Feast's online store that have no vector", "features"),
    "online.other": ("vectors or labels that Feast's online store has otherwise", "features"),
    "online.service": ("Feast's serving service is of another version than promotions say", "serving"),
    "milvus.missing": ("vectors that Milvus has not", "index"),
    "milvus.too_many": ("photos in Milvus that have no vector", "index"),
    "milvus.other": ("vectors or labels that Milvus has otherwise", "index"),
    "milvus.behind": ("changes that Milvus lacks; where it notes no version at all, every vector", "index"),
    "milvus.alias": ("Milvus's alias names another collection than promotions and settings say", "serving"),
    "promotions.unknown": ("the version that serves is none of encoders", None),
    "promotions.no_vectors": ("the version that serves has no vector", "embed"),
}


class Differences:
    """Those noticed so far, by name and by what they are of (an encoder version, a store)."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._ids: defaultdict[tuple[str, str], list[str]] = defaultdict(list)

    def add(self, name: str, of: str, ids: Iterable[str], count: int | None = None) -> None:
        """Count ``ids``, or ``count`` of which ``ids`` are some; nothing where there is none."""
        ids = list(ids)
        count = len(ids) if count is None else count
        if not count:
            return
        assert name in NAMES, name
        self._counts[name, of] += count
        self._ids[name, of] = sorted([*self._ids[name, of], *ids])[:SHOWN]

    def as_list(self) -> list[dict[str, Any]]:
        """An object a difference: ``name``, ``of``, ``count``, ``ids`` (up to SHOWN), ``what``, ``repair``."""
        return [
            {"name": name, "of": of, "count": count, "ids": self._ids[name, of], "what": NAMES[name][0]}
            | {"repair": NAMES[name][1]}
            for (name, of), count in sorted(self._counts.items())
        ]


def sentence(difference: dict[str, Any]) -> str:
    """A difference as one line."""
    of = f" of {difference['of']}" if difference["of"] else ""
    ids = ", ".join(map(repr, difference["ids"][:3]))
    some = f", e.g. {ids}" if ids else ""
    return f"{difference['name']}{of}: {difference['count']} {difference['what']}{some}"
