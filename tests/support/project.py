"""Where things are, for tests in any folder."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

PROJECT = Path(__file__).resolve().parents[2]
SHARED = PROJECT.parent / "shared"
"""Photos and weights that are no part of the project: tests that need them skip where they are absent."""


def load_script(path: Path) -> ModuleType:
    """A script that lies in no package, as a module of its own."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module
