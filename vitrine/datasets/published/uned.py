"""UnED (Ypsilantis et al., ICCV 2023, arXiv 2309.01858): splits of its own of data sets that were published before.

``info_files.zip`` unpacked beside a folder ``images``: ``info_files/NAME/SPLIT.json`` is a list of objects with
``path``, from ``images`` on, and ``class_id``. The class is the product_id, after its split's name, since the lists do
not say whether two splits count their classes from one zero; there is no coarser label. The classes of ``val`` are none
of those to learn from, so it is called ``uned_val``: tuning takes its validation photos from ``train``.

Sources. Lists, folders, counts and protocol: github.com/nikosips/Universal-Image-Embeddings (``README.md``,
``prepare_data.sh``, ``convert_to_tfrecord_from_file.py``, ``universal_embedding/dataset_infos.py``). The lists
themselves could not be opened here, so how many classes the splits to test have is not asserted. UnED's own figures
search all its domains at once ("merged"); here each data set is searched by itself ("separate").
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from vitrine.datasets.photo import Photo
from vitrine.datasets.published.adapter import Count, Counts
from vitrine.errors import UserError

TRAIN, VAL, TEST, INDEX = "train", "uned_val", "test", "index"
_FILES = {TRAIN: "train", VAL: "val", TEST: "test", INDEX: "index"}


class UnED:
    """The adapter of one of its data sets; ``index`` is there where test photos search other photos than themselves."""

    OBTAIN = "info_files.zip of cmp.felk.cvut.cz/univ_emb, and the photos from where they were published"
    FILES: tuple[str, ...] = ()

    def __init__(self, name: str, images: str, train: Count, val: int, test: int, index: int | None = None) -> None:
        self.TITLE = f"UnED's {name}"
        self.COUNTS: Counts = {TRAIN: train, VAL: Count(val, None), TEST: Count(test, None)}
        if index is not None:
            self.COUNTS[INDEX] = Count(index, None)
        self.PROTOCOL = (TEST, TEST if index is None else INDEX)
        self._lists = {f"info_files/{name}/{_FILES[split]}.json": split for split in self.COUNTS}
        self.ABOUT = f"{', '.join(self._lists)}, photos in images/{images}/"

    def parts(self, root: Path) -> list[str]:
        return list(self._lists)

    def rows(self, root: Path, part: str, start: int = 0, stop: int | None = None) -> Iterator[Photo]:
        split = self._lists[part]
        classes = "test" if split == INDEX else split
        for listed in islice(_read(root / part), start, stop):
            try:
                path, number = str(listed["path"]), int(listed["class_id"])
            except (KeyError, TypeError, ValueError):
                raise UserError(f"{part}: {str(listed)[:200]!r} has no 'path' and number 'class_id'") from None
            yield Photo(path, f"{classes}-{number}", f"{root}/images/{path}", split=split)


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {str(path)!r} as JSON: {error}") from None
    if not isinstance(listed, list):
        raise UserError(f"{str(path)!r} holds no list of photos")
    return listed


CARS = UnED("cars", "cars/car_ims", Count(6_346, 78), 1_708, 8_131)
FOOD2K = UnED("food2k", "food2k/Food2k_complete", Count(472_349, 900), 49_323, 9_979)
INSHOP = UnED("inshop", "deepfashion/inshop/img", Count(20_897, 3_198), 4_982, 14_218, 12_612)
RP2K = UnED("rp2k", "rp2k/all", Count(188_724, 1_074), 17_185, 10_931)
SOP = UnED("sop", "sop", Count(48_942, 9_054), 10_609, 60_502)
