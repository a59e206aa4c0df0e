"""A table of photos: CSV in any of its spellings, JSON Lines, Excel or Parquet, a file or a folder, told by content.

Executors read the files, a unit each, and of each file only the columns that are asked for. Ids and labels are text as
it is written, or whole numbers; whatever else is there, or cannot be read to its end, is refused with its row: the unit
then ends with a ``Photo`` of ``REFUSED``. Rows without any value are left out and counted (``BLANK``). Delta tables are
Spark's to read (``spark_jobs/ingest_catalog.py``), and their rows come through ``Rows`` all the same.
"""

import codecs
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from vitrine import photo_store
from vitrine.datasets import attributes
from vitrine.datasets.columns import Columns, TableFault
from vitrine.datasets.junk import is_junk_file, is_junk_folder
from vitrine.datasets.photo import BLANK, REFUSED, Photo
from vitrine.datasets.pictures import IMAGE, Picture, keep
from vitrine.datasets.table_files import Row, arrow_rows, read_rows
from vitrine.errors import UserError
from vitrine.links import is_link, login_data
from vitrine.locations import Location, is_uri
from vitrine.settings import Settings

COLUMNS = ("uri", "product_id", "image_id", "category", "split", IMAGE)
"""What is read of a table."""
NEEDED = COLUMNS[:2]
ABOUT = (
    "CSV (with commas, tabs, semicolons or |), JSON Lines, Excel (.xlsx), Parquet, Arrow or Delta with uri (or the "
    "photos as bytes) and product_id; where there are, image_id, category, split"
)
NO_PRODUCT = ("no_product", "the row has no product_id")
LOGIN_DATA = ("login_data", "the link has a user, a password or a signature in it: photos are read by public links")
Reader = Callable[[Location, Columns, str | None, Collection[str]], Iterator[Row]]
"""As ``read_rows``."""
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"


class Table:
    """The layout with the character set of its text files (None: UTF-8, or what a byte-order mark says), and with what
    some of its columns are called, those of attributes too."""

    ABOUT = ABOUT

    def __init__(self, encoding: str | None = None, columns: Mapping[str, str] | None = None) -> None:
        self.encoding = encoding
        names = tuple(dict.fromkeys((*COLUMNS, *(columns or {}))))
        self.columns = Columns(names, NEEDED, f"layout table is {ABOUT}", columns or {})

    def units(self, settings: Settings, source: str) -> list[str]:
        """A unit a file; none of a Delta table.

        Raises:
            UserError: there is no such table, or no such character set.
        """
        return [json.dumps([settings.photos, unit]) for unit in file_units(source, self.encoding)]

    def photos(self, unit: str) -> Iterator[Photo]:
        store, unit = json.loads(unit)
        base, name, _, source = json.loads(unit)
        rows = Rows(Location(base), source, store, name)
        try:
            for number, row in read_unit(unit, self.columns):
                if photo := rows.photo(number, row):
                    yield photo
        except TableFault as fault:
            yield refused(str(fault))
        yield from rows.left_out()


def file_units(source: str, encoding: str | None = None, called: str = "") -> list[str]:
    """A unit a file of the table ``source``, which messages name as it is ``called``; none of a Delta table.

    Raises:
        UserError: there is no such table, or no such character set.
    """
    _check_encoding(encoding)
    root = Location.given(source)
    if is_delta(root):
        return []
    try:
        base, names = _files(root)
    except (OSError, ValueError) as error:  # Arrow's errors are of these
        raise UserError(f"cannot read {source!r} ({' '.join(str(error).split())[:200]}): it is no table") from None
    if not names:
        raise UserError(f"no such table {source!r}: name a file, or a folder of files, of CSV, Parquet or Delta")
    return [json.dumps([base.text, name, encoding, called or source]) for name in names]


def read_unit(unit: str, columns: Columns, read: Reader = read_rows) -> Iterator[Row]:
    """The rows of one file, as ``read`` reads it: those of ``columns`` that it, or the names of its folders, have.

    Raises:
        TableFault: the file cannot be read, or lacks a column that is needed.
    """
    base, name, encoding, source = json.loads(unit)
    try:
        partitions = _partitions(name, columns)
        for number, row in read(Location(base) / name, columns, encoding, partitions.keys()):
            yield number, {**row, **partitions}
    except TableFault as fault:
        shown = repr(source) if source.endswith(name) else f"{source!r}, file {name!r}"
        raise TableFault(f"cannot read {shown}: {fault}") from None


