"""Read the file of one photo, or say why not: at a path, a ``file:`` URI, or a URI that Arrow's file systems open.

A link is fetched as ``links`` does; who has the photo store asks there first.

Local files are opened without Arrow: a pipe or a device must not hang a worker, and a file's name may be any bytes.
Arrow is imported when the first remote file is read: who reads local ones does not wait for it.
"""

from __future__ import annotations

import hashlib
import os
import stat as file_modes
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from vitrine import images, links
from vitrine.images import DEFAULT_MAX_PIXELS, ImageError
from vitrine.locations import Location
from vitrine.locations import filesystem as _filesystem
from vitrine.setting_sections import SourceSettings

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

MAX_BYTES = 512 * 1024 * 1024
"""Of a file; larger ones are refused unread."""
MOST_UPLOAD_BYTES = 20 * 1024 * 1024
"""Of a photo that somebody sends, to be searched by."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Stat:
    """A file's size in bytes and when it was last changed (UTC, whole microseconds)."""

    size: int
    modified_at: datetime


@dataclass(frozen=True)
class Checked:
    """A picture that decodes; width and height as seen upright, sha256 of the file's bytes in hex."""

    size: int
    modified_at: datetime
    content_sha256: str
    width: int
    height: int


def stat(uri: str) -> Stat:
    """Size and modification time of the regular file at ``uri`` (a path, a ``file:`` URI or a remote URI).

    Raises ImageError: missing, unreadable.
    """
    try:
        location = Location(uri)
        return _local_stat(location.local_path) if location.is_local else _remote_file(location)[2]
    except ImageError:
        raise
    except Exception as error:
        raise _storage_error(error) from error


def read(uri: str, sources: SourceSettings = SourceSettings()) -> bytes:  # noqa: B008 - frozen
    """The bytes of the regular file at ``uri``; of an empty file, b"". A link is fetched as ``sources`` say.

    Raises ImageError: missing, unreadable, too_large (over MAX_BYTES, seen before reading), or of a link what
    ``links`` names.
    """
    return links.read(uri, sources) if links.is_link(uri) else _fetch(uri)[1]


def check(uri: str, max_pixels: int = DEFAULT_MAX_PIXELS) -> Checked:
    """Read the file once, hash it, and take it through all of images.decode(): what passes here decodes later.

    Raises ImageError with any of its codes.
    """
    facts, data = _fetch(uri)
    width, height = images.checked_size(data, max_pixels)
    return Checked(len(data), facts.modified_at, hashlib.sha256(data).hexdigest(), width, height)


def _local_stat(path: str | int) -> Stat:
    status = os.stat(path)  # noqa: PTH116 - it may be a descriptor, and Path("") would be the current folder
    if not file_modes.S_ISREG(status.st_mode):
        kind = "a directory" if file_modes.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise ImageError("unreadable", f"not a regular file but {kind}")
    return Stat(status.st_size, _time(status.st_mtime_ns))


def _time(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def _fetch(uri: str) -> tuple[Stat, bytes]:
    try:
        location = Location(uri)
        return _fetch_local(location.local_path) if location.is_local else _fetch_remote(location)
    except ImageError:
        raise
    except Exception as error:
        raise _storage_error(error) from error


def _fetch_local(path: str) -> tuple[Stat, bytes]:
    _local_stat(path)  # first, because opening a device can already do something
    # Without O_NONBLOCK, a pipe put there since would hang.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        facts = _local_stat(file.fileno())
        _check_bytes(facts.size)
        return facts, file.read(facts.size)


def _fetch_remote(location: Location) -> tuple[Stat, bytes]:
    filesystem, path, facts = _remote_file(location)
    _check_bytes(facts.size)
    with filesystem.open_input_file(path) as file:
        return facts, file.read(facts.size)


def _check_bytes(size: int) -> None:
    if size > MAX_BYTES:
        raise ImageError("too_large", f"{size} bytes, more than the limit of {MAX_BYTES}")


def _remote_file(location: Location) -> tuple[FileSystem, str, Stat]:
    from pyarrow.fs import FileType

    root, inner = location.remote_parts
    filesystem, base = _filesystem(root)
    path = f"{base.rstrip('/')}/{inner}"
    info = filesystem.get_file_info(path)
    if info.type == FileType.NotFound:
        raise ImageError("missing", "no such file")
    if info.type != FileType.File:
        raise ImageError("unreadable", "not a regular file")
    return filesystem, path, Stat(info.size, _time(info.mtime_ns or 0))


def _storage_error(error: Exception) -> ImageError:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return ImageError("missing", "no such file")
    if isinstance(error, PermissionError):
        return ImageError("unreadable", "permission denied")
    if isinstance(error, OSError) and error.errno:
        return ImageError("unreadable", os.strerror(error.errno).lower())
    return ImageError("unreadable", f"{type(error).__name__}: {images.without_paths(str(error))}")
