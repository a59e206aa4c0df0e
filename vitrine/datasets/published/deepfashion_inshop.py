"""DeepFashion In-shop Clothes Retrieval (Liu et al., CVPR 2016): a fashion shop's photos of each item, several views.

The benchmark's folder as published: ``Eval/list_eval_partition.txt`` (first the number of photos, then a header, then
``image_name item_id evaluation_status`` a line) and ``Img/img/``, which is ``img.zip`` unpacked. The item is the
product_id; what stands in the path before it, as in ``WOMEN/Dresses``, is the category.

Sources. Layout, 52,712 photos and licence ("RESTRICTED to non-commercial research and educational purposes"): the data
set's own ``README.txt`` (a copy: github.com/czla/cloth-image-retrieval, ``data/InShop/``). Photos a split: mmpretrain's
``InShop`` (github.com/open-mmlab/mmpretrain, ``mmpretrain/datasets/inshop.py``) and UnED's ``dataset_infos.py``
(github.com/nikosips/Universal-Image-Embeddings). Items: 7,982 in OML's ``convert_inshop.py``
(github.com/OML-Team/open-metric-learning), the usual 3,997 to learn from and 3,985 to test.
"""

from collections.abc import Iterator
from pathlib import Path

from vitrine.datasets.photo import Photo
from vitrine.datasets.published.adapter import Count, Counts, Line, always, read_lines

TITLE = "DeepFashion In-shop"
ABOUT = "Eval/list_eval_partition.txt, photos in Img/img/"
OBTAIN = (
    "img.zip and list_eval_partition.txt of mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html; "
    "non-commercial research and education only"
)
PROTOCOL = ("query", "gallery")
COUNTS: Counts = {"train": Count(25_882, 3_997), "query": Count(14_218, 3_985), "gallery": Count(12_612, 3_985)}
FILES: tuple[str, ...] = ()

_FORM = "image_name item_id evaluation_status"
_HEADER = (Line("the number of photos", r"\d+"), Line(_FORM, r"image_name\s+item_id\s+evaluation_status"))
_LINE = Line(f"{_FORM} (train, query or gallery)", r"(img/(\S+)/[^/\s]+/[^/\s]+)\s+(\S+)\s+(train|query|gallery)")
parts = always("Eval/list_eval_partition.txt")


def rows(root: Path, part: str, start: int = 0, stop: int | None = None) -> Iterator[Photo]:
    for path, category, item, split in read_lines(root / part, _LINE, _HEADER, start, stop):
        yield Photo(path, item, f"{root}/Img/{path}", category, split)
