"""The rows of one file of a table: CSV, JSON Lines, Parquet, Arrow or an Excel workbook, told by its first bytes;
whatever would be lost is a fault."""

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vitrine.datasets import json_lines, pictures, workbooks
from vitrine.datasets.columns import Columns, TableFault, may_be_any_number
from vitrine.datasets.packed import unpacked
from vitrine.locations import Location

SEPARATORS = (",", "\t", ";", "|")
MOST_CHARACTERS = 16 << 20
"""Of a value in CSV. Python's own limit is 128 KB, which a description may have."""
_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
"""Byte-order marks; those of UTF-32 first, which begin as one of UTF-16 does."""
_OTHERS = {
    b"PK\x03\x04": "no Excel workbook (.xlsx) but another zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"ORC": "ORC",
    b"Obj\x01": "Avro",
    b"SQLite format 3": "a database of SQLite",
    b"BZh": "compressed by bzip2",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"\xfd7zXZ": "compressed by xz",
    b"\x89HDF": "HDF5",
    b"%PDF": "PDF",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"\x04\x22\x4d\x18": "compressed by lz4",
    b"PAR1": "Parquet within gzip, which packs itself",  # seen here only where gzip was unpacked
    b"\x1f\x8b": "compressed by gzip twice",
}
_ARROW_STREAM = b"\xff\xff\xff\xff"
_OTHER_TEXTS = {"[": "a JSON list (JSON Lines, an object a line, is read)", "<": "HTML or XML"}

Row = tuple[int, dict[str, Any]]
"""Its number, and values by our names: text or None, and of ``image`` a ``Picture``. Of text files, numbers are those
of the lines in the file; of Parquet and Arrow, they start at 1; of workbooks, they are Excel's."""


def read_rows(
    location: Location, columns: Columns, encoding: str | None, elsewhere: Collection[str] = ()
) -> Iterator[Row]:
    """The rows, with those of the ``columns`` that there are and that are not ``elsewhere``.

    Raises:
        TableFault: it is of another format, lacks a column, has a type that is no id, or a row that would be half read.
    """
    try:
        system, path = location.open()
        with system.open_input_file(path) as file:
            magic = file.read(4)
            file.seek(0)
            if magic == b"PAR1":
                yield from _parquet(file, columns, elsewhere)
                return
            if magic in (_ARROW_STREAM, b"ARRO"):
                yield from _arrow(file, columns, elsewhere, magic == _ARROW_STREAM)
                return
            if pictures.IMAGE in columns.given:
                raise TableFault("it has no column of bytes, as Parquet, Delta and Arrow may: leave --column image out")
            elsewhere = {*elsewhere, pictures.IMAGE}
            if magic == b"PK\x03\x04" and workbooks.is_workbook(file):
                yield from workbooks.rows(file, columns, elsewhere)
            else:
                yield from _text(io.BufferedReader(unpacked(file)), columns, encoding, elsewhere)
    except (OSError, EOFError, ValueError, pa.ArrowException) as error:
        raise TableFault(" ".join(str(error).split())[:200] or type(error).__name__) from error


def _text(file: io.BufferedReader, columns: Columns, encoding: str | None, elsewhere: Collection[str]) -> Iterator[Row]:
    codec, is_json = _codec(file.peek(4096)[:4096], encoding)
    with io.TextIOWrapper(file, codec, errors="surrogateescape", newline="") as text:
        rows = json_lines.rows(text, columns, elsewhere) if is_json else _csv(text, columns, elsewhere)
        for number, row in rows:
            yield number, {name: value and _decoded(value, name, number) for name, value in row.items()}


# ---- CSV ----


