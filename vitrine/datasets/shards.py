"""Tar shards as img2dataset and WebDataset write them: photos beside what is said of them, ``KEY.jpg`` by ``KEY.json``.

Members with the same name up to its first dot, one after the other, are a sample. Its photos are those members whose
whole rest is a picture's suffix (``KEY.seg.png`` is none); its values are the keys of ``KEY.json``, and ``cls`` and
``txt``, the texts of the members called so. Without a ``KEY.json``, they are those of the row ``key`` of the Parquet
file that is called as the shard and lies beside it. Photos are kept in the photo store when they are listed.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from vitrine import photo_store
from vitrine.datasets import attributes, json_lines
from vitrine.datasets.columns import Columns, TableFault
from vitrine.datasets.junk import is_junk_file, is_junk_folder
from vitrine.datasets.photo import Photo
from vitrine.datasets.pictures import keep
from vitrine.datasets.table import NO_PRODUCT, file_units, refused
from vitrine.datasets.table_files import read_rows
from vitrine.datasets.tar_files import Member, members
from vitrine.errors import UserError
from vitrine.locations import Location
from vitrine.settings import Settings

COLUMNS = ("product_id", "image_id", "category", "split")
NEEDED = COLUMNS[:1]
ABOUT = (
    "tar files of img2dataset or WebDataset, a file or a folder: KEY.jpg beside KEY.json (or KEY.cls, KEY.txt, or "
    "Parquet beside the shard) with product_id; where there are, image_id, category, split"
)
_SUFFIXES = {"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "heif", "jxl"}
_TEXTS = ("cls", "txt")
_SHARD = re.compile(r".+\.(tar|tar\.gz|tgz)", re.IGNORECASE)
_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)
_MOST_OF_TEXT = 1 << 20
"""Bytes of a ``KEY.json`` and the like."""
_MOST_PHOTOS = 1_000
"""Of a sample."""


@dataclass
class _Sample:
    """Members of one key."""

    key: str
    photos: list[tuple[str, str | None, tuple[str, str] | None]] = field(default_factory=list)
    """The member's name; its SHA-256, or code and reason."""
    texts: dict[str, Member | bytes] = field(default_factory=dict)


class Shards:
    """The layout, with what some of its columns are called in the shards."""

    ABOUT = ABOUT

    def __init__(self, columns: Mapping[str, str] | None = None) -> None:
        names = tuple(dict.fromkeys((*COLUMNS, *(columns or {}))))
        self.columns = Columns(names, NEEDED, f"layout shards is {ABOUT}", columns or {})

    def units(self, settings: Settings, source: str) -> list[str]:
        """A unit a shard.

        Raises:
            UserError: there is none.
        """
        units = file_units(source)
        shards = [unit for unit in units if _SHARD.fullmatch(json.loads(unit)[1])]
        if not shards:
            raise UserError(f"no tar file in {source!r}: layout shards is {ABOUT}")
        return [json.dumps([settings.photos, settings.sources.max_bytes, unit]) for unit in shards]

    def photos(self, unit: str) -> Iterator[Photo]:
        store, most_bytes, unit = json.loads(unit)
        base, name, _, source = json.loads(unit)
        shard = _Shard(Location(base), name, self.columns, store, most_bytes)
        try:
            yield from shard.photos()
        except TableFault as fault:
            shown = repr(source) if source.endswith(name) else f"{source!r}, file {name!r}"
            yield refused(f"cannot read {shown}: {fault}")


