"""Copies of photos that cannot be read again by a uri that stays: kept once, by content, under ``HOME/photos`` or
beside the lake, in two levels by SHA-256.

The catalog keeps the uri that a photo came from; where its copy is follows from ``content_sha256``.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrine.links import is_link
from vitrine.locations import Location
from vitrine.settings import Settings

_INSIDE = "inside:"
LINKED = "lower({uri}) LIKE 'http://%' OR lower({uri}) LIKE 'https://%'"
"""The condition, in Spark's SQL and DataFusion's alike, that a uri is a link."""
KEPT = f"{LINKED} OR {{uri}} LIKE '{_INSIDE}%'"
"""The condition that the photo of a uri has a copy; ``is_kept`` in Python."""


def is_kept(uri: str) -> bool:
    """Is there a copy of the photo of this uri?"""
    return is_link(uri) or uri.startswith(_INSIDE)


def inside(table: str, image_id: str) -> str:
    """The uri of a photo that is bytes in a table: it says where it came from, and cannot be read by."""
    return f"{_INSIDE}{table}#{image_id}"


def place(root: str, content_sha256: str) -> str:
    """Where the copy of that content is; ``root`` is ``Settings.photos``."""
    return f"{root}/{content_sha256[:2]}/{content_sha256[2:4]}/{content_sha256}"


def readable(settings: Settings, uri: str, content_sha256: str) -> str:
    """What the photo is read by: its copy, or itself."""
    return place(settings.photos, content_sha256) if is_kept(uri) else uri


def readable_in_sql(settings: Settings, uri: str = "uri") -> str:
    """As ``readable``, of rows with ``content_sha256``, in Spark's SQL."""
    root = settings.photos.replace("'", "''")
    sha = "content_sha256"
    copy = f"concat('{root}/', substr({sha}, 1, 2), '/', substr({sha}, 3, 2), '/', {sha})"
    return f"CASE WHEN {KEPT.format(uri=uri)} THEN {copy} ELSE {uri} END"


def holds(root: str, content_sha256: str, size: int) -> bool:
    """Is there a whole copy of that content?"""
    location = Location(place(root, content_sha256))
    if location.is_local:
        path = Path(location.local_path)
        return path.is_file() and path.stat().st_size == size
    system, path_there = location.open()
    info = system.get_file_info(path_there)
    return bool(info.is_file and info.size == size)


def put(root: str, content_sha256: str, data: bytes) -> None:
    """Keep a copy of ``data``, whose SHA-256 that is; whole, or not at all."""
    if holds(root, content_sha256, len(data)):
        return
    location = Location(place(root, content_sha256))
    if location.is_local:
        path = Path(location.local_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{uuid.uuid4().hex}.tmp")  # threads of many processes may keep one content at once
        try:
            fresh.write_bytes(data)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
    else:
        system, path_there = location.open()
        with system.open_output_stream(path_there) as file:
            file.write(data)


@dataclass(frozen=True)
class Copy:
    """A file of the store: a photo's, or what a killed run left."""

    content_sha256: str
    """Its name."""
    size: int
    kept_at: float
    """Seconds since 1970."""
    path: str


def parts(settings: Settings) -> list[str]:
    """The first level of the store: two hexadecimal digits that contents begin with, sorted."""
    return sorted(info.base_name for info in _listed(settings.photos, recursive=False) if not info.is_file)


def copies(settings: Settings, part: str = "") -> Iterator[Copy]:
    """What the store has, or what it has of one of ``parts``."""
    for info in _listed(f"{settings.photos}/{part}".rstrip("/"), recursive=True):
        if info.is_file:
            yield Copy(info.base_name, info.size, (info.mtime_ns or 0) / 1e9, info.path)


def contents_in_sql(part: str) -> str:
    """The condition for the catalog's rows, of any data set, that have a copy in one of ``parts``."""
    return f"({KEPT.format(uri='uri')}) AND content_sha256 LIKE '{part}%'"


def _listed(root: str, *, recursive: bool) -> list[Any]:
    from pyarrow.fs import FileSelector

    system, path = Location(root).open()
    return list(system.get_file_info(FileSelector(path, recursive=recursive, allow_not_found=True)))


def remove(settings: Settings, path: str) -> None:
    """Take one file, by its ``Copy.path``, out of the store."""
    system, _ = Location(settings.photos).open()
    system.delete_file(path)
