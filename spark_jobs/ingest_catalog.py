"""A source's photos into the catalog: listed, checked and hashed on the executors; what cannot be read quarantined."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs.delta_tables import merge_table, persisted, read_table, spark_schema
from spark_jobs.progress import progress
from spark_jobs.quarantine import merge_quarantine
from spark_jobs.session import build_session
from vitrine import lake, locks, photo_files, s3
from vitrine.datasets import registry
from vitrine.errors import GateRefused, UserError, one_line, reason
from vitrine.images import ImageError
from vitrine.names import NAME_RULE, check_name
from vitrine.runs import IngestCounts
from vitrine.settings import Settings
from vitrine.tables import CATALOG, LABELS

_LISTED = pa.schema(
    [(name, pa.string()) for name in ("image_id", "product_id", "category", "split", "uri", "code", "reason")]
)
_KNOWN = ("uri", "size", "modified_at", "content_sha256", "width", "height", "product_id", "category", "split")
_CHECKED = pa.schema(
    [
        *_LISTED,
        ("size", pa.int64()),
        ("modified_at", pa.timestamp("us", tz="UTC")),
        ("content_sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("was_known", pa.bool_()),
        ("same_content", pa.bool_()),
        ("same_row", pa.bool_()),
    ]
)


def ingest(
    settings: Settings,
    source: str,
    dataset: str,
    layout: str = "folder",
    *,
    allow_partial: bool = False,
    allow_removals: bool = False,
    test_share: float | None = None,
) -> dict[str, Any]:
    """Bring the catalog of ``dataset`` to what ``source`` holds now; the figures of ``ingest --json``.

    ``allow_partial`` takes a published data set whatever its counts, ``allow_removals`` a source whatever it lacks of
    the catalog's photos. Of the photos that the source gives no split,
    ``test_share`` become ``test``, the rest ``train``: by the SHA-256 of their ids, so that a photo keeps its side when
    others come and go. Left out, they have no split.

    Raises:
        UserError: bad name, unknown layout, a source that is not of it, or that has no photos.
        GateRefused: more than ``[gates] max_removed_share`` of the catalog's photos would leave it; nothing is written.
    """
    check_name(dataset, "data set")
    adapter = registry.find(layout, allow_partial)
    units = adapter.units(settings, source) if adapter else []  # a caller's mistake shows before Spark starts
    if adapter is None and "://" not in source and not (settings.root / Path(source).expanduser()).exists():
        raise UserError(f"no such table {source!r}: layout table is a CSV, Parquet or Delta file or folder")
    # An adapter's photos are Arrow's to read, a table is Spark's.
    spark = build_session(settings, f"ingest {dataset}", *([] if adapter else [source]))
    listed = _list(spark, units, layout) if adapter else _read_list(spark, settings, source)
    listed = _name_ids(listed, dataset)
    if test_share is not None:
        listed = listed.withColumn("split", F.coalesce("split", _split(test_share)))
    with persisted(listed), locks.held(settings, f"ingest__{dataset}"):
        with progress(spark, f"listing {dataset}"):
            count = listed.count()
        if not count:
            raise UserError(f"no photos in {source!r} (layout {layout})")
        _refuse_duplicates(listed, source)
        counts = _update(spark, settings, dataset, listed, count, allow_removals)
    return asdict(counts)


def _list(spark: SparkSession, units: list[str], layout: str) -> DataFrame:
    # From Arrow: from a list, Spark would start one more daemon for its Python workers.
    frame = spark.createDataFrame(pa.table({"unit": pa.array(units, pa.string())}))
    # Some a core, so that large folders spread; a task of its own would cost a small folder more than its listing.
    parts = min(len(units), 4 * spark.sparkContext.defaultParallelism)
    return frame.repartition(parts).mapInArrow(_lister(layout), spark_schema(_LISTED))


def _lister(layout: str) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        adapter = registry.LAYOUTS[layout]
        assert adapter is not None
        for batch in batches:
            for unit in batch.column("unit").to_pylist():
                listed = [asdict(photo) for photo in adapter.photos(unit)]
                for row in listed:
                    row["code"], row["reason"] = row.pop("refusal") or (None, None)
                yield pa.RecordBatch.from_pylist(listed, schema=_LISTED)

    return rows


def _read_list(spark: SparkSession, settings: Settings, source: str) -> DataFrame:
    """The ``table`` layout: Spark reads CSV, Parquet or Delta; relative uris start at the table's folder."""
    local = "://" not in source
    path = Path(settings.root / Path(source).expanduser()).resolve() if local else Path(source)
    where = str(path) if local else source
    try:
        frame = _open_table(spark, source, where, local)
    except (PySparkException, Py4JJavaError) as error:
        why = one_line(reason(error))
        raise UserError(f"cannot read {source!r}: layout table is CSV (.csv), Parquet or Delta ({why})") from None
    missing = [name for name in ("uri", "product_id") if name not in frame.columns]
    if missing:
        raise UserError(
            f"no column {', '.join(missing)} in {source!r}: layout table needs uri and product_id, and takes image_id, "
            f"category, split; it has {', '.join(frame.columns)}"
        )
    base = _remote_folder(source) if not local else str(path if path.is_dir() else path.parent)
    have = {name: F.col(name).cast("string") for name in frame.columns if name in _LISTED.names}
    uri = have["uri"]
    if base:
        absolute = uri.rlike(r"^([a-zA-Z][a-zA-Z0-9+.-]*://|file:/|/)")
        uri = F.when(absolute, uri).otherwise(F.concat(F.lit(f"{base}/"), uri))
    blank = F.lit(None).cast("string")
    no_product = F.coalesce(F.trim(have["product_id"]), F.lit("")) == ""
    return frame.select(
        F.coalesce(have.get("image_id", have["uri"]), have["uri"]).alias("image_id"),
        F.coalesce(have["product_id"], F.lit("")).alias("product_id"),
        have.get("category", blank).alias("category"),
        have.get("split", blank).alias("split"),
        uri.alias("uri"),
        F.when(no_product, "no_product").alias("code"),
        F.when(no_product, "the row has no product_id").alias("reason"),
    )


