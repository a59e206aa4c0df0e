"""Grocery Store (Klasson et al., WACV 2019, arXiv 1901.00711): smartphone pictures taken in shops.

Layout and counts as published in the folder ``dataset`` of GitHub's marcusklasson/GroceryStoreDataset (MIT licence):
``train.txt``, ``val.txt``, ``test.txt`` with ``path, fine class id, coarse class id`` a line, and ``classes.csv``. The
fine class is the product_id, the coarse one the category.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from vitrine.datasets.layouts import Photo
from vitrine.errors import UserError
from vitrine.settings import Settings

ABOUT = "Grocery Store as published: train.txt, val.txt, test.txt, classes.csv"
PUBLISHED_PHOTOS = {"train": 2640, "val": 296, "test": 2485}
PUBLISHED_CLASSES = 81


def units(settings: Settings, source: str) -> list[str]:
    """One unit a split.

    Raises:
        UserError: a file is not there, or the counts are not the published ones.
    """
    root = (settings.root / Path(source).expanduser()).resolve()
    wanted = [root / "classes.csv", *(root / f"{split}.txt" for split in PUBLISHED_PHOTOS)]
    missing = [path.name for path in wanted if not path.is_file()]
    if missing:
        raise UserError(f"no {', '.join(missing)} in {source!r}: layout grocery_store is {ABOUT}")
    found = {split: sum(1 for _ in _lines(root, split)) for split in PUBLISHED_PHOTOS}
    if found != PUBLISHED_PHOTOS or len(_classes(root)) != PUBLISHED_CLASSES:
        raise UserError(
            f"{source!r} has {found} photos and {len(_classes(root))} classes; "
            f"Grocery Store as published has {PUBLISHED_PHOTOS} and {PUBLISHED_CLASSES}"
        )
    return [json.dumps([str(root), split]) for split in PUBLISHED_PHOTOS]


def photos(unit: str) -> Iterator[Photo]:
    root, split = json.loads(unit)
    classes = _classes(Path(root))
    for path, fine, _ in _lines(Path(root), split):
        product, category = classes[fine]
        yield Photo(image_id=path, product_id=product, uri=f"{root}/{path}", category=category, split=split)


def _lines(root: Path, split: str) -> Iterator[tuple[str, str, str]]:
    with (root / f"{split}.txt").open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            parts = [part.strip() for part in line.rsplit(",", 2)]
            if len(parts) != 3:
                raise UserError(f"{split}.txt line {number}: {line.strip()!r} is not 'path, fine class, coarse class'")
            yield parts[0], parts[1], parts[2]


def _classes(root: Path) -> dict[str, tuple[str, str]]:
    """Fine class id -> (fine name, coarse name)."""
    with (root / "classes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return {row[1]: (row[0], row[2]) for row in rows}
