"""Compaction and vacuum of every table, and of what killed runs left."""

import shutil
import time
from typing import Any

from spark_jobs.session import build_session
from vitrine.settings import Settings
from vitrine.tables import TABLES


def maintain(settings: Settings, keep_days: int) -> dict[str, Any]:
    """OPTIMIZE, then VACUUM files older than ``keep_days``: time travel and the followers' change feed reach back
    that far; a follower that slept longer fills from scratch. Rows are never touched. Checkpoints of embeddings that
    nobody went on with for as long go too."""
    from delta.tables import DeltaTable

    spark = build_session(settings, "maintain")
    figures: dict[str, Any] = {"tables": {}}
    for table in TABLES.values():
        delta = DeltaTable.forPath(spark, str(table.path(settings)))
        before = _files(delta)
        delta.optimize().executeCompaction()
        delta.vacuum(keep_days * 24)
        figures["tables"][table.name] = f"{before} -> {_files(delta)} files"
    figures["checkpoints_removed"] = _remove_checkpoints(settings, keep_days)
    return figures


def _remove_checkpoints(settings: Settings, keep_days: int) -> int:
    left, until = settings.home / "staging", time.time() - keep_days * 86_400
    stale = [path for path in left.iterdir() if path.stat().st_mtime < until] if left.is_dir() else []
    for path in stale:
        shutil.rmtree(path)
    return len(stale)


def _files(delta: Any) -> int:
    return int(delta.detail().select("numFiles").first()[0])
