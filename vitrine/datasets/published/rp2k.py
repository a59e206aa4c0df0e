"""RP2K (Peng et al., 2020, arXiv 2006.12634): retail products photographed on shops' shelves.

``rp2k_dataset.zip`` unpacked: ``all/train/CLASS/`` and ``all/test/CLASS/``, the class by its name, mostly Chinese: the
product_id; there is no coarser label. A tool that unpacks the names in another character set changes them.

Sources. Layout and the 2,388 classes by name: TensorBay's ``RP2K`` (github.com/Graviti-AI/tensorbay-python-sdk,
``tensorbay/opendataset/RP2K/loader.py``, ``catalog.json``). 39,457 photos to test: MTEB
(github.com/embeddings-benchmark/mteb, ``RP2kI2IRetrieval``), whose licence entry says "not specified". How many photos
there are to learn from was not found in a source that could be opened, so it is not asserted. Protocol: test is query
and index, as in MTEB and in UnED (arXiv 2309.01858, github.com/nikosips/Universal-Image-Embeddings,
``universal_embedding/dataset_infos.py``); UnED cut a test split of its own of 10,931 photos, here it is all of it.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from vitrine.datasets import folder
from vitrine.datasets.photo import Photo
from vitrine.datasets.published.adapter import ALL, Count, Counts

TITLE = "RP2K"
ABOUT = "all/train/CLASS/PHOTO, all/test/CLASS/PHOTO"
OBTAIN = "rp2k_dataset.zip of www.pinlandata.com/rp2k_dataset; no licence is stated"
PROTOCOL = ("test", "test")
COUNTS: Counts = {"test": Count(39_457, None), ALL: Count(None, 2_388)}
FILES: tuple[str, ...] = ("all/train", "all/test")


def parts(root: Path) -> list[str]:
    """The class folders."""
    splits = [name for name in FILES if (root / name).is_dir()]
    return [f"{split}/{name}" for split in splits for name in folder.local_folders(str(root / split), str(root))]


def rows(root: Path, part: str, start: int = 0, stop: int | None = None) -> Iterator[Photo]:
    split, _, product = part.rpartition("/")
    for photo in islice(folder.photos(folder.unit(str(root), split, [product])), start, stop):
        yield replace(photo, split=split.removeprefix("all/"))
