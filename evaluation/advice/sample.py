"""What is asked: a sample of whole products, the first ones by the hash of their ids, so that each holds the smaller.

A catalog that can tell no encoder from another is refused in one sentence.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrine import facts, lake, photo_store
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError
from vitrine.names import LEARNED_SPLIT
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS
from vitrine.vectors import Floats, matrix

Ints = NDArray[np.int64]
FEWEST = 10
"""Products, or classes of tags, with two photos or more, below which nothing can be told."""
_END = "g"
"""Above every hexadecimal digest."""
_HASH = "encode(sha256(product_id), 'hex')"
SEARCH, TAGGING, COST = "search", "tagging", "cost"


@dataclass(frozen=True)
class Catalog:
    """What there is to ask about."""

    dataset: str
    photos: int
    products: int
    asked: int
    """Products with two photos or more."""
    label: str
    """``product_id`` or ``category``: what has to be found, or told."""
    known_share: float
    """Of what will be asked, the photos of products that tuning learned from."""
    learnable: bool = True
    """Has it photos of the split ``train``, which tuning learns from?"""

    @property
    def asking(self) -> int:
        """Products whose photos have a right answer: with another photo of the product, or a category."""
        return self.asked if self.label == "product_id" else self.products


@dataclass(frozen=True)
class Sample:
    """The photos of the products whose ids' hash is below ``limit``, in the order of their ids."""

    limit: str
    ids: list[str]
    products: Ints
    """(N,), numbered in the order of their hashes."""
    labels: Ints
    """(N,), -1 where there is none."""
    whole: bool
    """Is it all of the catalog?"""

    @property
    def where(self) -> str:
        """SQL on the catalog's rows."""
        return f"{_HASH} < {lake.quote(self.limit)}"

    @property
    def product_count(self) -> int:
        return int(self.products.max()) + 1


def catalog(settings: Settings, dataset: str, use: str) -> Catalog:
    """What ``dataset`` has to ask about.

    Raises:
        UserError: so little, or so labelled, that no encoder can be told from another.
    """
    here = lake.matches(dataset=dataset)
    labelled = f"NOT ({facts.lacks_label('product_id', dataset)})"
    by_product = (
        f"SELECT product_id, count(*) AS n, count(category) AS categories, {labelled} AS labelled "
        f"FROM {CATALOG.name} WHERE {here} GROUP BY product_id"
    )
    row = lake.rows(
        settings,
        "SELECT coalesce(sum(n), 0) AS photos, coalesce(sum(CASE WHEN labelled THEN 1 ELSE 0 END), 0) AS products, "
        "coalesce(sum(CASE WHEN labelled AND n > 1 THEN 1 ELSE 0 END), 0) AS asked, "
        f"coalesce(sum(categories), 0) AS categories FROM ({by_product})",
    )[0]
    photos, products, asked = int(row["photos"]), int(row["products"]), int(row["asked"])
    label = "category" if use == TAGGING and row["categories"] else "product_id"
    _check(dataset, photos, products, asked)
    if label == "category":
        _check_categories(settings, dataset)
    known_share = _known_share(settings, dataset) if label != "category" else 0
    trains = lake.matches(dataset=dataset, split=LEARNED_SPLIT)
    learnable = bool(lake.rows(settings, f"SELECT image_id FROM {CATALOG.name} WHERE {trains} LIMIT 1"))
    return Catalog(dataset, photos, products, asked, label, known_share, learnable)


def _check(dataset: str, photos: int, products: int, asked: int) -> None:
    """
    Raises:
        UserError: too few photos can be found again.
    """
    needs = f"advice needs {FEWEST} products with two photos or more"
    if not photos:
        raise UserError(f"data set {dataset!r} holds no photo: there is nothing to try an encoder on")
    if not products:
        raise UserError(
            f"no photo of {dataset!r} has a product_id: nothing says which photos belong together, and so which "
            f"encoder finds them; {needs}"
        )
    if products == 1:
        raise UserError(
            f"all {photos} photos of {dataset!r} are of one product: whatever is found is right, so no encoder can be "
            f"told from another; {needs}"
        )
    if not asked:
        raise UserError(
            f"each of the {products} products of {dataset!r} has one photo: none can be found again; {needs}"
        )
    if asked < FEWEST:
        raise UserError(
            f"{dataset!r} has {photos} photos, of {asked} products with two or more: too few to tell encoders apart; "
            f"{needs}"
        )


def _check_categories(settings: Settings, dataset: str) -> None:
    """
    Raises:
        UserError: there is nothing to tell apart.
    """
    here = lake.matches(dataset=dataset)
    names = lake.rows(
        settings, f"SELECT DISTINCT category FROM {CATALOG.name} WHERE {here} AND category IS NOT NULL LIMIT 2"
    )
    if len(names) == 1:
        raise UserError(
            f"all photos of {dataset!r} with a category have one, {names[0]['category']!r}: whatever is told is right, "
            "so no encoder can be told from another; give --use search, or photos of a second category"
        )


