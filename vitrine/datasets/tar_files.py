"""The members of a tar file, one after the other: read where they lie, never written to the paths that they name.

A tar file is somebody else's. What a header may make a reader take into memory is bounded, links and devices are names
without content, and a file that is damaged or cut off is a fault, where Python's own reader would end without a word.
"""

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vitrine.datasets.columns import TableFault
from vitrine.datasets.packed import unpacked
from vitrine.locations import Location

_CHUNK = 1 << 20
"""The most that is read at once, so also of a header."""
_FAULTS = (tarfile.TarError, zlib.error, OSError, EOFError, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Member:
    """A file of the archive, or the name of something else."""

    name: str
    size: int
    is_file: bool
    """Is it a file with content of its own: no link, device or sparse file?"""
    _info: tarfile.TarInfo
    _file: "_Bounded"

    def data(self) -> bytes:
        """Its content; to be asked for before the next member is.

        Raises:
            TableFault: the archive ends within.
        """
        self._file.seek(self._info.offset_data)
        parts, left = [], self.size
        while left:
            part = self._file.read(min(left, _CHUNK))
            if not part:
                raise TableFault(f"it ends within {self.name[:200]!r}: it was cut off")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


class _Bounded:
    """A file of which no one reads more than ``_CHUNK`` at once."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.last = b""
        """What was read last."""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _CHUNK:
            raise TableFault(f"a header in it is of {size} bytes, and up to {_CHUNK} are read")
        with _said():
            self.last = self._file.read(size)
        return self.last

    def seek(self, place: int) -> int:
        with _said():
            return int(self._file.seek(place))

    def tell(self) -> int:
        return int(self._file.tell())


def members(location: Location) -> Iterator[Member]:
    """What the tar file at ``location`` has, packed by gzip or not, without its folders.

    Raises:
        TableFault: it is no tar file that can be read to its end.
    """
    with _opened(location) as file, tarfile.open(fileobj=file, mode="r:") as tar:  # type: ignore[call-overload]
        while (info := tar.next()) is not None:
            tar.members.clear()  # it would keep them all
            if info.size < 0:
                raise TableFault(f"the header of {info.name[:200]!r} says a size below zero")
            if not info.isdir():
                yield Member(info.name, info.size, info.isreg() and not info.issparse(), info, file)
        if len(file.last) != tarfile.BLOCKSIZE or file.last.strip(b"\0"):
            raise TableFault("it ends without the mark of its end, or is damaged: it was cut off, or copied badly")
        while rest := file.read(_CHUNK):
            if rest.strip(b"\0"):
                raise TableFault("something follows after its end: files that were joined are read one by one")


@contextmanager
def _opened(location: Location) -> Iterator[_Bounded]:
    with _said():
        system, path = location.open()
        with system.open_input_file(path) as file:
            yield _Bounded(unpacked(file))


@contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except _FAULTS as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise TableFault(f"it is no tar file that can be read to its end ({why})") from error
