"""Compaction and vacuum of every table, and of what killed runs left."""

import shutil
import time
from functools import partial
from typing import Any

from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F

from spark_jobs.delta_tables import merge_table, read_table, retried
from spark_jobs.session import build_session
from vitrine import lake, photo_store, staging
from vitrine.encoders import tuned
from vitrine.settings import Settings
from vitrine.tables import CATALOG, RUNS, TABLES


def maintain(settings: Settings, keep_days: int, keep_runs_days: int = 400) -> dict[str, Any]:
    """Rows of ``runs`` older than ``keep_runs_days`` go, but for each job's newest; no other row is touched, so joins
    as of an earlier time, by ``valid_from`` and ``event_timestamp``, find all that they found.

    Of every table: OPTIMIZE, then VACUUM files older than ``keep_days``: time travel and the followers' change feed
    reach back that far; a follower that slept longer fills from scratch. Checkpoints of embeddings, training sets and
    unfinished tunings that nobody went on with for as long go too: all can be made again. Of the photo store, what no
    catalog has goes, and beyond ``[sources] keep_gb`` what was kept longest.
    """
    spark = build_session(settings, "maintain")
    figures: dict[str, Any] = {"runs_removed": _remove_old_runs(spark, settings, keep_runs_days), "tables": {}}
    for table in TABLES.values():
        # By SQL: Delta's own methods spell a path between backticks as it is, and it may have some.
        place = table.sql(settings)
        before = _files(spark, place)
        with lake.committing(settings, table):
            retried(f"compaction of {table.name}", partial(spark.sql, f"OPTIMIZE {place}"))
        spark.sql(f"VACUUM {place} RETAIN {keep_days * 24} HOURS")
        figures["tables"][table.name] = f"{before} -> {_files(spark, place)} files"
    until = time.time() - keep_days * 86_400
    figures["checkpoints_removed"] = staging.remove_stale(settings, until)
    return figures | _remove_leftovers(settings, until) | _remove_copies(settings)


def _remove_old_runs(spark: SparkSession, settings: Settings, keep_days: int) -> int:
    """What gates last said, how a data set was last ingested, and so on, is read from the newest row of each job."""
    runs = read_table(spark, settings, RUNS)
    job = ("verb", "dataset", "encoder", "encoder_version", "state", F.get_json_object("figures", "$.gate"))
    newest = F.row_number().over(Window.partitionBy(*job).orderBy(F.desc("started_at")))
    until = F.current_timestamp() - F.expr(f"INTERVAL {keep_days} DAYS")
    old = runs.withColumn("number", newest).filter((F.col("number") > 1) & (F.col("started_at") < until))
    count = old.count()
    if count:
        source = old.drop("number").withColumn("gone", F.lit(True))
        merge_table(spark, settings, RUNS, source, "true", rows=count)
    return count


def _remove_leftovers(settings: Settings, until: float) -> dict[str, int]:
    """Folders of the home that nothing needs and nobody touched since ``until``, in seconds since 1970."""
    strategies = (*tuned.HEADS, *tuned.NETWORKS)
    tunings = [path for strategy in strategies for path in (settings.home / "models" / strategy).glob("*/")]
    judged = list((settings.home / "models" / "ladder").glob("*/"))  # vectors that probes were judged by
    left = {
        "training_sets_removed": [*(settings.home / "training").glob("*/"), *judged],
        "tunings_removed": [path for path in tunings if not (path / "result.json").is_file()],
    }
    counts = {}
    for what, folders in left.items():
        stale = [path for path in folders if max(p.stat().st_mtime for p in (path, *path.iterdir())) < until]
        for path in stale:
            shutil.rmtree(path)
        counts[what] = len(stale)
    return counts


def _remove_copies(settings: Settings) -> dict[str, int]:
    """A copy that no catalog has yet may be of an ingest that runs: it stays for a day. Beyond the limit, copies of
    photos behind links alone go: others cannot be had again by their uri."""
    removed, size, linked_copies = 0, 0, list[photo_store.Copy]()
    for part in photo_store.parts(settings):
        linked = photo_store.LINKED.format(uri="uri")
        sql = (
            f"SELECT content_sha256, bool_and({linked}) AS linked FROM {CATALOG.name} "
            f"WHERE {photo_store.contents_in_sql(part)} GROUP BY content_sha256"
        )
        wanted = {row["content_sha256"]: row["linked"] for row in lake.rows(settings, sql)}
        for copy in photo_store.copies(settings, part):
            if copy.content_sha256 in wanted:
                size += copy.size
                if wanted[copy.content_sha256]:
                    linked_copies.append(copy)
            elif copy.kept_at < time.time() - 86_400:
                photo_store.remove(settings, copy.path)
                removed += 1
    most = size if settings.sources.keep_gb is None else settings.sources.keep_gb * 1e9
    for copy in sorted(linked_copies, key=lambda copy: copy.kept_at):
        if size <= most:
            break
        photo_store.remove(settings, copy.path)
        removed, size = removed + 1, size - copy.size
    return {"photos_removed": removed, "photos_bytes": size}


def _files(spark: SparkSession, place: str) -> int:
    return int(spark.sql(f"DESCRIBE DETAIL {place}").collect()[0]["numFiles"])
