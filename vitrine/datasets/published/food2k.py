"""Food2K (Min et al., TPAMI 2023, arXiv 2103.16107): photos of dishes.

``Food2k_complete.tar.gz`` and ``Food2k_label.tar.gz`` unpacked side by side: ``Food2k_label/train_finetune.txt``,
``val_finetune.txt`` and ``test_finetune.txt`` with ``path class`` a line, photos in ``Food2k_complete/CLASS/`` (copies
on hubs call it ``Food2k_complete_jpg/``). The class number is the product_id; there is no coarser label.

Sources. Layout: the authors' github.com/Liuyuxinict/prenet, ``train.py`` (lists, ``Food2k_complete/``, path and number
by one space); the archives and ``Food2k_label/``: github.com/visym/vipy, ``vipy/data/food2k.py``. Counts: the paper's
introduction, 1,036,564 photos of 2,000 classes; how many of them each list holds was not found in a source that could
be opened, so only the whole is asserted. Protocol: as UnED (arXiv 2309.01858) does, test is query and index
(github.com/nikosips/Universal-Image-Embeddings, ``universal_embedding/dataset_infos.py``); UnED cut a test split of its
own of 9,979 photos, here it is the published one. Licence: none is stated; the authors give the data to those who ask.
"""

from collections.abc import Iterator
from pathlib import Path

from vitrine.datasets.photo import Photo
from vitrine.datasets.published.adapter import ALL, Count, Counts, Line, always, read_lines

TITLE = "Food2K"
ABOUT = "Food2k_label/train_finetune.txt, val_finetune.txt, test_finetune.txt, photos in Food2k_complete/CLASS/"
OBTAIN = (
    "Food2k_complete and Food2k_label of the authors on request, 123.57.42.89/FoodProject.html; no licence is stated"
)
PROTOCOL = ("test", "test")
COUNTS: Counts = {ALL: Count(1_036_564, 2_000)}
FILES: tuple[str, ...] = ()

_SPLITS = {f"Food2k_label/{split}_finetune.txt": split for split in ("train", "val", "test")}
_LINE = Line("path class", r"(\S+) (\d+)")
parts = always(*_SPLITS)


def rows(root: Path, part: str, start: int = 0, stop: int | None = None) -> Iterator[Photo]:
    hub = root / "Food2k_complete_jpg"
    folder = hub if hub.is_dir() else root / "Food2k_complete"
    for path, label in read_lines(root / part, _LINE, start=start, stop=stop):
        yield Photo(path, label, f"{folder}/{path}", split=_SPLITS[part])
