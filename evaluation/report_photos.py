"""The report's photos: queries with their nearest ones, as thumbnails inside the page."""

import base64
from functools import lru_cache
from typing import Any

from evaluation import thumbnails
from vitrine import images, lake
from vitrine.lake import quote
from vitrine.settings import Settings

THUMBNAIL = 160  # pixels, the longest side
NEIGHBOURS = 5
QUERIES = 8  # typical ones, and as many of the worst
ENCODERS = 3  # with 6 photos a query that is 3 * 2 * 8 * 6 thumbnails at most

Row = dict[str, Any]


def galleries(settings: Settings, here: str, main: Row) -> list[Row]:
    """Typical and worst queries of the serving encoder and the best others, by the protocol of ``main``.

    ``main`` is a group of ``report``'s metrics; ``here`` the SQL condition that holds for the data set's rows.
    """
    _thumbnail.cache_clear()  # photos may have changed since the last page
    ranked = sorted(main["encoders"], key=lambda e: not e["serves"])
    result = []
    for entry in ranked[:ENCODERS]:
        keys = {n: entry[n] for n in ("encoder_version", "catalog_version", "query_split", "index_split")}
        keys["relevant"] = main["relevant"]
        where = " AND ".join([here, "n_relevant > 0", *(f"{n} = {quote(v)}" for n, v in keys.items())])
        # By hash: spread over the catalog, and the same queries for every encoder.
        typical = _queries(settings, where, "md5(query_id)", 5 * QUERIES)
        worst = _queries(settings, f"{where} AND {_score()} < 1", "score, nearest DESC, query_id", QUERIES)
        photos = _photos(settings, here, [*typical, *worst])
        chosen = {"typical": _spread(typical, photos)[:QUERIES], "worst": worst}
        boards = {name: [_board(settings, query, photos) for query in some] for name, some in chosen.items()}
        if typical:
            result.append({**entry, **boards})
    return result


def _spread(queries: list[Row], photos: dict[str, Row]) -> list[Row]:
    """``queries`` with one of each product first."""
    seen: set[str] = set()
    firsts: list[Row] = []
    others: list[Row] = []
    for query in queries:
        product = photos.get(query["query_id"], {}).get("product_id", "")
        (others if product in seen else firsts).append(query)
        seen.add(product)
    return firsts + others


def _score() -> str:
    """A query's share of relevant photos in its first min(5, n_relevant): what mMP@5 is the mean of."""
    hit = "CASE WHEN n_relevant >= {0} AND coalesce(relevance[{0}], false) THEN 1.0 ELSE 0.0 END"
    hits = " + ".join(hit.format(rank) for rank in range(1, NEIGHBOURS + 1))
    return f"(({hits}) / least(n_relevant, {NEIGHBOURS}))"


def _queries(settings: Settings, where: str, order: str, most: int) -> list[Row]:
    firsts = ", ".join(f"array_slice({c}, 1, {NEIGHBOURS}) AS {c}" for c in ("neighbours", "similarities", "relevance"))
    return lake.rows(
        settings,
        f"SELECT query_id, n_relevant, {_score()} AS score, coalesce(similarities[1], 0) AS nearest, {firsts} "
        f"FROM query_results WHERE {where} ORDER BY {order} LIMIT {most}",
    )


def _photos(settings: Settings, here: str, queries: list[Row]) -> dict[str, Row]:
    wanted = {q["query_id"] for q in queries} | {n for q in queries for n in q["neighbours"]}
    if not wanted:
        return {}
    listed = ", ".join(quote(image_id) for image_id in sorted(wanted))
    columns = "image_id, product_id, category, uri"
    found = lake.rows(settings, f"SELECT {columns} FROM catalog WHERE {here} AND image_id IN ({listed})")
    return {row["image_id"]: row for row in found}


def _board(settings: Settings, query: Row, photos: dict[str, Row]) -> Row:
    """A query, its photo and those of its neighbours, ready to be shown."""
    near = zip(query["neighbours"], query["similarities"], query["relevance"], strict=True)
    return {
        **query,
        "photo": _photo(settings, query["query_id"], photos),
        "near": [
            {**_photo(settings, image_id, photos), "similarity": similarity, "right": bool(right)}
            for image_id, similarity, right in near
        ],
    }


def _photo(settings: Settings, image_id: str, photos: dict[str, Row]) -> Row:
    row = photos.get(image_id)
    if row is None:
        gone = {"image_id": image_id, "product_id": image_id, "category": None}
        return {**gone, "data": None, "fault": "no longer in the catalog"}
    data, fault = _thumbnail(row["uri"], settings.max_pixels)
    return {**row, "data": data, "fault": fault}


@lru_cache(maxsize=512)
def _thumbnail(uri: str, max_pixels: int) -> tuple[str | None, str | None]:
    """A data: URI of the photo as a small JPEG, or why there is none."""
    try:
        small = thumbnails.draw(images.read(uri), THUMBNAIL, max_pixels)
    except images.ImageError as error:
        return None, f"{error.code}: {error}"
    return "data:image/jpeg;base64," + base64.b64encode(small).decode(), None