class _Lines:
    """The lines of a text, and those that the row of now has taken."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text, self.taken = text, list[str]()

    def __iter__(self) -> Iterator[str]:
        for line in self._text:
            self.taken.append(line)
            yield line


def _csv(text: io.TextIOWrapper, columns: Columns, elsewhere: Collection[str]) -> Iterator[Row]:
    csv.field_size_limit(MOST_CHARACTERS)
    first = text.readline()
    separator = _separator(first, columns)
    lines = _Lines(text)
    reader = csv.reader(_chained(first, lines), delimiter=separator, strict=True)
    header = _next(reader, lines, 1) or []
    places = columns.places(header, elsewhere)
    width = max((place for place, name in enumerate(header, 1) if name.strip()), default=0)
    while True:
        lines.taken.clear()
        number = reader.line_num + 1
        values = _next(reader, lines, number)
        if values is None:
            return
        if not values or not "".join(values).strip():
            if values:
                yield number, dict.fromkeys(places)
            continue
        _check_width(values, width, number, lines)
        _check_quotes(values, separator, number, len(header), places.get("uri"))
        yield number, {name: values[place] for name, place in places.items()}


def _chained(first: str, lines: _Lines) -> Iterator[str]:
    if first:
        lines.taken.append(first)
        yield first
    yield from lines


def _next(reader: Any, lines: _Lines, number: int) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        why = "a quote opens and does not close" if "unexpected end" in str(error) else str(error)
        why = f"a value has over {MOST_CHARACTERS} characters, as after a quote too many" if "limit" in why else why
        raise TableFault(
            f"row {number} cannot be told from the next ({why}): {_shown(lines)}: put a value with a quote or a "
            'separator in quotes, and write each quote in it twice ("")'
        ) from None


def _check_width(values: list[str], width: int, number: int, lines: _Lines) -> None:
    if len(values) < width or any(value.strip() for value in values[max(width, 1) :]):
        raise TableFault(
            f"row {number} has {len(values)} values, the header {width}: {_shown(lines)}: put a value with a separator "
            "or line break in quotes, and write empty values too"
        )


def _check_quotes(values: list[str], separator: str, number: int, width: int, uri: int | None) -> None:
    """A quote that opens in one row and closes in a later one makes one row of all between: the lines of such a value
    have just the separators of rows, or a uri at its place (``uri``), of the suffix that the row's own has."""
    for place, value in enumerate(values):
        if "\n" not in value and "\r" not in value:
            continue
        lines = [line.split(separator) for line in value.splitlines()]
        counts = [len(line) - 1 for line in lines]
        are_rows = counts == [width - 1 - place, *[width - 1] * (len(counts) - 2), place]
        rows = [line for line in lines[1:] if len(line) > 1]  # a name may have a line break, and no separator
        uris = [PurePosixPath(line[uri]).suffix for line in rows if uri is not None and uri < len(line)]
        suffix = PurePosixPath(values[uri or 0]).suffix
        if are_rows or (suffix and suffix in uris):
            raise TableFault(
                f"rows {number} to {number + len(counts) - 1} are one value in quotes: {value[:80]!r}: close the quote "
                'where the value ends, or write a quote that is meant twice ("")'
            )


def _shown(lines: _Lines) -> str:
    return repr("".join(lines.taken[:2])[:80].rstrip("\r\n"))


def _codec(head: bytes, encoding: str | None) -> tuple[str, bool]:
    """The character set, and whether the text is JSON.

    Raises:
        TableFault: it is neither CSV nor JSON Lines.
    """
    other = next((name for magic, name in _OTHERS.items() if head.startswith(magic)), None)
    marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if marked and encoding and encoding.lower().replace("_", "-")[:5] != marked[:5]:
        raise TableFault(f"its byte-order mark says {marked[:6].rstrip('-')}, and --encoding {encoding}: leave it out")
    codec = marked or encoding or "utf-8"
    start = head.decode(codec, "replace").lstrip("\ufeff \t\r\n")[:1]
    if other := other or _OTHER_TEXTS.get(start):
        raise TableFault(f"it is {other}: save it as CSV, JSON Lines, Parquet or .xlsx")
    if not marked and not encoding and b"\0" in head:
        raise TableFault(
            "it has zero bytes, which is no text: where it is UTF-16 without a mark, say --encoding utf-16-le"
        )
    return codec, start == "{"


