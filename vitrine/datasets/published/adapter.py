"""What the adapters of published data sets share: they read files in units, and count what these hold.

An adapter is a module with some constants and two functions: ``Adapter``. It reads the layout in which its data set was
published, unpacked into a local folder. Copies on a hub that keep the pictures as bytes in Parquet have to be unpacked
into that layout first. Whatever is not as published is one UserError that names file and line, before Spark starts.
"""

import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol, TextIO

from vitrine.datasets.photo import Photo
from vitrine.errors import UserError
from vitrine.locations import Location
from vitrine.settings import Settings

PHOTOS_A_UNIT = 5_000
ALL = "all"


class Count(NamedTuple):
    """How much there is of a split, or of ``ALL``; None where no source says."""

    photos: int | None
    classes: int | None
    """Different products."""

    def __str__(self) -> str:
        numbers = [(self.photos, "photos"), (self.classes, "classes")]
        return " of ".join(f"{number} {what}" for number, what in numbers if number is not None)


Counts = dict[str, Count]


def always(*paths: str) -> Callable[[Path], list[str]]:
    """``Adapter.parts`` of a data set that was published in one form."""
    return lambda root: list(paths)


class Adapter(Protocol):
    """A module that reads one published data set. Its parts are files or folders, each listed by itself."""

    TITLE: str
    ABOUT: str
    """The layout in one line."""
    OBTAIN: str
    """Where the data set is, and its licence, in one line."""
    PROTOCOL: tuple[str, str]
    """The splits of the queries and of the index when retrieval is measured; they may be one."""
    COUNTS: Counts
    FILES: tuple[str, ...]
    """Paths that have to be there beside the parts."""

    def parts(self, root: Path) -> list[str]:
        """Paths in ``root`` that hold the list of photos."""

    def rows(self, root: Path, part: str, start: int = 0, stop: int | None = None) -> Iterator[Photo]:
        """The photos of a part, from place ``start`` to before ``stop``; ``image_id`` is the published path."""


class Published:
    """The layout of an adapter. With ``allow_partial`` a source may hold more or less than what was published."""

    def __init__(self, adapter: Adapter, allow_partial: bool = False) -> None:
        self.adapter = adapter
        self.allow_partial = allow_partial
        self.ABOUT = f"{adapter.TITLE}: {adapter.ABOUT}"

    def units(self, settings: Settings, source: str) -> list[str]:
        """Stretches of the parts that together hold ``PHOTOS_A_UNIT`` photos. Every line is read here once.

        Raises:
            UserError: a file is missing or not as published, or the counts are not the published ones.
        """
        location = Location.given(source)
        root = Path(location.local_path if location.is_local else location.text)
        parts = self.adapter.parts(root)
        missing = [name for name in (*self.adapter.FILES, *parts) if not (root / name).exists()]
        if missing:
            raise UserError(f"no {', '.join(missing)} in {source!r}: {self.ABOUT}. To be had: {self.adapter.OBTAIN}")
        sizes, counts = self._count(root, parts)
        if not counts:
            raise UserError(f"no photos in {source!r}: {self.ABOUT}")
        if not self.allow_partial:
            self._refuse_other_counts(source, counts)
        return [json.dumps([str(root), stretches]) for stretches in _stretches(sizes)]

    def photos(self, unit: str) -> Iterator[Photo]:
        root, stretches = json.loads(unit)
        for part, start, stop in stretches:
            yield from self.adapter.rows(Path(root), part, start, stop)

    def _count(self, root: Path, parts: list[str]) -> tuple[dict[str, int], Counts]:
        """Photos of each part; photos and classes of each split and of all."""
        sizes = dict.fromkeys(parts, 0)
        photos: Counter[str] = Counter()
        products: defaultdict[str, set[str]] = defaultdict(set)
        for part in parts:
            for photo in self.adapter.rows(root, part):
                sizes[part] += 1
                for split in (photo.split or "", ALL):
                    photos[split] += 1
                    products[split].add(photo.product_id)
        return sizes, {split: Count(photos[split], len(products[split])) for split in photos}

    def _refuse_other_counts(self, source: str, counts: Counts) -> None:
        published = self.adapter.COUNTS
        counted = {split: counts.get(split, Count(0, 0)) for split in published}
        pairs = [pair for split in published for pair in zip(counted[split], published[split], strict=True)]
        if any(asserted is not None and number != asserted for number, asserted in pairs):
            here, there = (
                ", ".join(f"{split}: {count}" for split, count in side.items()) for side in (counted, published)
            )
            raise UserError(
                f"{source!r} has {here}; {self.adapter.TITLE} as published has {there}: "
                "get it anew, or take what is there with --allow-partial"
            )


def _stretches(sizes: dict[str, int]) -> Iterator[list[tuple[str, int, int]]]:
    """Lists of (part, start, stop) that hold ``PHOTOS_A_UNIT`` photos each, the last one fewer."""
    unit: list[tuple[str, int, int]] = []
    room = PHOTOS_A_UNIT
    for part, size in sizes.items():
        start = 0
        while start < size:
            stop = min(size, start + room)
            unit.append((part, start, stop))
            room -= stop - start
            start = stop
            if not room:
                yield unit
                unit, room = [], PHOTOS_A_UNIT
    if unit:
        yield unit


class Line(NamedTuple):
    """How a line of a text file is written."""

    form: str
    """In words, for the error message."""
    pattern: str
    """A regular expression for the whole line; its groups are the values."""


def read_lines(
    path: Path, line: Line, header: tuple[Line, ...] = (), start: int = 0, stop: int | None = None
) -> Iterator[tuple[str, ...]]:
    """The values of each line after the header, from the ``start``-th to before the ``stop``-th, blank lines left out.

    Raises:
        UserError: the file cannot be read, or a line does not match its pattern.
    """
    with _reading(path) as file:
        numbered = ((number, text.strip()) for number, text in enumerate(file, 1) if text.strip())
        for form, pattern in header:
            number, text = next(numbered, (1, ""))
            _values(path, number, text, form, pattern)
        for number, text in islice(numbered, start, stop):
            yield _values(path, number, text, *line)


def _values(path: Path, number: int, text: str, form: str, pattern: str) -> tuple[str, ...]:
    match = re.fullmatch(pattern, text)
    if not match:
        raise UserError(f"{path.name} line {number}: {text[:200]!r} is not {form!r}")
    return match.groups()


def read_csv(
    path: Path, columns: tuple[str, ...], start: int = 0, stop: int | None = None
) -> Iterator[tuple[str, ...]]:
    """The values of ``columns`` in each row after the header, from the ``start``-th to before the ``stop``-th.

    Raises:
        UserError: the file cannot be read, a column is missing, or a row has a value too few, too many or empty.
    """
    with _reading(path) as file:
        rows = csv.reader(file, strict=True)
        header = next(rows, [])
        missing = [name for name in columns if name not in header]
        if missing:
            raise UserError(f"{path.name} has no column {', '.join(missing)}: it has {', '.join(header) or 'none'}")
        places = [header.index(name) for name in columns]
        for row in islice(filter(None, rows), start, stop):
            values = tuple(row[place] for place in places) if len(row) == len(header) else ()
            if not all(values) or not values:
                raise UserError(f"{path.name} line {rows.line_num}: {row} is not {header}")
            yield values


@contextmanager
def _reading(path: Path) -> Iterator[TextIO]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"cannot read {str(path)!r} as UTF-8 text: {why}") from None
