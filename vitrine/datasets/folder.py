"""``ROOT/[SPLIT/]PRODUCT/PHOTO``: the layout that most shops can make with a copy command.

ROOT is a local folder or a URI that Arrow's file systems open (``s3://``, ``gs://``, ``hdfs://``). A first level that
is made of split names alone (train, val, validation, test, query, gallery) is one of splits. Hidden files and sidecar
files (``.json``, ``.txt``, ...) are no photos; every other file is listed, with a refusal where it cannot be one of a
product's photos: its name is no text, or it lies beside the product folders.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vitrine import s3
from vitrine.datasets.photo import Photo
from vitrine.errors import UserError
from vitrine.settings import Settings

SPLITS = ("train", "val", "validation", "test", "query", "gallery")
ABOUT = "ROOT/[SPLIT/]PRODUCT/PHOTO, a local folder or s3://, gs://, hdfs://"
_NO_PRODUCT = ("no_product", "the file lies beside the product folders, in none of them")
_BAD_NAME = ("bad_name", "the file's name, or that of a folder above it, is not UTF-8")
_LINKED = ("unreadable", "a link to a folder is followed only as a product's folder, and not upwards")
_SIDECARS = {".txt", ".json", ".csv", ".tsv", ".md", ".xml", ".html", ".ini", ".db", ".yaml", ".yml", ".parquet"}


def units(settings: Settings, source: str) -> list[str]:
    """One unit a product folder, and one for what lies beside them.

    Raises:
        UserError: ``source`` cannot be listed, or has no product folder.
    """
    if "://" in source:
        folders = _remote_folders
        root = s3.plain(source.rstrip("/"))
    else:
        folders = local_folders
        root = str((settings.root / Path(source).expanduser()).resolve())
    top = folders(root, source)
    if top and all(name in SPLITS for name in top):
        pairs = [(split, product) for split in top for product in folders(f"{root}/{split}", source)]
        beside = [("", ""), *((split, "") for split in top)]
    else:
        pairs, beside = [("", product) for product in top], [("", "")]
    if not pairs:
        raise UserError(f"no photos in {source!r}: layout folder is {ABOUT}")
    pairs += beside
    return [unit(root, split, product) for split, product in pairs]


def unit(root: str, split: str, product: str) -> str:
    """What lies in ``root/split/product``; without a product: what lies beside the products."""
    return json.dumps([root, split, product])


def photos(unit: str) -> Iterator[Photo]:
    """The photos of one unit; a file whose name is no text, or that lies in no product's folder, has a refusal."""
    root, split, product = json.loads(unit)
    start = "/".join(part for part in (root, split, product) if part)
    files = _remote_files if "://" in root else _local_files
    for path, refusal in files(start, bool(product)):
        inner = path[len(root) + 1 :]
        if not product:
            refusal = refusal or _NO_PRODUCT
        yield Photo(
            image_id=_shown(inner),
            product_id=_shown(product),
            uri=_shown(path),
            split={"validation": "val"}.get(split, split) or None,
            refusal=refusal if _is_text(path) else _BAD_NAME,
        )


def _is_text(name: str) -> bool:
    """Is it UTF-8? Python spells other bytes as lone surrogates, which no table takes."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _shown(name: str) -> str:
    """``name`` as text: other bytes than UTF-8 are spelled out, and a digest tells it from a file of that spelling."""
    if _is_text(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{name.encode('utf-8', 'backslashreplace').decode()}#{digest}"


def local_folders(root: str, source: str) -> list[str]:
    """The names of the folders in ``root``, hidden ones left out, sorted.

    Raises:
        UserError: ``root``, which the caller called ``source``, cannot be listed.
    """
    try:
        with os.scandir(root) as entries:
            return sorted(e.name for e in entries if _is_folder(e) and not e.name.startswith("."))
    except OSError as error:
        raise UserError(f"cannot list {source!r} ({error.strerror}): layout folder is {ABOUT}") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or into a closed place: the listing of what lies beside the products has it
        return False


_Listed = tuple[str, tuple[str, str] | None]
"""A path and, where it cannot be read, code and reason."""


def _local_files(start: str, deep: bool) -> Iterator[_Listed]:
    if Path(start).is_symlink() and Path(start).parent.resolve().is_relative_to(Path(start).resolve()):
        yield start, _LINKED  # it leads to a folder above it: photos would be listed twice, or the whole disk
        return
    failed: list[OSError] = []
    for folder, inner, names in os.walk(start, onerror=failed.append):
        inner[:] = sorted(name for name in inner if deep and not name.startswith("."))
        for name in inner:
            if Path(folder, name).is_symlink():  # os.walk does not follow it: it may lead in a circle
                yield f"{folder}/{name}", _LINKED
        for name in sorted(names):
            if _is_photo(name):
                yield f"{folder}/{name}", None
    for error in failed:  # named, so that the photos of this folder are not taken for deleted ones
        if not isinstance(error, FileNotFoundError):
            why = (error.strerror or type(error).__name__).lower()
            yield os.fsdecode(error.filename or start), ("unreadable", f"the folder cannot be listed: {why}")


def _is_photo(name: str) -> bool:
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() not in _SIDECARS


def _remote_folders(root: str, source: str) -> list[str]:
    from pyarrow import ArrowException, fs

    try:
        system, path = fs.FileSystem.from_uri(root)
        infos = system.get_file_info(fs.FileSelector(path))
    except (ArrowException, OSError, ValueError) as error:
        raise UserError(f"cannot list {source!r} ({error}): layout folder is {ABOUT}") from None
    return sorted(info.base_name for info in infos if info.type == fs.FileType.Directory)


def _remote_files(start: str, deep: bool) -> Iterator[_Listed]:
    from pyarrow import fs

    system, path = fs.FileSystem.from_uri(start)
    for info in system.get_file_info(fs.FileSelector(path, recursive=deep)):
        if info.type == fs.FileType.File and _is_photo(info.base_name):
            yield start + info.path[len(path) :], None
