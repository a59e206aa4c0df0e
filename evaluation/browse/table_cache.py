"""Values computed from tables, kept in memory until a table that they come from moves on."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from vitrine import lake
from vitrine.settings import Settings
from vitrine.tables import Table

T = TypeVar("T")
TableVersions = dict[str, int]
"""Of tables by name: the Delta versions to read."""


class TableCache(Generic[T]):
    """``compute(settings, versions, *key)`` by key, as new as ``tables``; the ``most`` keys asked for last are kept.

    Asking costs a look at each table's log. Threads may ask at once: one computes, the others wait for it.
    """

    def __init__(
        self, settings: Settings, tables: tuple[Table, ...], compute: Callable[..., T], most: int = 16
    ) -> None:
        self._settings, self._tables, self._compute, self._most = settings, tables, compute, most
        self._held: OrderedDict[tuple[str, ...], tuple[TableVersions, T]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, *key: str) -> T:
        with self._lock:
            versions = {table.name: lake.version(self._settings, table) for table in self._tables}
            held = self._held.get(key)
            if held is None or held[0] != versions:
                self._held.pop(key, None)  # first, so that never two of one key fill the memory
                held = versions, self._compute(self._settings, versions, *key)
                self._held[key] = held
            self._held.move_to_end(key)
            while len(self._held) > self._most:
                self._held.popitem(last=False)
            return held[1]
