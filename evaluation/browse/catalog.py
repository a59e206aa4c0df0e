"""A data set's photos in memory, and the encoders that embedded them."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from evaluation.browse.table_cache import TableVersions
from vitrine import facts, lake
from vitrine.errors import unknown
from vitrine.lake import matches
from vitrine.settings import Settings
from vitrine.tables import CATALOG

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
ANY: Mapping[str, str] = MappingProxyType({})
"""As labels: all photos."""
MOST_CHOICES = 2_000
"""Values that a page lists: an attribute of more is shown and not chosen by."""
Names = NDArray[np.object_]
"""(N,): names, None where there is none."""


@dataclass(frozen=True)
class CatalogPhoto:
    """One photo of the catalog."""

    image_id: str
    product_id: str
    category: str | None
    split: str | None
    uri: str
    content_sha256: str
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Catalog:
    """N photos, sorted by id; a position is a place in this order."""

    dataset: str
    ids: list[str]
    products: Names
    categories: Names
    splits: Names
    uris: list[str]
    contents: list[str]
    attributes: Mapping[str, Names] = field(default_factory=dict)
    """By name."""

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def positions(self) -> dict[str, int]:
        return {image_id: at for at, image_id in enumerate(self.ids)}

    def photo(self, at: int) -> CatalogPhoto:
        attributes = {name: values[at] for name, values in self.attributes.items() if values[at] is not None}
        labels = self.products[at], self.categories[at], self.splits[at]
        return CatalogPhoto(self.ids[at], *labels, self.uris[at], self.contents[at], attributes)

    def find(self, image_id: str) -> CatalogPhoto | None:
        at = self.positions.get(image_id)
        return None if at is None else self.photo(at)

    def label(self, label: str) -> Names:
        """Each photo's value of ``product_id``, ``category`` or an attribute, which may be one that none has."""
        known = {"product_id": self.products, "category": self.categories, **self.attributes}
        return known[label] if label in known else np.full(len(self), None)

    @cached_property
    def choices(self) -> dict[str, list[str]]:
        """The values that photos can be chosen by, sorted: of the category and of attributes."""
        every = {
            label: sorted({name for name in self.label(label) if name}) for label in ("category", *self.attributes)
        }
        return {label: values for label, values in every.items() if 0 < len(values) <= MOST_CHOICES}

    @cached_property
    def split_names(self) -> list[str]:
        return sorted({name for name in self.splits if name is not None})

    def within(self, labels: Mapping[str, str] = ANY, split: str = "") -> Mask:
        """(N,): the photos with these labels, and of a split; empty for any."""
        mask = np.ones(len(self), dtype=bool)
        for label, value in labels.items():
            mask &= self.label(label) == value
        if split:
            mask &= self.splits == split
        return mask

    def random(self, count: int, labels: Mapping[str, str] = ANY) -> list[CatalogPhoto]:
        """Up to ``count`` different photos with these labels."""
        positions = np.flatnonzero(self.within(labels))
        chosen = np.random.default_rng(secrets.randbits(64)).permutation(positions)[:count]
        return [self.photo(int(at)) for at in chosen]

    @cached_property
    def _searched(self) -> list[tuple[str, str]]:
        """Of each photo its id and its product's, both without the data set and in lower case."""
        start = len(self.dataset) + 1
        return [(i[start:].lower(), p[start:].lower()) for i, p in zip(self.ids, self.products, strict=True)]

    def like(self, text: str, most: int, labels: Mapping[str, str] = ANY) -> list[CatalogPhoto]:
        """Up to ``most`` photos whose id, or product's id, holds ``text``; those that begin with it first."""
        asked = text.strip().lower().removeprefix(f"{self.dataset}/")
        if not asked:
            return []
        mask = self.within(labels)
        hits = [at for at, names in enumerate(self._searched) if mask[at] and any(asked in name for name in names)]
        hits.sort(key=lambda at: not any(name.startswith(asked) for name in self._searched[at]))
        return [self.photo(at) for at in hits[:most]]


def read_catalog(settings: Settings, at: TableVersions, dataset: str) -> Catalog:
    """The catalog of ``dataset`` as of ``at``.

    Raises:
        UserError: it holds no photo.
    """
    columns = "image_id, product_id, category, split, uri, content_sha256, attributes"
    sql = f"SELECT {columns} FROM {CATALOG.name} WHERE {matches(dataset=dataset)} ORDER BY image_id"
    rows = lake.query(settings, sql, at)
    if not rows.num_rows:
        raise unknown("data set", dataset, facts.datasets(settings))
    names = {column: rows.column(column).to_pylist() for column in rows.column_names}
    return Catalog(
        dataset,
        names["image_id"],
        np.array(names["product_id"], dtype=object),
        np.array(names["category"], dtype=object),
        np.array(names["split"], dtype=object),
        names["uri"],
        names["content_sha256"],
        _by_name([dict(said or ()) for said in names["attributes"]]),
    )


def _by_name(said: list[dict[str, str]]) -> dict[str, Names]:
    """Each attribute that a photo has, by name: (N,) values, None where a photo has none."""
    names = sorted({name for each in said for name in each})
    return {name: np.array([each.get(name) for each in said], dtype=object) for name in names}


@dataclass(frozen=True)
class Candidate:
    """An encoder version that has vectors of a data set."""

    encoder: str
    encoder_version: str
    family: str
    strategy: str
    dim: int
    photos: int
    serves: bool


@dataclass(frozen=True)
class Candidates:
    """What is shown side by side: what serves first, then the newest version of each encoder."""

    shown: list[Candidate]
    left_off: int
    """Versions that were asked for and are too many to be shown."""


def read_candidates(
    settings: Settings, at: TableVersions, dataset: str, *, asked: tuple[str, ...] = (), most: int = 6
) -> Candidates:
    """The versions of ``asked`` (encoders' names, or versions; none: all) that embedded ``dataset``.

    Of an encoder the newest version alone, unless another one serves or is asked for by itself.
    """
    where = matches(dataset=dataset)
    counted = f"SELECT encoder_version, count(*) AS photos FROM embeddings WHERE {where} GROUP BY encoder_version"
    columns = "e.encoder, e.encoder_version, e.family, e.strategy, e.dim, n.photos"
    sql = f"SELECT {columns} FROM encoders e JOIN ({counted}) n USING (encoder_version) ORDER BY e.created_at DESC"
    serving = facts.serving_set(settings, dataset)
    served = serving.encoder_version if serving else None
    kept: list[Candidate] = []
    for row in lake.query(settings, sql, at).to_pylist():
        candidate = Candidate(**row, serves=row["encoder_version"] == served)
        named = candidate.encoder_version in asked
        if asked and not named and candidate.encoder not in asked:
            continue
        if named or candidate.serves or all(candidate.encoder != other.encoder for other in kept):
            kept.append(candidate)
    kept.sort(key=lambda candidate: not candidate.serves)
    return Candidates(kept[:most], max(0, len(kept) - most))
