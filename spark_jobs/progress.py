"""How far Spark's work is, on stderr."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark import StatusTracker
from pyspark.sql import SparkSession

_LOOK_SECONDS = 0.5
_LINE_SECONDS = 10


@contextmanager
def progress(spark: SparkSession, what: str, total: int | None = None) -> Iterator[None]:
    """Draw how far Spark's stages are while the block runs; plain lines where stderr is no terminal.

    ``total`` is the number of photos that the block works on; tasks hold equal shares of them.
    """
    over = threading.Event()
    thread = threading.Thread(target=_draw, args=(spark, what, total, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _draw(spark: SparkSession, what: str, total: int | None, over: threading.Event) -> None:
    # Here, so that Spark's workers, which import the jobs and draw nothing, load nothing to draw with.
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    stages = _Stages(spark.sparkContext.statusTracker())
    is_log = not sys.stderr.isatty()
    columns = [*Progress.get_default_columns(), TimeElapsedColumn(), *([MofNCompleteColumn()] if total else [])]
    with Progress(*columns, console=Console(stderr=True), disable=is_log, redirect_stdout=False) as bar:
        task = bar.add_task(what, total=total or 1)
        start = last_line = time.monotonic()
        while not over.wait(_LOOK_SECONDS):
            share, now = stages.share_done(), time.monotonic()
            bar.update(task, completed=(total or 1) * share)
            if is_log and now - last_line > _LINE_SECONDS:
                last_line = now
                photos = f"{round(total * share)} of {total}, " if total else ""
                print(f"{what}: {photos}{now - start:.0f} s", file=sys.stderr, flush=True)
        bar.update(task, completed=total or 1)


class _Stages:
    """The stages that ran since this was made."""

    def __init__(self, tracker: StatusTracker) -> None:
        self._tracker = tracker
        self._tasks: dict[int, tuple[int, int]] = {}  # by stage: those that ended, and all

    def share_done(self) -> float:
        """How much is done of the stage with the most tasks (of several, the one that is furthest), 0 to 1."""
        for stage in self._tracker.getActiveStageIds():
            if info := self._tracker.getStageInfo(stage):
                self._tasks[stage] = info.numCompletedTasks, info.numTasks
        most = max((count for _, count in self._tasks.values()), default=0)
        furthest = max((ended for ended, count in self._tasks.values() if count == most), default=0)
        return furthest / most if most else 0.0
