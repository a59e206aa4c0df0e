"""A tuning's own process, ``python -m training.MODULE FOLDER [--estimate]``, and the files by which it is asked and
answers: ``request.json``, ``result.json`` and ``estimate.json`` in ``FOLDER``."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from vitrine import files
from vitrine.images import ImageError

REQUEST, RESULT, ESTIMATE = "request.json", "result.json", "estimate.json"
Work = Callable[[Path], dict[str, Any]]


@dataclass(frozen=True)
class TuningRequest:
    """What is to be tuned: plain data, as ``request.json`` holds it."""

    training_set: str
    """The training set's folder."""
    rows: dict[str, int]
    """How many ``train/`` and ``validation/`` have."""
    classes: list[str]
    settings: dict[str, Any]
    """Of ``TopSettings``, ``LinearSettings`` or one of ``NetworkSettings``."""
    seed: int

    @classmethod
    def read(cls, folder: Path) -> Self:
        return cls(**json.loads((folder / REQUEST).read_text()))


@dataclass(frozen=True)
class FullTuningRequest(TuningRequest):
    """The same of full tuning, which starts from a backbone and reads photos."""

    backbone: dict[str, Any]
    """Of ``Backbone``."""
    max_pixels: int
    from_head: bool = False
    """Does it start from a fitted classifier, as ``training.head_first`` says?"""


@dataclass(frozen=True)
class LinearTuningRequest(TuningRequest):
    """The same of linear tuning, which is told how its vectors will be asked."""

    known_share: float
    """Of the photos that will be asked about, how many show a product that was learned; in [0, 1]."""
    validation_from: str
    """As ``TrainingSet`` has it."""


@dataclass(frozen=True)
class PhotoVectorsRequest:
    """Which photos of a training set are embedded, by which network."""

    training_set: str
    rows: dict[str, int]
    """By part: how many of its first rows."""
    backbone: dict[str, Any]
    """Of ``Backbone``, with the tuned weights."""
    max_pixels: int

    @classmethod
    def read(cls, folder: Path) -> Self:
        return cls(**json.loads((folder / REQUEST).read_text()))


def read_result(folder: Path) -> dict[str, Any] | None:
    """What came of the tuning in ``folder``; None where it has not come to its end."""
    path = folder / RESULT
    return dict(json.loads(path.read_text())) if path.is_file() else None


def run(tune: Work, estimate: Work, arguments: list[str]) -> None:
    """Tune in the folder of ``arguments``, or estimate; an error of a known kind is one line on stderr and exit 1."""
    folder = Path(arguments[0])
    try:
        if arguments[1:] == ["--estimate"]:
            files.write_json(folder / ESTIMATE, estimate(folder))
        else:
            tune(folder)
    except (ArithmeticError, ImageError, OSError) as error:
        sys.exit(f"{error}")