def _remote_folder(source: str) -> str | None:
    """The folder that the relative uris of a remote table start at; None where Arrow cannot tell."""
    from pyarrow.fs import FileSystem, FileType

    try:
        system, path = FileSystem.from_uri(s3.plain(source))
        is_folder = system.get_file_info(path).type == FileType.Directory
    except (pa.ArrowException, OSError):
        return None
    return s3.plain(source).rstrip("/") if is_folder else s3.plain(source).rpartition("/")[0]


def _open_table(spark: SparkSession, source: str, where: str, local: bool) -> DataFrame:
    if local and (Path(where) / "_delta_log").is_dir():
        return spark.read.format("delta").load(where)
    if local and (set(where) & set("{}[]*?\\") or Path(where).name.startswith(("_", "."))):
        raise UserError(
            f"cannot read {where!r}: Spark reads no table whose path has one of {{}}[]*?\\ in it, or whose name starts "
            "with _ or .: give it another"
        )
    if source.lower().endswith((".csv", ".tsv", ".csv.gz")):
        return (
            spark.read.option("header", True).option("sep", "\t" if ".tsv" in source.lower() else ",")
            .option("multiLine", True).option("escape", '"').csv(where)
        )  # fmt: skip
    kind = "parquet" if local or source.lower().endswith(".parquet") else "delta"
    return spark.read.format(kind).load(where)


def _name_ids(listed: DataFrame, dataset: str) -> DataFrame:
    prefix = F.lit(f"{dataset}/")
    return listed.withColumns(
        {
            "image_id": F.concat(prefix, "image_id"),
            "product_id": F.concat(prefix, "product_id"),
            "split": F.when(F.col("split") == "validation", "val").otherwise(F.col("split")),
        }
    )


def _split(test_share: float) -> Column:
    drawn = F.conv(F.substring(F.sha2("image_id", 256), 1, 8), 16, 10).cast("double") / 2**32
    return F.when(drawn < test_share, "test").otherwise("train")


def _refuse_duplicates(listed: DataFrame, source: str) -> None:
    if listed.filter("image_id IS NULL OR uri IS NULL").limit(1).count():
        raise UserError(f"rows of {source!r} have no uri: every row needs one")
    twice = [row[0] for row in listed.groupBy("image_id").count().filter("count > 1").limit(3).collect()]
    if twice:
        raise UserError(f"image ids of {source!r} must be unique; these come twice or more: {twice}")
    splits = [row[0] for row in listed.select("split").distinct().limit(100).collect() if row[0] is not None]
    for split in splits:
        try:
            check_name(split)
        except UserError:
            raise UserError(f"bad split {split!r} in {source!r}: it must be {NAME_RULE}") from None


