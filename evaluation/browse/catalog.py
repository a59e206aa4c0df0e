"""A data set's photos in memory, and the encoders that embedded them."""

import secrets
from dataclasses import dataclass
from functools import cached_property

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

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def positions(self) -> dict[str, int]:
        return {image_id: at for at, image_id in enumerate(self.ids)}

    def photo(self, at: int) -> CatalogPhoto:
        return CatalogPhoto(
            self.ids[at], self.products[at], self.categories[at], self.splits[at], self.uris[at], self.contents[at]
        )

    def find(self, image_id: str) -> CatalogPhoto | None:
        at = self.positions.get(image_id)
        return None if at is None else self.photo(at)

    @cached_property
    def category_names(self) -> list[str]:
        return sorted({name for name in self.categories if name is not None})

    @cached_property
    def split_names(self) -> list[str]:
        return sorted({name for name in self.splits if name is not None})

    def within(self, category: str = "", split: str = "") -> Mask:
        """(N,): the photos of a category and a split; empty for any."""
        mask = np.ones(len(self), dtype=bool)
        if category:
            mask &= self.categories == category
        if split:
            mask &= self.splits == split
        return mask

    def random(self, count: int, category: str = "") -> list[CatalogPhoto]:
        """Up to ``count`` different photos of a category."""
        positions = np.flatnonzero(self.within(category))
        chosen = np.random.default_rng(secrets.randbits(64)).permutation(positions)[:count]
        return [self.photo(int(at)) for at in chosen]

    @cached_property
    def _searched(self) -> list[tuple[str, str]]:
        """Of each photo its id and its product's, both without the data set and in lower case."""
        start = len(self.dataset) + 1
        return [(i[start:].lower(), p[start:].lower()) for i, p in zip(self.ids, self.products, strict=True)]

    def like(self, text: str, most: int, category: str = "") -> list[CatalogPhoto]:
        """Up to ``most`` photos whose id, or product's id, holds ``text``; those that begin with it first."""
        asked = text.strip().lower().removeprefix(f"{self.dataset}/")
        if not asked:
            return []
        mask = self.within(category)
        hits = [at for at, names in enumerate(self._searched) if mask[at] and any(asked in name for name in names)]
        hits.sort(key=lambda at: not any(name.startswith(asked) for name in self._searched[at]))
        return [self.photo(at) for at in hits[:most]]


def read_catalog(settings: Settings, at: TableVersions, dataset: str) -> Catalog:
    """The catalog of ``dataset`` as of ``at``.

    Raises:
        UserError: it holds no photo.
    """
    columns = "image_id, product_id, category, split, uri, content_sha256"
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
    )


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
