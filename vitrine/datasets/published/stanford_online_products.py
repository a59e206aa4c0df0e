"""Stanford Online Products (Song et al., CVPR 2016, arXiv 1511.06452): photos of eBay's listings.

``Stanford_Online_Products.zip`` unpacked: ``Ebay_train.txt`` and ``Ebay_test.txt`` with a header and
``image_id class_id super_class_id path`` a line, photos in ``bicycle_final/`` to ``toaster_final/``. The class is the
product_id; the folder of the super class, without ``_final``, is the category.

Sources. Layout and counts: github.com/OML-Team/open-metric-learning, ``pipelines/datasets_converters/README.md``
(120,053 photos, 22,634 classes; 59,551 of 11,318 to learn from, 60,502 of 11,316 to test) and ``convert_sop.py``
(columns; test is query and index). UnED (arXiv 2309.01858) tests it in the same way on the same 60,502 photos
(github.com/nikosips/Universal-Image-Embeddings, ``universal_embedding/dataset_infos.py``). Licence: none is stated;
MTEB (github.com/embeddings-benchmark/mteb, ``SOPI2IRetrieval``) says "not specified".
"""

from collections.abc import Iterator
from pathlib import Path

from vitrine.datasets.photo import Photo
from vitrine.datasets.published.adapter import Count, Counts, Line, always, read_lines

TITLE = "Stanford Online Products"
ABOUT = "Ebay_train.txt, Ebay_test.txt, bicycle_final/ to toaster_final/"
OBTAIN = "Stanford_Online_Products.zip of cvgl.stanford.edu/projects/lifted_struct; no licence is stated"
PROTOCOL = ("test", "test")
COUNTS: Counts = {"train": Count(59_551, 11_318), "test": Count(60_502, 11_316)}
FILES: tuple[str, ...] = ()

_SPLITS = {"Ebay_train.txt": "train", "Ebay_test.txt": "test"}
_FORM = "image_id class_id super_class_id path"
_LINE = Line(_FORM, r"\d+ (\d+) \d+ (([^/\s]+)/\S+)")
parts = always(*_SPLITS)


def rows(root: Path, part: str, start: int = 0, stop: int | None = None) -> Iterator[Photo]:
    for label, path, folder in read_lines(root / part, _LINE, (Line(_FORM, _FORM),), start, stop):
        yield Photo(path, label, f"{root}/{path}", folder.removesuffix("_final"), _SPLITS[part])
