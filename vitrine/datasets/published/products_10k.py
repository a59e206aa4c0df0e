"""Products-10K (Bai et al., 2020, arXiv 2008.10545): photos of products that are often bought at JD.com.

``train.zip`` and ``test.zip`` unpacked into ``train/`` and ``test/``, beside ``train.csv`` (``name,class,group``) and
``test_kaggletest.csv`` (``name,class`` and one column more). The class, a stock-keeping unit, is the product_id; the
group is the category, which a test photo has from the photos of its class in ``train.csv``.

Sources. Terms: the data set's page (github.com/products-10k/products-10k.github.io, ``challenge.html``): "can only be
used for non-commercial research and educational purposes". Columns and folders: loaders in public use, as UniFEx
(github.com/morrisfl/UniFEx, ``src/datasets/products10k.py``). Counts: 141,931 photos of 9,691 classes to learn from, as
public converters of ``train.csv`` say; the page itself says "nearly 190,000" in all. How many photos the test has was
not found in a source that could be trusted, so it is not asserted. Protocol: UnED has not this data set; the
test's classes are the training photos', so test asks and train is searched.
"""

from collections.abc import Iterator
from pathlib import Path

from vitrine.datasets.photo import Photo
from vitrine.datasets.published.adapter import Count, Counts, always, read_csv

TITLE = "Products-10K"
ABOUT = "train.csv, test_kaggletest.csv, photos in train/, test/"
OBTAIN = (
    "products-10k.github.io/challenge.html or Kaggle's competition products-10k; "
    "non-commercial research and education only"
)
PROTOCOL = ("test", "train")
COUNTS: Counts = {"train": Count(141_931, 9_691)}
FILES: tuple[str, ...] = ()

_SPLITS = {"train.csv": "train", "test_kaggletest.csv": "test"}
parts = always(*_SPLITS)


def rows(root: Path, part: str, start: int = 0, stop: int | None = None) -> Iterator[Photo]:
    groups = {row[0]: row[1] for row in read_csv(root / "train.csv", ("class", "group"))}
    split = _SPLITS[part]
    for name, label in read_csv(root / part, ("name", "class"), start, stop):
        path = f"{split}/{name}"
        yield Photo(path, label, f"{root}/{path}", groups.get(label), split)