class _Shard:
    """One shard while it is listed."""

    def __init__(self, base: Location, name: str, columns: Columns, store: str, most_bytes: int) -> None:
        self._base, self._name, self._columns, self._store, self._most_bytes = base, name, columns, store, most_bytes
        self._beside: dict[str | None, dict[str, Any]] | None = None
        self._keys: dict[str, None] = {}
        """What its samples have values of, as a set in their order."""

    def photos(self) -> Iterator[Photo]:
        number = 0
        for sample in self._samples():
            if sample.photos:
                number += 1
                yield from self._of(sample, number)
        if number:
            self._columns.places(list(self._keys))

    def _samples(self) -> Iterator[_Sample]:
        sample = _Sample("")
        for member in members(self._base / self._name):
            name = member.name.removeprefix("./")
            match = _NAME.fullmatch(name)
            *folders, file = name.split("/")
            if (
                not match
                or is_junk_file(file)
                or any(is_junk_folder(part) for part in folders if part not in (".", ".."))
            ):
                continue
            if match[1] != sample.key:
                yield sample
                sample = _Sample(match[1])
            self._take(sample, name, match[2].lower(), member)
        yield sample

    def _take(self, sample: _Sample, name: str, suffix: str, member: Member) -> None:
        if suffix in _SUFFIXES:
            if len(sample.photos) == _MOST_PHOTOS:
                raise TableFault(f"{sample.key[:200]!r} has over {_MOST_PHOTOS} photos in it")
            refusal = self._refusal(member)
            sample.photos.append((name, None if refusal else keep(self._store, member.data()), refusal))
        elif suffix in ("json", *_TEXTS) and member.is_file:
            sample.texts[suffix] = member.data() if member.size <= _MOST_OF_TEXT else member

    def _refusal(self, member: Member) -> tuple[str, str] | None:
        if not member.is_file:
            return "unreadable", "it is no file in the tar file, but a link, a device or the like"
        if member.size > self._most_bytes:
            return "too_large", f"{member.size} bytes, more than [sources] max_bytes = {self._most_bytes}"
        return None

    def _of(self, sample: _Sample, number: int) -> Iterator[Photo]:
        """The photos of a sample; where what is said of them cannot be read, with that as their refusal."""
        row: dict[str, str | None] = {} if "json" in sample.texts else self._row_beside(sample.key)
        fault: tuple[str, str] | None = None
        try:
            row = row | self._values(sample, number)
        except TableFault as error:
            fault = ("bad_metadata", str(error))
        product_id = row.get("product_id") or ""
        for at, (name, sha, refusal) in enumerate(sample.photos):
            named = row.get("image_id") if not at else None
            shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            yield Photo(
                image_id=named or f"{self._name}/{shown}",
                product_id=product_id,
                uri=photo_store.inside((self._base / self._name).text, shown),
                category=row.get("category") or None,
                split=row.get("split") or None,
                refusal=refusal or fault or (None if product_id.strip() else NO_PRODUCT),
                kept_sha256=sha,
                attributes=attributes.of(row),
            )

    def _values(self, sample: _Sample, number: int) -> dict[str, str | None]:
        """What the members of a sample say of it, by our names.

        Raises:
            TableFault: it cannot be read.
        """
        values: dict[str, Any] = {suffix: _decoded(sample, suffix) for suffix in _TEXTS if suffix in sample.texts}
        if "json" in sample.texts:
            values |= json_lines.parsed(_decoded(sample, "json"), number)
        self._keys |= dict.fromkeys(values)
        names = list(values)
        row = {
            name: json_lines.as_text(values[names[place]], name, number)
            for name, place in self._columns.found(names).items()
        }
        if zero := next((name for name, value in row.items() if "\0" in (value or "")), None):
            raise TableFault(f"it has a zero byte in {zero}, which is no text")
        return row

    def _row_beside(self, key: str) -> dict[str, Any]:
        """What the Parquet file beside the shard says of a key; nothing where there is none."""
        if self._beside is None:
            self._beside = {}
            table = self._base / f"{PurePosixPath(self._name).with_suffix('')}.parquet"
            system, path = table.open()
            if system.get_file_info(path).is_file:
                names = [name for name in self._columns.names if self._columns.given.get(name) not in _TEXTS]
                given = {name: column for name, column in self._columns.given.items() if name in names}
                needed = tuple(name for name in NEEDED if name in names)
                header = Columns(("key", *names), ("key", *needed), "the Parquet file beside it has them", given)
                self._beside = {row["key"]: row for _, row in read_rows(table, header, None)}
                self._keys |= dict.fromkeys(given.get(name, name) for name in (*given, *needed))
        return {name: value for name, value in self._beside.get(key, {}).items() if name != "key"}


def _decoded(sample: _Sample, suffix: str) -> str:
    data = sample.texts[suffix]
    if isinstance(data, Member):
        raise TableFault(f"its .{suffix} has {data.size} bytes, more than {_MOST_OF_TEXT}")
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise TableFault(f"its .{suffix} is not UTF-8") from None