def _separator(header: str, columns: Columns) -> str:
    """The separator by which the header has most of the columns that are asked for; then, most columns."""

    def parts(separator: str) -> tuple[int, int]:
        names = header.rstrip("\r\n").split(separator)
        return columns.known(name.strip().strip('"') for name in names), len(names)

    return max(SEPARATORS, key=parts)


def _decoded(value: str, column: str, number: int) -> str:
    if value.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in value):
        return value
    shown = value.encode("utf-8", "backslashreplace").decode().replace("\\udc", "\\x")[:80]
    raise TableFault(
        f"row {number} has bytes in {column} that are not of its character set: '{shown}': name the right one, as "
        "--encoding cp1252 for a Windows spreadsheet's"
    )


# ---- Parquet, Arrow ----


def _parquet(file: Any, columns: Columns, elsewhere: Collection[str]) -> Iterator[Row]:
    with pq.ParquetFile(file) as parquet:
        called, image = called_in(parquet.schema_arrow, columns, elsewhere)
        asked = [*called.values(), *([image] if image else [])]
        batches = parquet.iter_batches(pictures.ROWS_AT_ONCE if image else 8192, columns=asked)
        yield from arrow_rows(batches, called, image)


def _arrow(file: Any, columns: Columns, elsewhere: Collection[str], is_stream: bool) -> Iterator[Row]:
    with pa.ipc.open_stream(file) if is_stream else pa.ipc.open_file(file) as opened:
        called, image = called_in(opened.schema, columns, elsewhere)
        batches = opened if is_stream else map(opened.get_batch, range(opened.num_record_batches))
        yield from arrow_rows(batches, called, image)


def called_in(schema: pa.Schema, columns: Columns, elsewhere: Collection[str]) -> tuple[dict[str, str], str | None]:
    """What our names, without ``image``, are called in ``schema``, and the column that has the photos, if one has.

    Raises:
        TableFault: a column is missing.
    """
    image = pictures.find(schema, columns, elsewhere)
    is_given = pictures.IMAGE in columns.given
    others = {*elsewhere} | ({pictures.IMAGE} if image or not is_given else set())
    others |= {"uri"} if image or is_given else set()
    return {name: schema.names[place] for name, place in columns.places(schema.names, others).items()}, image


def arrow_rows(batches: Iterable[pa.RecordBatch], called: Mapping[str, str], image: str | None) -> Iterator[Row]:
    """The rows of ``batches``: the columns ``called`` as text, by our names, and the photos of the column ``image``."""
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, pictures.ROWS_AT_ONCE) if image else (0,):
            part = batch.slice(start, pictures.ROWS_AT_ONCE) if image else batch
            values: dict[str, list[Any]] = {name: as_text(part.column(own), name) for name, own in called.items()}
            if image:
                values[pictures.IMAGE] = pictures.of(part.column(image))
            for at in range(part.num_rows):
                number += 1
                yield number, {name: column[at] for name, column in values.items()}


def as_text(values: pa.Array, column: str) -> list[str | None]:
    """Text as it is written, whole numbers by their digits.

    Raises:
        TableFault: they are of another type; a column of null and NaN alone says nothing.
    """
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if pa.types.is_floating(kind) and pc.all(pc.is_null(values, nan_is_null=True)).as_py() is not False:
        return [None] * len(values)
    if may_be_any_number(column) and (pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return [None if value is None else str(value) for value in values.to_pylist()]
    whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if not (text or pa.types.is_null(kind) or (whole and column != "uri")):
        wanted = "text" if column == "uri" else "text or whole numbers"
        raise TableFault(f"column {column} is of type {kind}: it must be {wanted}: write it as text")
    try:
        return [None if value is None else str(value) for value in values.to_pylist()]
    except UnicodeDecodeError:
        raise TableFault(f"column {column} has text that is not UTF-8: write it as such") from None
