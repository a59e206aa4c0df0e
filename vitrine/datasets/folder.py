"""``ROOT/[SPLIT/][CATEGORY/]PRODUCT/PHOTO``: the layout that most shops can make with a copy command.

ROOT is a local folder or a URI that Arrow's file systems open (``s3://``, ``gs://``, ``hdfs://``). A first level that
is made of split names alone (``split_of``) is one of splits; where other folders lie beside them, the
caller says which it is. So the caller says whether there is a level of categories. Hidden files, sidecar files
(``.json``, ``.txt``, ...) and what systems leave behind are no photos; every other file is listed, with a refusal where
it cannot be one of a product's photos: its name is no text, or it lies beside the product folders.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from vitrine.datasets.junk import is_junk_folder, may_be_photo
from vitrine.datasets.photo import Photo
from vitrine.errors import UserError
from vitrine.locations import Location
from vitrine.settings import Settings

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("query", "queries"), "query"),
    "gallery": "gallery",
}
_SPLIT_NAME = re.compile(rf"({'|'.join(_SPLITS)})([-_ ]?(set|split|data|images))?", re.IGNORECASE | re.ASCII)
ABOUT = (
    "ROOT/[SPLIT/]PRODUCT/PHOTO, or with --categories ROOT/[SPLIT/]CATEGORY/PRODUCT/PHOTO, a local folder or s3://, "
    "gs://, hdfs://"
)
_UNITS = 1_024
_NO_PRODUCT = ("no_product", "the file lies beside the product folders, in none of them")
_BAD_NAME = ("bad_name", "the file's name, or that of a folder above it, is not UTF-8")
_LINKED = ("unreadable", "a link to a folder is followed only as a product's folder, and not upwards")


class Folder:
    """The layout where the caller says whether the first level is one of splits, and the next one of categories."""

    ABOUT = ABOUT

    def __init__(self, splits: bool | None = None, categories: bool = False) -> None:
        self.splits, self.categories = splits, categories

    def units(self, settings: Settings, source: str) -> list[str]:
        return units(settings, source, self.splits, self.categories)

    def photos(self, unit: str) -> Iterator[Photo]:
        return photos(unit)


def units(settings: Settings, source: str, splits: bool | None = None, categories: bool = False) -> list[str]:
    """Product folders, some a unit where they are very many, and a unit for what lies beside them. With ``splits``, the
    first level is one of splits, and what lies in folders of other names is in no product; None: as its names say. With
    ``categories``, product folders lie in folders of categories.

    Raises:
        UserError: ``source`` cannot be listed, has no product folder, or may be read in two ways.
    """
    root = Location.given(source)
    top = _folders(root, source)
    named = [name for name in top if split_of(name)]
    if splits is None:
        splits = _has_splits(root, source, top, named)
    beside = [("", "", ""), *((name, "", "") for name in top if splits)]
    products: list[tuple[str, str, str]] = []
    for split in named if splits else [""]:
        inner = _folders(root / split, source) if split else top
        if categories:
            beside += [(split, category, "") for category in inner]
            products += [(split, *pair) for category in inner for pair in _of_category(root, split, category, source)]
        else:
            products += [(split, "", product) for product in inner]
    if not products:
        raise UserError(f"no photos in {source!r}: layout folder is {ABOUT}")
    if categories:
        _refuse_two_categories(products, source)
    return [
        *_units(root, products),
        *(unit(root.text, split, [product], category) for split, category, product in beside),
    ]


def _units(root: Location, products: list[tuple[str, str, str]]) -> list[str]:
    """About ``_UNITS`` at most: the driver holds and sends names, and not a text for each product."""
    most = -(-len(products) // _UNITS)
    every = []
    for (split, category), those in groupby(products, key=itemgetter(0, 1)):
        names = [product for _, _, product in those]
        every += [unit(root.text, split, names[at : at + most], category) for at in range(0, len(names), most)]
    return every


def _of_category(root: Location, split: str, category: str, source: str) -> list[tuple[str, str]]:
    """The category's name with that of each of its products."""
    folder = (root / split if split else root) / category
    if folder.is_local and _leads_upwards(folder.local_path):
        raise UserError(f"category {category!r} of {source!r} is a link to a folder above it: take it out")
    return [(category, product) for product in _folders(folder, source)]


def _refuse_two_categories(products: list[tuple[str, str, str]], source: str) -> None:
    category_of: dict[str, str] = {}
    for _, category, product in products:
        if category_of.setdefault(product, category) != category:
            raise UserError(
                f"{source!r} has product {product!r} in {_some([category_of[product], category])}: a product has one "
                "category, and two products have two names"
            )


def split_of(name: str) -> str | None:
    """The split that a folder of that name is, in any case, as in ``Train``, ``valid`` or ``test_set``."""
    match = _SPLIT_NAME.fullmatch(name)
    return _SPLITS[match[1].lower()] if match else None


def _has_splits(root: Location, source: str, top: list[str], named: list[str]) -> bool:
    """Is the first level one of splits? It is where it has no other folder."""
    if len(top) == 1 and not named:
        inner = [name for name in _folders(root / top[0], source) if split_of(name)]
        if len(inner) > 1 or any(_folders(root / top[0] / name, source) for name in inner):
            raise UserError(
                f"{source!r} holds one folder, {top[0]!r}, and that holds {_some(inner)}: name {top[0]!r} itself for "
                "splits of products, or say --no-splits for one product"
            )
    if not named or len(named) == len(top):
        return bool(named)
    if not any(_folders(root / name, source) for name in named):
        return False  # folders of photos, as products' are
    others = [name for name in top if name not in named]
    raise UserError(
        f"{source!r} holds {_some(named)} beside {_some(others)}: say --splits where the first are splits and the "
        "others no products, or --no-splits where all are products"
    )


