"""The report's photos: queries with their nearest ones, near-duplicates, quarantine; thumbnails inside the page.

Every photo is opened once a page at most, and no more than ``MOST_THUMBNAILS`` a data set.
"""

from functools import lru_cache

from evaluation.report.figures import Group, Row
from evaluation.report.paired import results_of
from vitrine import lake, photo_store, thumbnails
from vitrine.lake import matches, quote
from vitrine.retrieval_metrics import mmp_in_sql
from vitrine.settings import Settings

THUMBNAIL = 160  # pixels, the longest side
NEIGHBOURS = 5
TYPICAL, WORST, SIDE, PAIRS, QUARANTINED = 4, 6, 4, 8, 12
MOST_THUMBNAILS = (TYPICAL + WORST) * (1 + NEIGHBOURS) + 2 * SIDE * (1 + 2 * NEIGHBOURS) + 2 * PAIRS + QUARANTINED
_LOOKED_AT = 200  # of the nearest neighbours, for near-duplicates


def forget() -> None:
    """Photos may have changed since the last page."""
    _thumbnail.cache_clear()


def galleries(settings: Settings, group: Group) -> Row | None:
    """What people would see, by the encoder that the page looks at; None where it has no results of queries.

    ``encoder`` and ``other`` (None of one); ``ours`` and ``theirs``: queries that the one answers better than the
    other, the greatest difference first; ``typical`` and ``worst`` queries; ``copies``: see ``_copies``.
    """
    entry = group.leader
    others = [each for each in group.of_catalog(entry.catalog_version) if each is not entry]
    other = others[0] if others else None  # the best of them
    where = results_of(entry)
    # By hash: spread over the catalog, and the same queries for every encoder.
    typical = _queries(settings, where, "md5(query_id)", 5 * TYPICAL)
    if not typical:
        return None
    worst = _queries(settings, f"{where} AND {mmp_in_sql()} < 1", "score, nearest DESC, query_id", WORST)
    sides = _sides(settings, where, results_of(other)) if other else {"ours": [], "theirs": []}
    shown = [*typical, *worst, *sides["ours"], *sides["theirs"]]
    ids = {i for q in shown for i in (q["query_id"], *q["neighbours"], *q.get("others", []))}
    photos = _photos(settings, group.dataset, ids)
    chosen = {"typical": _spread(typical, photos)[:TYPICAL], "worst": worst, **sides}
    boards = {name: [_board(settings, query, photos) for query in some] for name, some in chosen.items()}
    return {"encoder": entry, "other": other, **boards, "copies": _copies(settings, group.dataset, where)}


def with_photos(settings: Settings, rows: list[Row]) -> list[Row]:
    """``rows`` of the quarantine, the first with ``data``: a thumbnail where the file can be opened after all."""
    pictured = []
    for at, row in enumerate(rows):
        data, fault = _thumbnail(row["uri"], settings.max_pixels) if at < QUARANTINED else (None, "")
        pictured.append({**row, "pictured": at < QUARANTINED, "data": data, "fault": fault})
    return pictured


def pictured(settings: Settings, dataset: str, rows: list[Row]) -> list[Row]:
    """``rows`` of an ``image_id`` each, with what the catalog has of it and its thumbnail."""
    photos = _photos(settings, dataset, {row["image_id"] for row in rows})
    return [row | _photo(settings, row["image_id"], photos) for row in rows]


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


# ---- queries ----


_NEAREST = ", ".join(
    f"array_slice({column}, 1, {NEIGHBOURS}) AS {column}" for column in ("neighbours", "similarities", "relevance")
)


def _queries(settings: Settings, where: str, order: str, most: int) -> list[Row]:
    return lake.rows(
        settings,
        f"SELECT query_id, n_relevant, {mmp_in_sql()} AS score, coalesce(similarities[1], 0) AS nearest, {_NEAREST} "
        f"FROM query_results WHERE {where} ORDER BY {order} LIMIT {most}",
    )


def _sides(settings: Settings, ours: str, theirs: str) -> dict[str, list[Row]]:
    """Queries that one encoder answers better than the other, either way."""

    def side(gap: str) -> list[Row]:
        columns = f"query_id, n_relevant, {mmp_in_sql()} AS score, {_NEAREST}"
        return lake.rows(
            settings,
            "SELECT a.*, b.score AS other_score, b.neighbours AS others, b.similarities AS other_similarities, "
            f"b.relevance AS other_relevance FROM (SELECT {columns} FROM query_results WHERE {ours}) AS a JOIN "
            f"(SELECT {columns} FROM query_results WHERE {theirs}) AS b ON a.query_id = b.query_id "
            f"WHERE {gap} > 0 ORDER BY {gap} DESC, md5(a.query_id) LIMIT {SIDE}",
        )

    return {"ours": side("(a.score - b.score)"), "theirs": side("(b.score - a.score)")}


