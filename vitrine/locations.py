"""Where a folder or file is: text from outside becomes a ``Location`` once, and escapes are made and read here alone.

A path is what the file system says it is, to the last character. A URI spells ``%`` as ``%25``, ``?`` as ``%3F`` and
``#`` as ``%23``; blanks and letters of any language stay as they are. A ``file:`` URI has neither query nor fragment,
and no URI of a photo has a fragment: what stands there unescaped is part of a name.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, unquote_to_bytes

from vitrine import s3
from vitrine.errors import UserError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://|file:/", re.IGNORECASE)
_REMOTE = re.compile(r"(?P<root>[^:]+://[^/?#]*)/*(?P<path>[^?]*)(?P<query>\?.*)?", re.DOTALL)
_QUERY = re.compile(r"\?[\w.-]+=[^&]*(&[\w.-]+=[^&]*)*")
_GOOGLE, _GOOGLE_SECONDS = re.compile("gc?s://"), 30
"""Arrow would try for 15 minutes to reach a store of Google's that has no credentials here."""
_SECRET = re.compile(r"[^:]+://[^/?#@]*:[^/?#@]*@")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Location:
    """A folder or a file, here or in a store that Arrow's file systems open."""

    text: str
    """A path, or a URI: as the tables' ``uri`` columns have it."""

    @classmethod
    def given(cls, source: str, start: Path | None = None) -> Location:
        """What a caller named: a URI, or a path from ``start`` (left out: the current folder).

        Raises:
            UserError: it has a control character or a password in it, or is no URI that can be read.
        """
        check_printable(source, "source")
        if _SECRET.match(source):
            raise UserError(
                "bad source: its URI holds a password or key, which would stand in tables: credentials come from the "
                "environment, as AWS's own programs have them"
            )
        if is_uri(source):
            location = cls(s3.plain(source.rstrip("/")))
            try:
                location._place  # noqa: B018
            except ValueError as error:
                raise UserError(f"bad source {source!r}: {error}") from None
            return location
        return cls(str(((start or Path.cwd()) / expanded(source)).resolve()))

    def __truediv__(self, name: str) -> Location:
        """What is called ``name`` in this folder; ``name`` may have several parts."""
        if not is_uri(self.text):
            return Location(f"{self.text}/{name}")
        escaped = _escaped(name)
        if self.is_local:
            return Location(f"{self.text}/{escaped}")
        folder, mark, query = self.text.partition("?")
        return Location(f"{folder}/{escaped}{mark}{query}")

    @property
    def is_local(self) -> bool:
        return not is_uri(self.text) or self.text.lower().startswith("file:")

    @property
    def local_path(self) -> str:
        """The path of a local one.

        Raises:
            ValueError: a ``file:`` URI of another host.
        """
        if not is_uri(self.text):
            return self.text
        rest = self.text[len("file:") :]
        if rest.startswith("//"):
            host, slash, rest = rest[2:].partition("/")
            if host.lower() not in ("", "localhost"):
                raise ValueError("the file: URI names another host")
            rest = slash + rest
        return os.fsdecode(unquote_to_bytes(os.fsencode(rest)))

    @property
    def remote_parts(self) -> tuple[str, str]:
        """Of one that is not local: the URI of its store, and the path there.

        Raises:
            ValueError: it is no URI that can be read.
        """
        parts = _REMOTE.fullmatch(self.text)
        if parts is None:
            raise ValueError("not a URI that can be read")
        query = parts["query"] or ""
        if query and not _QUERY.fullmatch(query):
            raise ValueError("a ? in a URI starts its query of name=value: in a name it is spelled %3F")
        return f"{parts['root']}/{query}", unquote(parts["path"], errors="surrogateescape")

    @property
    def hadoop(self) -> str:
        """As Spark's readers take it: a path, or a URI without any escape.

        Raises:
            ValueError: as ``local_path`` and ``remote_parts``.
        """
        if self.is_local:
            return self.local_path
        root, path = self.remote_parts
        return f"{root.partition('?')[0]}{path}"

    @property
    def parent(self) -> tuple[Location, str]:
        """The folder that it is in, and its name there, without escapes."""
        text, mark, query = (self.text, "", "") if self.is_local else self.text.partition("?")
        folder, _, name = text.rpartition("/")
        return Location(f"{folder}{mark}{query}"), unquote(name) if is_uri(self.text) else name

    def open(self) -> tuple[FileSystem, str]:
        """Arrow's file system that has it, and its path there.

        Raises:
            ValueError, OSError, pyarrow.ArrowException: there is none.
        """
        from pyarrow.fs import LocalFileSystem

        if self.is_local:
            return LocalFileSystem(), self.local_path
        root, path = self.remote_parts
        system, base = filesystem(root)
        return system, f"{base.rstrip('/')}/{path}".rstrip("/")

    def is_same(self, other: Location) -> bool:
        """Is it the same place, however it is spelled?"""
        if self.text == other.text or self.is_local != other.is_local:
            return self.text == other.text
        try:
            return self._place == other._place
        except ValueError:
            return False

    @property
    def _place(self) -> tuple[str, ...]:
        return (self.local_path,) if self.is_local else self.remote_parts


@functools.lru_cache(maxsize=32)  # a new one for each picture would look up credentials and region each time
def filesystem(root: str) -> tuple[FileSystem, str]:
    """Arrow's file system of a store's URI, and the path there that the URI names."""
    from pyarrow.fs import FileSystem

    if _GOOGLE.match(root) and "retry_limit_seconds=" not in root:
        root += f"{'&' if '?' in root else '?'}retry_limit_seconds={_GOOGLE_SECONDS}"
    system, base = FileSystem.from_uri(s3.plain(root))
    return system, base


def expanded(path: str | Path) -> Path:
    """``path`` with the user's home in the place of a leading ``~/``; ``~name`` is a name."""
    return Path(path).expanduser() if str(path) == "~" or str(path).startswith("~/") else Path(path)


def sqlite_url(path: Path) -> str:
    """SQLAlchemy's URL of a file."""
    escaped = re.sub("[%?]", lambda match: quote(match[0]), str(path))
    # Of a URL of the short spelling, MLflow makes the folder that it names with its escapes.
    return f"sqlite{'' if escaped == str(path) else '+pysqlite'}:///{escaped}"


def _escaped(name: str) -> str:
    return re.sub(r"[%?#]", lambda match: quote(match[0]), name)


def is_uri(text: str) -> bool:
    """Is it a URI rather than a path?"""
    return _URI.match(text) is not None


def check_printable(text: str, what: str) -> None:
    """Raises UserError where ``text`` has a line break or another control character in it."""
    if _CONTROL.search(text):
        raise UserError(f"bad {what} {text!r}: a name with a line break or another control character is not taken")