def _some(names: list[str]) -> str:
    return ", ".join(f"{name!r}" for name in names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def unit(root: str, split: str, products: list[str], category: str = "") -> str:
    """What lies in ``root/split/category/product`` of each product; of one without a name: what lies beside them."""
    return json.dumps([root, split, category, products])


def photos(unit: str) -> Iterator[Photo]:
    """The photos of one unit; a file whose name is no text, or that lies in no product's folder, has a refusal."""
    text, split, category, products = json.loads(unit)
    for product in products:
        yield from _of_product(Location(text), split, category, product)


def _of_product(root: Location, split: str, category: str, product: str) -> Iterator[Photo]:
    start = "/".join(part for part in (split, category, product) if part)
    # What lies in a folder beside the splits is named whole.
    deep = bool(product) or bool(split and not split_of(split))
    for inner, refusal in _files(root / start if start else root, deep):
        name = f"{start}/{inner}".strip("/")
        location = root / name
        if not product:
            refusal = refusal or _NO_PRODUCT
        yield Photo(
            image_id=_shown(name),
            product_id=_shown(product),
            uri=_shown(location.text),
            category=_shown(category) or None,
            split=split_of(split),
            refusal=refusal if _is_text(name) and _is_text(location.text) else _BAD_NAME,
        )


def _is_text(name: str) -> bool:
    """Is it UTF-8? Python spells other bytes as lone surrogates, which no table takes."""
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def _shown(name: str) -> str:
    """``name`` as text: other bytes than UTF-8 are spelled out, and a digest tells it from a file of that spelling."""
    if _is_text(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{name.encode('utf-8', 'backslashreplace').decode()}#{digest}"


def local_folders(root: str, source: str) -> list[str]:
    """The names of the folders in ``root``, without hidden ones and systems' own, sorted.

    Raises:
        UserError: ``root``, which the caller called ``source``, cannot be listed.
    """
    return _folders(Location(root), source)


def _folders(folder: Location, source: str) -> list[str]:
    from pyarrow import ArrowException

    try:
        names = _local_folders(folder.local_path) if folder.is_local else _remote_folders(folder)
    except (ArrowException, OSError, ValueError) as error:
        why = " ".join(str(getattr(error, "strerror", None) or error).split())
        escaped = " (in a URI, a % of a name is spelled %25)" if "://" in source and "%" in source else ""
        raise UserError(f"cannot list {source!r} ({why}): layout folder is {ABOUT}{escaped}") from None
    return sorted(name for name in names if not is_junk_folder(name))


def _local_folders(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.name for entry in entries if _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or into a closed place: the listing of what lies beside the products has it
        return False


def _remote_folders(folder: Location) -> list[str]:
    from pyarrow import fs

    system, path = folder.open()
    infos = system.get_file_info(fs.FileSelector(path))
    return [info.base_name for info in infos if info.type == fs.FileType.Directory]


_Listed = tuple[str, tuple[str, str] | None]
"""A path in the folder that is listed and, where it cannot be read, code and reason."""


def _files(folder: Location, deep: bool) -> Iterator[_Listed]:
    return _local_files(folder.local_path, deep) if folder.is_local else _remote_files(folder, deep)


def _local_files(start: str, deep: bool) -> Iterator[_Listed]:
    if _leads_upwards(start):
        yield "", _LINKED  # photos would be listed twice, or the whole disk
        return
    failed: list[OSError] = []
    for folder, inner, names in os.walk(start, onerror=failed.append):
        inner[:] = sorted(name for name in inner if deep and not is_junk_folder(name))
        for name in inner:
            if Path(folder, name).is_symlink():  # os.walk does not follow it: it may lead in a circle
                yield f"{folder}/{name}"[len(start) + 1 :], _LINKED
        for name in sorted(names):
            if may_be_photo(name):
                yield f"{folder}/{name}"[len(start) + 1 :], None
    for error in failed:  # named, so that the photos of this folder are not taken for deleted ones
        if not isinstance(error, FileNotFoundError):
            why = (error.strerror or type(error).__name__).lower()
            yield os.fsdecode(error.filename or start)[len(start) + 1 :], _unlisted(why)


def _leads_upwards(path: str) -> bool:
    """Is it a link to a folder above it?"""
    return Path(path).is_symlink() and Path(path).parent.resolve().is_relative_to(Path(path).resolve())


def _unlisted(why: str) -> tuple[str, str]:
    return "unreadable", f"the folder cannot be listed: {why}"


def _remote_files(folder: Location, deep: bool) -> Iterator[_Listed]:
    from pyarrow import ArrowException, fs

    try:
        system, path = folder.open()
        infos = system.get_file_info(fs.FileSelector(path, recursive=deep))
    except (ArrowException, OSError, ValueError) as error:
        yield "", _unlisted(type(error).__name__)
        return
    for info in infos:
        inner = info.path[len(path) + 1 :]
        in_junk = any(is_junk_folder(part) for part in inner.split("/")[:-1])
        if info.type == fs.FileType.File and may_be_photo(info.base_name) and not in_junk:
            yield inner, None
