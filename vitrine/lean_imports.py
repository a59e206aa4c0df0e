"""A library is imported without the parts of it, or of others, that Vitrine does not use and that take its seconds."""

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def left_out(absent: Collection[str] = (), empty: Collection[str] = ()) -> Iterator[None]:
    """Imports in this block find no module of ``absent``, and those of ``empty`` without a name in them.

    ``absent`` is for what a library does without, ``empty`` for what it imports and never touches. A module that is
    loaded already stays as it is, and who imports one after the block gets it.
    """
    stand_ins: dict[str, ModuleType | None] = dict.fromkeys(name for name in absent if name not in sys.modules)
    stand_ins |= {name: ModuleType(name) for name in empty if name not in sys.modules}
    sys.modules.update(stand_ins)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]
