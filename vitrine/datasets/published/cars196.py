"""Cars196, also Stanford Cars (Krause et al., 3dRR-13): photos of cars, a class being make, model and year.

Either form in which it was published, unpacked: ``cars_annos.mat`` with ``car_ims/``, or the parts ``cars_train/``,
``cars_test/``, ``devkit/`` and ``cars_test_annos_withlabels.mat``. The name of the class is the product_id; there is no
coarser label. The splits of the layout ``cars196`` are those of metric learning, the first 98 classes to learn from and
the last 98 to test: no class is in both, so they measure retrieval. Those of ``cars196_devkit`` are the devkit's two
parts, 8,144 and 8,041 photos, which share all 196 classes: the protocol of classification.

Sources. The parts, their fields and numbers of photos: torchvision's ``StanfordCars`` (github.com/pytorch/vision,
``torchvision/datasets/stanford_cars.py``) and the devkit's ``README.txt``. ``cars_annos.mat`` and its fields: metric
learning's loaders, and UnED, which takes ``car_ims/``. The split: pytorch-metric-learning's ``cars196.py``
(github.com/KevinMusgrave/pytorch-metric-learning); 8,131 photos to test, 6,346 + 1,708 to learn from and validate, and
that test is query and index: UnED (arXiv 2309.01858, github.com/nikosips/Universal-Image-Embeddings,
``universal_embedding/dataset_infos.py``). Licence: none is stated; MTEB (github.com/embeddings-benchmark/mteb,
``StanfordCarsI2IRetrieval``) says "not specified".
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitrine.datasets.photo import Photo
from vitrine.datasets.published.adapter import Count, Counts
from vitrine.errors import UserError

TITLE = "Cars196"
ABOUT = (
    "cars_annos.mat with car_ims/, or devkit/cars_meta.mat, devkit/cars_train_annos.mat, "
    "cars_test_annos_withlabels.mat with cars_train/, cars_test/"
)
OBTAIN = "copies on Kaggle, as github.com/pytorch/vision/issues/7545 says; no licence is stated"
PROTOCOL = ("test", "test")
COUNTS: Counts = {"train": Count(8_054, 98), "test": Count(8_131, 98)}
FILES: tuple[str, ...] = ()

_WHOLE = "cars_annos.mat"
_META = "devkit/cars_meta.mat"
_TEST_PART = "cars_test_annos_withlabels.mat"
_FOLDERS = {"devkit/cars_train_annos.mat": "cars_train/", _TEST_PART: "cars_test/"}
_LAST_TO_LEARN_FROM = 98


def parts(root: Path) -> list[str]:
    return [_WHOLE] if (root / _WHOLE).exists() else list(_FOLDERS)


def rows(root: Path, part: str, start: int = 0, stop: int | None = None) -> Iterator[Photo]:
    for photo, number, _ in _listed(root, part, start, stop):
        yield replace(photo, split="train" if number <= _LAST_TO_LEARN_FROM else "test")


def _listed(root: Path, part: str, start: int, stop: int | None, *more: str) -> Iterator[tuple[Photo, int, Any]]:
    """Photos without a split, the number of each one's class, and the record."""
    names = _read(root / (_WHOLE if part == _WHOLE else _META), "class_names")
    annotations = _read(root / part, "annotations")
    fields = ("relative_im_path" if part == _WHOLE else "fname", "class", *more)
    if not set(fields).issubset(annotations.dtype.names or ()):
        raise UserError(f"{part} has no {' and '.join(fields)}: it has {annotations.dtype.names or 'no fields'}")
    for record in annotations[start:stop]:
        path, number = f"{_FOLDERS.get(part, '')}{record[fields[0]]}", record[fields[1]]
        if not str(number).isdecimal() or not 1 <= int(number) <= len(names):
            raise UserError(f"{part}: class {number} of {path!r} is none of 1 to {len(names)}")
        yield Photo(path, str(names[int(number) - 1]), f"{root}/{path}"), int(number), record


def _read(path: Path, variable: str) -> Any:
    """A variable of a MATLAB file, an array of one dimension."""
    import numpy as np
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        variables = loadmat(path, squeeze_me=True, variable_names=[variable])
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        raise UserError(f"cannot read {str(path)!r} as a MATLAB file: {error}") from None
    if variable not in variables:
        raise UserError(f"{path.name} has no variable {variable}: it is not the one that was published")
    return np.atleast_1d(variables[variable])


class Devkit:
    """The same photos, in the devkit's own two parts."""

    TITLE, ABOUT, OBTAIN, FILES = f"{TITLE}, the devkit's split", ABOUT, OBTAIN, FILES
    PROTOCOL = ("test", "train")

    def __init__(self) -> None:
        self.COUNTS: Counts = {"train": Count(8_144, 196), "test": Count(8_041, 196)}

    def parts(self, root: Path) -> list[str]:
        return parts(root)

    def rows(self, root: Path, part: str, start: int = 0, stop: int | None = None) -> Iterator[Photo]:
        whole = part == _WHOLE  # of one file, a field tells the parts apart
        for photo, _, record in _listed(root, part, start, stop, *(["test"] if whole else [])):
            in_test = bool(record["test"]) if whole else part == _TEST_PART
            yield replace(photo, split="test" if in_test else "train")


DEVKIT = Devkit()
