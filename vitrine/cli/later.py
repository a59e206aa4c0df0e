"""What a verb imports as a module (``from spark_jobs import ingest_catalog``) is loaded when the verb first uses it.

So a verb's help waits for no library, and a verb for none that it does not use. ``importlib.util.LazyLoader`` does the
same for any attribute, ``__file__`` too, which libraries ask of every module there is: half-loaded ones came of that.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

ROOMS = ("vitrine", "spark_jobs", "training", "evaluation", "feature_repo")


class _Waiting(ModuleType):
    """A module that is found and not yet run; it runs when it is asked for a name that it does not have."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        loader = self.__spec__.loader if self.__spec__ else None
        assert isinstance(loader, _LaterLoader)
        self.__class__ = ModuleType  # type: ignore[assignment]
        try:
            loader.own.exec_module(self)
        except BaseException:
            self.__class__ = _Waiting  # the next one who asks is told the same
            raise
        return getattr(self, name)


class _LaterLoader(importlib.abc.Loader):
    def __init__(self, own: importlib.abc.Loader) -> None:
        self.own = own

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Waiting(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass  # later


class _Finder(importlib.abc.MetaPathFinder):
    """Finds our modules below the command line."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname.split(".")[0] not in ROOMS or fullname.startswith("vitrine.cli"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec and spec.loader:
            spec.loader = _LaterLoader(spec.loader)
        return spec


@contextmanager
def loaded_later() -> Iterator[None]:
    """Imports of our modules in this block find them, and leave it to their first use to run them."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
