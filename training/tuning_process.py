"""A tuning's own process: ``python -m training.MODULE FOLDER [--estimate]``."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitrine import files
from vitrine.images import ImageError

Job = Callable[[Path], dict[str, Any]]


def run(tune: Job, estimate: Job, folder: Path, estimating: bool) -> None:
    """Tune, or write ``estimate.json``; what goes wrong for a known reason is one line on stderr, and exit code 1."""
    try:
        if estimating:
            files.write_json(folder / "estimate.json", estimate(folder))
        else:
            tune(folder)
    except (ArithmeticError, ImageError, OSError) as error:
        sys.exit(f"{error}")
