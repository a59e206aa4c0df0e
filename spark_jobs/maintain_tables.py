"""Compaction and vacuum of every table, and of what killed runs left."""

import shutil
import time
from typing import Any

from spark_jobs import staging
from spark_jobs.session import build_session
from vitrine.settings import Settings
from vitrine.tables import TABLES


def maintain(settings: Settings, keep_days: int) -> dict[str, Any]:
    """OPTIMIZE, then VACUUM files older than ``keep_days``: time travel and the followers' change feed reach back
    that far; a follower that slept longer fills from scratch. Rows are never touched. Checkpoints of embeddings,
    training sets and unfinished tunings that nobody went on with for as long go too: all can be made again."""
    from delta.tables import DeltaTable

    spark = build_session(settings, "maintain")
    figures: dict[str, Any] = {"tables": {}}
    for table in TABLES.values():
        delta = DeltaTable.forPath(spark, table.uri(settings))
        before = _files(delta)
        delta.optimize().executeCompaction()
        delta.vacuum(keep_days * 24)
        figures["tables"][table.name] = f"{before} -> {_files(delta)} files"
    until = time.time() - keep_days * 86_400
    figures["checkpoints_removed"] = staging.remove_stale(spark, settings, until)
    return figures | _remove_leftovers(settings, until)


def _remove_leftovers(settings: Settings, until: float) -> dict[str, int]:
    """Folders of the home that nothing needs and nobody touched since ``until``, in seconds since 1970."""
    tunings = [path for strategy in ("top", "full") for path in (settings.home / "models" / strategy).glob("*/")]
    left = {
        "training_sets_removed": list((settings.home / "training").glob("*/")),
        "tunings_removed": [path for path in tunings if not (path / "result.json").is_file()],
    }
    counts = {}
    for what, folders in left.items():
        stale = [path for path in folders if max(p.stat().st_mtime for p in (path, *path.iterdir())) < until]
        for path in stale:
            shutil.rmtree(path)
        counts[what] = len(stale)
    return counts


def _files(delta: Any) -> int:
    return int(delta.detail().select("numFiles").first()[0])
