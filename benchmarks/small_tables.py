"""Small tables with and without Spark's plans: seconds of a merge, and of reading a table whole and grouping it.

python benchmarks/small_tables.py --rows 1000 4000 16000
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from spark_jobs import delta_tables
from spark_jobs.session import build_session
from vitrine import lake
from vitrine.encoders import processor
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS
from vitrine.vectors import lists

DIM, ROUNDS, CHANGES = 512, 3, (20, 500, 2000)
HANDED, READ = (1 << 40, 1 << 40), (0, 0)
"""Bytes and rows up to which a table is handed to Spark: any, and none."""


def rows(first: int, count: int) -> pa.Table:
    """Rows of ``embeddings`` with random vectors."""
    ids = pa.array([f"d/{number:07}" for number in range(first, first + count)])
    vectors = lists(np.random.default_rng(first).normal(size=(count, DIM)).astype(np.float32))
    same = {"encoder_version": "v", "dataset": "d", "encoder": "e"}
    columns: dict[str, Any] = {name: pa.array([value] * count) for name, value in same.items()}
    columns |= dict.fromkeys(("image_id", "product_id", "content_sha256"), ids) | {"embedding": vectors}
    columns |= dict.fromkeys(
        ("event_timestamp", "created_timestamp"), pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * count)
    )
    made = [columns[f.name] if f.name in columns else pa.nulls(count, f.type) for f in EMBEDDINGS.schema]
    return pa.table(dict(zip(EMBEDDINGS.schema.names, made, strict=True))).cast(EMBEDDINGS.schema)


def seconds(work: Callable[[], Any]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def compare(without: Callable[[], Any], by_spark: Callable[[], Any]) -> str:
    """The medians of interleaved rounds, and their ratio, as cells of a table."""
    times = [(seconds(without), seconds(by_spark)) for _ in range(ROUNDS)]
    ours, spark = (statistics.median(each) for each in zip(*times, strict=True))
    return f"{ours:.2f} | {spark:.2f} | {spark / ours:.1f}"


def measured(spark: Any, settings: Settings, count: int) -> None:
    """The table's lines of a lake with ``count`` rows at first: half of each change are new rows."""
    lake.write(settings, EMBEDDINGS, rows(0, count))

    def read(up_to: tuple[int, int]) -> None:
        lake._SMALL = up_to
        delta_tables.read_table(spark, settings, EMBEDDINGS).groupBy("product_id").count().filter("count > 1").count()

    size = f"{lake.size(settings, EMBEDDINGS).bytes / 2**20:.0f} MiB"
    print(f"| {count} ({size}) | reading | {compare(lambda: read(HANDED), lambda: read(READ))} |", flush=True)
    for change in CHANGES:
        source = rows(count - change // 2, change).append_column("gone", pa.array([False] * change))
        frame = spark.createDataFrame(source)

        def merge(known: int | None, frame: Any = frame) -> None:
            delta_tables.merge_table(spark, settings, EMBEDDINGS, frame, "t.encoder_version = 'v'", rows=known)

        cells = compare(lambda change=change, merge=merge: merge(change), lambda merge=merge: merge(None))  # type: ignore[misc]
        print(f"| {count} ({size}) | merging {change} | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 4000, 16000], help="of the table at first")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitrine-small-") as folder:
        homes = {count: Settings(root=Path(folder), home=Path(folder) / str(count)) for count in given.rows}
        spark = build_session(homes[given.rows[0]], "small tables")
        warm = Settings(root=Path(folder), home=Path(folder) / "warm")
        print("warming up", file=sys.stderr)
        with redirect_stdout(StringIO()):
            measured(spark, warm, 1000)
        print(
            f"{os.cpu_count()} cores, {processor.model()} ({processor.instruction_set()}), medians of {ROUNDS} rounds\n"
        )
        print("| rows at first | what | without Spark's plans, s | by Spark, s | times |\n|---|---|---|---|---|")
        for count, settings in homes.items():
            measured(spark, settings, count)


if __name__ == "__main__":
    main()