def _update(
    spark: SparkSession, settings: Settings, dataset: str, listed: DataFrame, count: int, allow_removals: bool
) -> IngestCounts:
    catalog = read_table(spark, settings, CATALOG).filter(F.col("dataset") == dataset)
    known = catalog.select("image_id", *(F.col(name).alias(f"known_{name}") for name in _KNOWN))
    parts = max(2 * spark.sparkContext.defaultParallelism, count // 1024)
    checked = (
        listed.join(known, "image_id", "left")
        .repartition(parts)
        .mapInArrow(_checker(settings.max_pixels), spark_schema(_CHECKED))
    )
    with persisted(checked):
        with progress(spark, f"reading {dataset}", count):
            counts = _count(checked)
        good = checked.filter("code IS NULL")
        gone = catalog.join(good, "image_id", "left_anti")
        removed = gone.count()
        if not allow_removals:
            _refuse_removals(settings, dataset, counts.images - counts.added + removed, removed, gone, checked)
        moment = lake.now()
        if counts.added + counts.changed + counts.updated + removed:
            _merge_catalog(spark, settings, dataset, good, catalog, gone, moment)
        append_labels(spark, settings, dataset)
        bad = checked.filter("code IS NOT NULL")
        mended = merge_quarantine(spark, settings, dataset, "ingest", "", bad, moment)
        return replace(counts, removed=removed, mended=mended)


def _checker(max_pixels: int) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield pa.RecordBatch.from_pylist([check_row(row, max_pixels) for row in batch.to_pylist()], schema=_CHECKED)

    return rows


def check_row(row: dict[str, Any], max_pixels: int) -> dict[str, Any]:
    """One listed photo with what the catalog knew of it -> its row of facts; an unchanged file is not read."""
    known = {name: row.get(f"known_{name}") for name in _KNOWN}
    was_known = known["content_sha256"] is not None
    result: dict[str, Any] = {name: row[name] for name in _LISTED.names} | {"was_known": was_known}
    if row["code"] is not None:
        return result | {"same_content": False, "same_row": False}
    try:
        stat = photo_files.stat(row["uri"])
        if was_known and (row["uri"], stat.size, stat.modified_at) == tuple(
            known[name] for name in ("uri", "size", "modified_at")
        ):
            facts = {name: known[name] for name in ("size", "modified_at", "content_sha256", "width", "height")}
        else:
            facts = asdict(photo_files.check(row["uri"], max_pixels))
    except ImageError as error:
        return result | {"code": error.code, "reason": str(error), "same_content": False, "same_row": False}
    result |= facts
    return result | {
        "same_content": facts["content_sha256"] == known["content_sha256"],
        "same_row": all(result[name] == known[name] for name in _KNOWN),
    }


def _count(checked: DataFrame) -> IngestCounts:
    row = checked.agg(
        *(
            F.count_if(F.expr(condition)).alias(name)
            for name, condition in {
                "images": "code IS NULL",
                "added": "code IS NULL AND NOT was_known",
                "changed": "code IS NULL AND was_known AND NOT same_content",
                "updated": "code IS NULL AND same_content AND NOT same_row",
                "unchanged": "code IS NULL AND same_row",
                "quarantined": "code IS NOT NULL",
            }.items()
        )
    ).first()
    assert row is not None
    return IngestCounts(**row.asDict())


def _refuse_removals(
    settings: Settings, dataset: str, held: int, removed: int, gone: DataFrame, checked: DataFrame
) -> None:
    """A source that is half away looks like a shop that sold out: the vectors of a year would go in a night."""
    if held < settings.gates.removed_from or removed <= settings.gates.max_removed_share * held:
        return
    unread = gone.join(checked, "image_id", "left_semi").count()
    raise GateRefused(
        f"{removed} of the {held} photos of {dataset!r} would leave it ({removed - unread} are not listed, {unread} "
        f"cannot be read), more than [gates] max_removed_share = {settings.gates.max_removed_share}: nothing was "
        "changed. Where the source is right, run it again with --allow-removals"
    )


def _merge_catalog(
    spark: SparkSession,
    settings: Settings,
    dataset: str,
    good: DataFrame,
    catalog: DataFrame,
    gone: DataFrame,
    moment: datetime,
) -> None:
    seen = catalog.select("image_id", F.col("content_seen_at").alias("seen_before"))
    fresh = (
        good.filter("NOT same_row")
        .join(seen, "image_id", "left")
        .withColumns(
            {
                "dataset": F.lit(dataset),
                "content_seen_at": F.when(F.col("same_content"), F.col("seen_before")).otherwise(F.lit(moment)),
                "updated_at": F.lit(moment),
                "gone": F.lit(False),
            }
        )
    )
    columns = [*CATALOG.schema.names, "gone"]
    source = fresh.select(columns).unionByName(gone.withColumn("gone", F.lit(True)).select(columns))
    merge_table(spark, settings, CATALOG, source, f"t.dataset = {lake.quote(dataset)}")


def append_labels(spark: SparkSession, settings: Settings, dataset: str) -> None:
    """Add the catalog's labels that differ from the last ones of their photos; after a killed run, the next one does.

    The last ones have the latest time, also where the clock was set back since.
    """
    catalog = read_table(spark, settings, CATALOG).filter(F.col("dataset") == dataset)
    last = (
        read_table(spark, settings, LABELS)
        .filter(F.col("dataset") == dataset)
        .groupBy("image_id")
        .agg(
            F.max_by(F.struct("product_id", "category"), "valid_from").alias("last"),
            F.max("valid_from").alias("last_from"),
        )
    )
    fresh = catalog.join(last, "image_id", "left").filter(
        "last IS NULL OR NOT (last.product_id <=> product_id AND last.category <=> category)"
    )
    later = F.expr("greatest(updated_at, last_from + INTERVAL '0.000001' SECOND)")
    rows = fresh.withColumn("valid_from", later).select(LABELS.schema.names)
    if rows.limit(1).count():
        with lake.committing(settings, LABELS):
            rows.write.format("delta").mode("append").save(LABELS.uri(settings))
