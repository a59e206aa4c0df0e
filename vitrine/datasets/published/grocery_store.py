"""Grocery Store (Klasson et al., WACV 2019, arXiv 1901.00711): smartphone pictures taken in shops.

Layout and counts as published in the folder ``dataset`` of GitHub's marcusklasson/GroceryStoreDataset (MIT licence):
``train.txt``, ``val.txt``, ``test.txt`` with ``path, fine class id, coarse class id`` a line, and ``classes.csv``. The
fine class is the product_id, the coarse one the category. The splits share their classes: test asks, train is searched.
"""

from collections.abc import Iterator
from pathlib import Path

from vitrine.datasets.photo import Photo
from vitrine.datasets.published.adapter import ALL, Count, Counts, Line, always, read_csv, read_lines
from vitrine.errors import UserError

TITLE = "Grocery Store"
ABOUT = "train.txt, val.txt, test.txt, classes.csv"
OBTAIN = "folder dataset of github.com/marcusklasson/GroceryStoreDataset; MIT licence"
PROTOCOL = ("test", "train")
COUNTS: Counts = {
    "train": Count(2_640, None),
    "val": Count(296, None),
    "test": Count(2_485, None),
    ALL: Count(None, 81),
}
FILES: tuple[str, ...] = ("classes.csv",)

_COLUMNS = ("Class ID (int)", "Class Name (str)", "Coarse Class Name (str)")
_LINE = Line("path, fine class, coarse class", r"(.+), *(\d+), *\d+")
parts = always("train.txt", "val.txt", "test.txt")


def rows(root: Path, part: str, start: int = 0, stop: int | None = None) -> Iterator[Photo]:
    classes = {fine: names for fine, *names in read_csv(root / "classes.csv", _COLUMNS)}
    for path, fine in read_lines(root / part, _LINE, start=start, stop=stop):
        if fine not in classes:
            raise UserError(f"{part}: class {fine} of {path!r} is not in classes.csv")
        product, category = classes[fine]
        yield Photo(path, product, f"{root}/{path}", category, part.removesuffix(".txt"))
