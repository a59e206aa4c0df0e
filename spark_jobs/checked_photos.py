"""Listed photos against what the catalog knows of them: the facts of each, or why it cannot be read. In workers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from vitrine import photo_files, photo_store
from vitrine.images import ImageError
from vitrine.locations import Location

_TEXTS = ("image_id", "product_id", "category", "split", "uri", "code", "reason", "kept_sha256")
LISTED = pa.schema([*((name, pa.string()) for name in _TEXTS), ("attributes", pa.map_(pa.string(), pa.string()))])
OF_FILE = ("size", "modified_at", "content_sha256", "width", "height")
KNOWN = ("uri", *OF_FILE, "product_id", "category", "split", "attributes")
CHECKED = pa.schema(
    [
        *LISTED,
        ("size", pa.int64()),
        ("modified_at", pa.timestamp("us", tz="UTC")),
        ("content_sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("was_known", pa.bool_()),
        ("same_content", pa.bool_()),
        ("same_row", pa.bool_()),
        # Of photos behind links, null of others:
        ("host", pa.string()),
        ("asked", pa.bool_()),
        ("not_modified", pa.bool_()),
        ("fetched_bytes", pa.int64()),
        ("may_stay", pa.bool_()),  # known, and not to be had for a fault that may be its host's
        ("etag", pa.string()),
        ("last_modified", pa.string()),
        ("asked_at", pa.timestamp("us", tz="UTC")),
        ("says_more", pa.bool_()),  # of the link than its row of ``links``
    ]
)


def checker(max_pixels: int, store: str) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """``check_row`` of every row of a batch."""

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield pa.RecordBatch.from_pylist(
                [check_row(row, max_pixels, store) for row in batch.to_pylist()], schema=CHECKED
            )

    return rows


def check_row(row: dict[str, Any], max_pixels: int, store: str = "") -> dict[str, Any]:
    """One listed photo with what the catalog knew of it -> its row of facts; an unchanged file is not read. What the
    listing has put into the photo store ``store`` is read there."""
    known = known_of(row)
    if row["code"] is not None:
        return refused_row(row, row["code"], row["reason"])
    try:
        if kept := row["kept_sha256"]:
            if (kept, row["uri"]) == (known["content_sha256"], known["uri"]):
                return good_row(row, {name: known[name] for name in OF_FILE})
            return good_row(row, asdict(photo_files.check(photo_store.place(store, kept), max_pixels)))
        stat = photo_files.stat(row["uri"])
        is_same = was_known(known) and (stat.size, stat.modified_at) == (known["size"], known["modified_at"])
        if is_same and Location(row["uri"]).is_same(Location(known["uri"] or "")):
            return good_row(row, {name: known[name] for name in OF_FILE})
        return good_row(row, asdict(photo_files.check(row["uri"], max_pixels)))
    except ImageError as error:
        return refused_row(row, error.code, str(error))


def known_of(row: dict[str, Any]) -> dict[str, Any]:
    """What the catalog knew of a listed photo, by ``KNOWN``; None of one that is new."""
    return {name: row.get(f"known_{name}") for name in KNOWN}


def was_known(known: dict[str, Any]) -> bool:
    """Had the catalog the photo?"""
    return known["content_sha256"] is not None


def good_row(row: dict[str, Any], of_file: dict[str, Any]) -> dict[str, Any]:
    """The row of a photo that can be read, with ``OF_FILE`` of it."""
    known = known_of(row)
    result = _start(row) | of_file
    return result | {
        "same_content": of_file["content_sha256"] == known["content_sha256"],
        "same_row": all(result[name] == known[name] for name in KNOWN),
    }


def refused_row(row: dict[str, Any], code: str, reason: str) -> dict[str, Any]:
    """The row of a photo that cannot be read."""
    return _start(row) | {"code": code, "reason": reason, "same_content": False, "same_row": False}


def _start(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in LISTED.names} | {"was_known": was_known(known_of(row))}