class Rows:
    """The rows of one table as photos; relative uris start at ``base``, the folder of the table. Photos in a column go
    to the photo store ``store``; one without a name is called by its row in the file ``name``."""

    def __init__(self, base: Location, source: str, store: str, name: str = "") -> None:
        self._base, self._source, self._store, self._name, self._blank = base, source, store, name, 0

    def photo(self, number: int, row: dict[str, Any]) -> Photo | None:
        """The photo of row ``number``, its values by ``COLUMNS``; None of a row without any."""
        picture: Picture = row.pop(IMAGE, None) or Picture(None, None)
        if picture.data is None:
            return self._of_uri(number, row if picture.path is None else {**row, "uri": picture.path})
        image_id = row.get("image_id") or picture.path or (f"{self._name}/{number}" if self._name else "")
        photo = self._of_uri(number, {**row, "uri": image_id})
        if photo is None or photo.refusal or not image_id:
            return photo
        uri = photo_store.inside((self._base / self._name).text if self._name else self._base.text, image_id)
        return replace(photo, image_id=image_id, uri=uri, kept_sha256=keep(self._store, picture.data))

    def _of_uri(self, number: int, row: Mapping[str, str | None]) -> Photo | None:
        if not any((value or "").strip() for value in row.values()):
            self._blank += 1
            return None
        uri, product_id = row.get("uri") or None, row.get("product_id") or ""
        if uri is None:
            return refused(f"rows of {self._source!r} have no uri, row {number} first: every row needs one")
        if zero := next((name for name, value in row.items() if "\0" in (value or "")), None):
            return refused(f"row {number} of {self._source!r} has a zero byte in {zero}, which is no text")
        without = login_data(uri) if is_link(uri) else None
        if without is not None:  # it is told by its row alone, and printed nowhere
            name = row.get("image_id") or f"{without} (row {number})"
            return Photo(name, product_id, without, refusal=LOGIN_DATA)
        is_absolute = is_uri(uri) or uri.startswith("/")
        return Photo(
            image_id=row.get("image_id") or uri,
            product_id=product_id,
            uri=uri if is_absolute else (self._base / uri).text,
            category=row.get("category") or None,
            split=row.get("split") or None,
            refusal=None if product_id.strip() else NO_PRODUCT,
            attributes=attributes.of(row),
        )

    def left_out(self) -> Iterator[Photo]:
        """At the end, how many rows had no value at all."""
        if self._blank:
            yield Photo("", "", "", refusal=(BLANK, str(self._blank)))


def photos_of(batches: Iterable[pa.RecordBatch], base: Location, source: str, store: str) -> Iterator[Photo]:
    """The photos of a part of a Delta table, whose columns are of ``COLUMNS``."""
    rows, number = Rows(base, source, store), 0
    try:
        for batch in batches:
            called = {name: name for name in batch.schema.names if name != IMAGE}
            image = IMAGE if IMAGE in batch.schema.names else None
            for _, row in arrow_rows([batch], called, image):
                number += 1
                if photo := rows.photo(number, row):
                    yield photo
    except TableFault as fault:
        yield refused(f"cannot read {source!r}: {fault}")
    yield from rows.left_out()


def refused(reason: str) -> Photo:
    """What says that the whole table is refused."""
    return Photo("", "", "", refusal=(REFUSED, reason))


def is_delta(root: Location) -> bool:
    """Has the folder a Delta log?"""
    if root.is_local:
        return (Path(root.local_path) / "_delta_log").is_dir()
    from pyarrow.fs import FileType

    try:
        system, path = (root / "_delta_log").open()
        return bool(system.get_file_info(path).type == FileType.Directory)
    except (OSError, ValueError):
        return False


def _check_encoding(encoding: str | None) -> None:
    if encoding is None:
        return
    try:
        is_text = codecs.lookup(encoding)._is_text_encoding
        known = is_text and isinstance("a".encode(encoding).decode(encoding), str)
    except (LookupError, UnicodeError, ValueError):
        known = False
    if not known:
        raise UserError(f"unknown encoding {encoding!r}: name a character set, as utf-8, cp1252, latin-1 or utf-16")


def _files(root: Location) -> tuple[Location, list[str]]:
    """The folder that relative uris start at, and the table's files in it, without what is hidden, what systems leave
    behind, and what is called as Spark's own marks are."""
    from pyarrow.fs import FileSelector, FileType

    system, path = root.open()
    kind = system.get_file_info(path).type
    if kind == FileType.File:
        folder, name = root.parent
        return folder, [name]
    if kind != FileType.Directory:
        return root, []
    infos = system.get_file_info(FileSelector(path, recursive=True))
    names = sorted(info.path[len(path) + 1 :] for info in infos if info.type == FileType.File)
    return root, [name for name in names if not _is_junk(name)]


def _is_junk(name: str) -> bool:
    *folders, file = name.split("/")
    marks = any(part.startswith((".", "_")) and "=" not in part for part in (*folders, file))
    return marks or is_junk_file(file) or any(map(is_junk_folder, folders))


def _partitions(name: str, columns: Columns) -> dict[str, str | None]:
    """The columns that a file's folders spell, as in ``product_id=00123/part.parquet``: text, as Hive escapes it."""
    pairs = dict(part.split("=", 1) for part in name.split("/")[:-1] if "=" in part)
    spelled = list(pairs)
    values = {ours: pairs[spelled[place]] for ours, place in columns.found(spelled).items()}
    try:
        return {
            ours: None if value == _NO_PARTITION else unquote(value, errors="strict") for ours, value in values.items()
        }
    except UnicodeDecodeError:
        raise TableFault(f"its folder {name.rpartition('/')[0]!r} spells text that is not UTF-8") from None