def _known_share(settings: Settings, dataset: str) -> float:
    """As the split that is reported has it; a half without one."""
    rows = f"SELECT split, product_id AS label FROM {CATALOG.name} WHERE {lake.matches(dataset=dataset)}"
    shares = (facts.known_share(settings, rows, split) for split in facts.REPORTED)
    return next((share for share in shares if share is not None), 0.5)


def draw(settings: Settings, catalog: Catalog, products: int | None, photos: int) -> Sample:
    """The first products by the hash of their ids: up to ``products`` that have two photos or more (None: all), and up
    to ``photos`` photos where those are of ``FEWEST`` products at least."""
    here = f"{lake.matches(dataset=catalog.dataset)} AND NOT ({facts.lacks_label('product_id', catalog.dataset)})"
    counted = f"SELECT {_HASH} AS h, count(*) AS n FROM {CATALOG.name} WHERE {here} GROUP BY product_id"
    running = (
        "SELECT h, sum(n) OVER before AS photos, sum(CASE WHEN n > 1 THEN 1 ELSE 0 END) OVER before AS asked "
        f"FROM ({counted}) WINDOW before AS (ORDER BY h ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    )
    beyond = [f"(photos > {photos} AND asked > {FEWEST})"] + ([f"asked > {products}"] if products else [])
    first = lake.rows(settings, f"SELECT min(h) AS h FROM ({running}) WHERE {' OR '.join(beyond)}")[0]["h"]
    limit = first or _END
    rows = lake.query(
        settings,
        f"SELECT image_id, product_id, {_HASH} AS h, {catalog.label} AS label FROM {CATALOG.name} "
        f"WHERE {here} AND {_HASH} < {lake.quote(limit)} ORDER BY image_id",
    )
    _, numbers = np.unique(rows.column("h").to_numpy(zero_copy_only=False), return_inverse=True)
    labels = rows.column("label").combine_chunks().dictionary_encode().indices.fill_null(-1)
    return Sample(
        limit,
        rows.column("image_id").to_pylist(),
        numbers.astype(np.int64),
        labels.to_numpy(zero_copy_only=False).astype(np.int64),
        first is None,
    )


def vectors(settings: Settings, encoded: EncodedSet, sample: Sample) -> Floats:
    """The sample's vectors, float32 (N, D); zeros of a photo that the encoder, or a part of it, could not embed.

    Those of joined encoders follow each other, each of unit length.
    """
    parts = [_part(settings, part, sample) for part in encoded.parts]
    if len(parts) == 1:
        return parts[0]
    if not all(part.size for part in parts):
        return np.zeros((0, 0), np.float32)
    seen = np.logical_and.reduce([part.any(axis=1) for part in parts])
    return np.where(seen[:, None], np.concatenate(parts, axis=1), np.float32(0))


def _part(settings: Settings, encoded: EncodedSet, sample: Sample) -> Floats:
    at = {name: number for number, name in enumerate(sample.ids)}
    where = f"{encoded.where} AND {sample.where}"
    made = np.zeros((0, 0), np.float32)
    for batch in lake.stream(settings, f"SELECT image_id, embedding FROM {EMBEDDINGS.name} WHERE {where}"):
        rows = matrix(batch.column("embedding"))
        if not made.size:
            made = np.zeros((len(at), rows.shape[1]), np.float32)
        places = [(number, at[name]) for number, name in enumerate(batch.column("image_id").to_pylist()) if name in at]
        if places:
            here, there = np.array(places).T
            made[there] = rows[here]
    return made


def uris(settings: Settings, dataset: str, sample: Sample) -> dict[str, str]:
    """Where the sample's photos can be read, by their ids."""
    where, uri = f"{lake.matches(dataset=dataset)} AND {sample.where}", photo_store.readable_in_sql(settings)
    rows = lake.rows(settings, f"SELECT image_id, {uri} AS uri FROM {CATALOG.name} WHERE {where} ORDER BY image_id")
    return {row["image_id"]: row["uri"] for row in rows}


def missing(settings: Settings, encoded: EncodedSet, sample: Sample) -> int:
    """Photos of the sample that the encoder has no current vector of, and did not refuse."""
    states = facts.photo_states(encoded, listed=("product_id",))
    sql = f"SELECT count(*) AS n FROM ({states}) WHERE state IN ('missing', 'stale') AND NOT refused AND {sample.where}"
    return int(lake.rows(settings, sql)[0]["n"])