def _photos(settings: Settings, dataset: str, wanted: set[str]) -> dict[str, Row]:
    """Rows of the catalog by image id; those that left it are lacking."""
    if not wanted:
        return {}
    where = f"{matches(dataset=dataset)} AND image_id IN ({', '.join(map(quote, sorted(wanted)))})"
    columns = "image_id, product_id, category, uri, content_sha256"
    return {row["image_id"]: row for row in lake.rows(settings, f"SELECT {columns} FROM catalog WHERE {where}")}


def _board(settings: Settings, query: Row, photos: dict[str, Row]) -> Row:
    """A query, its photo and those of its neighbours, ready to be shown."""

    def near(prefix: str, ids: list[str]) -> list[Row]:
        both = zip(ids, query[f"{prefix}similarities"], query[f"{prefix}relevance"], strict=True)
        return [
            {**_photo(settings, image_id, photos), "similarity": similarity, "right": bool(right)}
            for image_id, similarity, right in both
        ]

    board = {**query, "photo": _photo(settings, query["query_id"], photos), "near": near("", query["neighbours"])}
    if "others" in query:
        board["other_near"] = near("other_", query["others"])
    return board


# ---- near-duplicates ----


def _copies(settings: Settings, dataset: str, where: str) -> Row:
    """``pairs`` of photos that are nearest to each other, of different products first; each ``one``, ``other``,
    ``similarity``, ``same_product``, ``same_content``. ``equal``: how many photos of the catalog repeat another's
    content; ``contested``: how many contents are listed under two products or more."""
    pairs = lake.rows(
        settings,
        "SELECT query_id AS one, neighbours[1] AS other, similarities[1] AS similarity FROM query_results "
        f"WHERE {where} AND similarities[1] IS NOT NULL ORDER BY similarity DESC, one LIMIT {_LOOKED_AT}",
    )
    distinct = {tuple(sorted((pair["one"], pair["other"]))): pair for pair in reversed(pairs)}
    photos = _photos(settings, dataset, {image_id for pair in distinct for image_id in pair})
    rows = []
    for (one, other), pair in distinct.items():
        if one in photos and other in photos:
            same = {name: photos[one][name] == photos[other][name] for name in ("product_id", "content_sha256")}
            alike = {"same_product": same["product_id"], "same_content": same["content_sha256"]}
            rows.append({"ids": (one, other), "similarity": pair["similarity"], **alike})
    rows.sort(key=lambda row: (row["same_product"], -row["similarity"], row["ids"]))
    shown = [
        row | {side: _photo(settings, row["ids"][at], photos) for at, side in enumerate(("one", "other"))}
        for row in rows[:PAIRS]
    ]
    here = matches(dataset=dataset)
    equal = f"SELECT count(*) - count(DISTINCT content_sha256) AS n FROM catalog WHERE {here}"
    contested = (
        f"SELECT count(*) AS n FROM (SELECT content_sha256 FROM catalog WHERE {here} GROUP BY content_sha256 "
        "HAVING count(DISTINCT product_id) > 1) AS c"
    )
    counts = {name: lake.rows(settings, sql)[0]["n"] for name, sql in (("equal", equal), ("contested", contested))}
    return {"pairs": shown, **counts}


# ---- pictures ----


def _photo(settings: Settings, image_id: str, photos: dict[str, Row]) -> Row:
    row = photos.get(image_id)
    if row is None:
        gone = {"image_id": image_id, "product_id": image_id, "category": None}
        return {**gone, "data": None, "fault": "no longer in the catalog"}
    uri = photo_store.readable(settings, row["uri"], row["content_sha256"])
    data, fault = _thumbnail(uri, settings.max_pixels)
    return {**row, "data": data, "fault": fault}


@lru_cache(maxsize=4 * MOST_THUMBNAILS)
def _thumbnail(uri: str, max_pixels: int) -> tuple[str | None, str | None]:
    return thumbnails.inline(uri, THUMBNAIL, max_pixels)
