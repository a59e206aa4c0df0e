"""A first fill of Feast's online store by Spark's executors, for millions of rows: each writes its part."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from vitrine.feast_parts import FeatureView, FeatureViewProto, PassthroughProvider, RepoConfig
from vitrine.feature_store import keep_utc, open_store, repo_config
from vitrine.online.sync import BATCH, Rows, feast_rows


def fill_online(spark: SparkSession, source: Rows, until: int) -> int:
    """Write all rows of ``source`` as of Delta version ``until``, the same that ``online_sync`` would send; how many.

    A store that is a file takes them from one task.
    """
    settings, kind = source.settings, source.kind
    store = open_store(settings)
    view = store.get_feature_view(source.view).to_proto().SerializeToString()
    config, columns = repo_config(settings), [*source.columns, f"{source.moment} AS at"]
    rows = (
        spark.read.format("delta")
        .option("versionAsOf", until)
        .load(kind.table.uri(settings))
        .filter(source.where)
        .selectExpr(*columns)
    )

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        written = _write(view, config, source, batches)
        yield pa.RecordBatch.from_pydict({"written": pa.array([written], pa.int64())})

    if settings.feast.online_store == "sqlite":
        rows = rows.coalesce(1)
    total = rows.mapInArrow(write, "written long").agg(F.sum("written")).first()
    return int(total[0] or 0) if total else 0


def _write(view_proto: bytes, config: dict[str, Any], source: Rows, batches: Iterator[pa.RecordBatch]) -> int:
    view, settings = FeatureView.from_proto(FeatureViewProto.FromString(view_proto)), RepoConfig(**config)
    keep_utc(config["online_store"]["type"])
    provider, written = PassthroughProvider(settings), 0
    for batch in batches:
        for start in range(0, len(batch), BATCH):
            part = batch.slice(start, BATCH)
            provider.online_write_batch(settings, view, feast_rows(source, part, int(view.tags.get("dim", 0))), None)
            written += len(part)
    return written
