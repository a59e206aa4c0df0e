"""Who may write: one process of a home at a time, for each thing that two would do wrong together.

Locks are files under ``HOME/locks``, held through the file system: a killed process lets go of its own. They hold on a
local or mounted folder that has ``flock``, which is where a home has to be.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from vitrine.errors import VitrineError
from vitrine.settings import Settings

_SILENT_SECONDS = 1.0


class InUse(VitrineError):
    """Another process held a lock for longer than the caller would wait."""


@contextmanager
def held(settings: Settings, *names: str) -> Iterator[None]:
    """Hold the locks of these names until the block ends; where another process has one, wait for it.

    Always taken in the order of their names, so that two that want several never wait for each other.
    """
    with ExitStack() as stack:
        for name in sorted(set(names)):
            path = settings.home / "locks" / f"{name}.lock"
            stack.enter_context(held_file(path, f"waiting for another process of this home ({name})"))
        yield


@contextmanager
def held_file(path: Path, waiting: str = "", seconds: float = -1) -> Iterator[None]:
    """Hold the lock ``path`` until the block ends; where another process has it, say ``waiting`` on stderr and wait for
    so many ``seconds``, -1: for as long as it takes.

    Raises:
        InUse: the other one kept it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    silent = _SILENT_SECONDS if seconds < 0 else min(_SILENT_SECONDS, seconds)
    try:
        lock.acquire(timeout=silent)
    except Timeout:
        if waiting:
            print(waiting, file=sys.stderr)
        try:
            lock.acquire(timeout=seconds if seconds < 0 else seconds - silent)
        except Timeout:
            raise InUse(f"{path} is held by another process") from None
    try:
        yield
    finally:
        lock.release()
