"""Who may write: one process of a home at a time, for each thing that two would do wrong together.

Locks are files under ``HOME/locks``, held through the file system: a killed process lets go of its own. They hold on a
local or mounted folder that has ``flock``, which is where a home has to be.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from filelock import FileLock, Timeout

from vitrine.settings import Settings


@contextmanager
def held(settings: Settings, *names: str) -> Iterator[None]:
    """Hold the locks of these names until the block ends; where another process has one, wait for it.

    Always taken in the order of their names, so that two that want several never wait for each other.
    """
    folder = settings.home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for name in sorted(set(names)):
            lock = FileLock(folder / f"{name}.lock")
            try:
                lock.acquire(timeout=1)
            except Timeout:
                print(f"waiting for another process of this home ({name})", file=sys.stderr)
                lock.acquire()
            stack.callback(lock.release)
        yield
