"""A source's photos into the catalog: listed, checked and hashed on the executors; what cannot be read quarantined."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from itertools import islice
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from spark_jobs import linked_photos
from spark_jobs.checked_photos import CHECKED, KNOWN, LISTED, checker
from spark_jobs.delta_tables import append, has_rows, merge_or_append, persisted, read_table, spark_schema
from spark_jobs.progress import progress
from spark_jobs.quarantine import merge_quarantine
from spark_jobs.repeated_photos import one_photo_each
from spark_jobs.session import build_session
from spark_jobs.unchanged_photos import unchanged
from vitrine import facts, lake, locks, photo_store
from vitrine.datasets import registry, table
from vitrine.datasets.columns import TableFault
from vitrine.datasets.photo import BLANK, REFUSED, Layout, Photo
from vitrine.datasets.pictures import IMAGE
from vitrine.datasets.shops.feed import Feed
from vitrine.datasets.table import Table
from vitrine.datasets.table_files import as_text, called_in
from vitrine.errors import GateRefused, UserError, one_line, reason
from vitrine.links import is_link
from vitrine.locations import Location
from vitrine.names import ALL_SPLITS, NAME_LENGTH, NAME_PATTERN, NAME_RULE, check_name
from vitrine.runs import IngestCounts
from vitrine.settings import Settings
from vitrine.tables import CATALOG, LABELS, LINKS


def ingest(
    settings: Settings,
    source: str,
    dataset: str,
    layout: str = "folder",
    *,
    allow_partial: bool = False,
    allow_removals: bool = False,
    test_share: float | None = None,
    splits: bool | None = None,
    categories: bool = False,
    encoding: str | None = None,
    columns: Mapping[str, str] | None = None,
    attributes: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Bring the catalog of ``dataset`` to what ``source`` holds now; the figures of ``ingest --json``.

    ``allow_partial`` takes a published data set whatever its counts, ``allow_removals`` a source whatever it lacks of
    the catalog's photos. ``splits``, ``categories``, ``encoding``, ``columns`` and ``attributes`` are those of
    ``registry.find``. Of the photos that the source gives no split, ``test_share`` become ``test``, the rest ``train``:
    by the SHA-256 of their ids, so that a photo keeps its side when others come and go. Left out, they have no split.

    Raises:
        UserError: bad name, unknown layout, a source that is not of it, or that has no photos.
        GateRefused: more than ``[gates] max_removed_share`` of the catalog's photos would leave it; nothing is written.
    """
    check_name(dataset, "data set")
    adapter = registry.find(layout, allow_partial, splits, categories, encoding, columns, attributes)
    if is_link(source) and not isinstance(adapter, Feed):
        raise UserError(
            f"layout {layout} is not read behind a link, which {', '.join(registry.SHOPS)} are: fetch it into a file"
        )
    units = adapter.units(settings, source)  # a caller's mistake shows before Spark starts
    if units and (counts := unchanged(settings, dataset, adapter, units, test_share)):
        return asdict(counts)
    spark = build_session(settings, f"ingest {dataset}", *([] if units else [source]))  # Spark itself reads Delta
    if isinstance(adapter, Table) and not units:
        listed = _read_delta(spark, settings, source, adapter)
    else:
        listed = _list(spark, units, adapter)
    if isinstance(adapter, Feed):
        listed = one_photo_each(listed, adapter.columns.attributes)
    listed = _name_ids(listed, dataset)
    if test_share is not None:
        listed = listed.withColumn("split", F.coalesce("split", _split(test_share)))
    with persisted(listed), locks.held(settings, f"ingest__{dataset}"):
        with progress(spark, f"listing {dataset}"):
            survey = _survey(listed)
        count = _check(survey, source, layout)
        photos = listed.filter(_IS_PHOTO)
        counts = _update(spark, settings, dataset, photos, count, survey["linked"], allow_removals)
    return asdict(replace(counts, blank_rows=sum(int(row["reason"]) for row in survey["noted"])))


_READ_AT_ONCE, _IN_A_FILE = 1024, 100_000
"""Photos that a task reads, and rows of ``catalog`` that a file has, where there are so many."""
_IS_PHOTO = f"coalesce(code, '') NOT IN ('{REFUSED}', '{BLANK}')"
_IS_LINKED = photo_store.LINKED.format(uri="uri")


def _survey(listed: DataFrame) -> Row:
    """What is listed, in one look: ``photos``, their number; ``linked``, how many are behind links; ``twice``, how many
    ids come more than once, with ``first`` and ``last`` of them; ``bad_split``, one that is no name; ``noted``, the
    rows that are no photos, a few a file, with ``code`` and ``reason``."""
    note = F.struct("code", "reason")
    no_name = ~F.col("split").rlike(f"^(?:{NAME_PATTERN})$") | (F.length("split") > NAME_LENGTH)
    by_id = listed.groupBy("image_id").agg(
        F.count_if(F.expr(_IS_PHOTO)).alias("photos"),
        F.count_if(F.expr(_IS_LINKED)).alias("linked"),
        F.min(F.when(no_name | (F.col("split") == ALL_SPLITS), F.col("split"))).alias("bad_split"),
        F.collect_list(F.when(F.expr(f"NOT ({_IS_PHOTO})"), note)).alias("noted"),
    )
    twice = F.when(F.col("photos") > 1, F.col("image_id"))
    row = by_id.agg(
        F.coalesce(F.sum("photos"), F.lit(0)).alias("photos"),
        F.coalesce(F.sum("linked"), F.lit(0)).alias("linked"),
        F.count(twice).alias("twice"),
        F.min(twice).alias("first"),
        F.max(twice).alias("last"),
        F.min("bad_split").alias("bad_split"),
        F.flatten(F.collect_list("noted")).alias("noted"),
    ).first()
    assert row is not None
    return row


def _check(survey: Row, source: str, layout: str) -> int:
    """The number of photos of a source that may be taken.

    Raises:
        UserError: it may not.
    """
    for row in survey["noted"]:
        if row["code"] == REFUSED:
            raise UserError(row["reason"])
    if not survey["photos"]:
        raise UserError(f"no photos in {source!r} (layout {layout})")
    if survey["twice"]:
        those = " and ".join(dict.fromkeys(repr(survey[which]) for which in ("first", "last")))
        raise UserError(f"image ids of {source!r} must be unique; {survey['twice']} come twice or more, as {those}")
    if (split := survey["bad_split"]) is not None:
        rule = "means all splits together: give it another name" if split == ALL_SPLITS else f"must be {NAME_RULE}"
        raise UserError(f"bad split {split!r} in {source!r}: it {rule}")
    return int(survey["photos"])


def _list(spark: SparkSession, units: list[str], layout: Layout) -> DataFrame:
    # From Arrow: from a list, Spark would start one more daemon for its Python workers.
    frame = spark.createDataFrame(pa.table({"unit": pa.array(units, pa.string())}))
    # Some a core, so that large folders spread; a task of its own would cost a small folder more than its listing.
    parts = min(len(units), 4 * spark.sparkContext.defaultParallelism)

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for unit in batch.column("unit").to_pylist():
                yield from _batches(layout.photos(unit))

    return frame.repartition(parts).mapInArrow(rows, spark_schema(LISTED))


def _batches(photos: Iterator[Photo]) -> Iterator[pa.RecordBatch]:
    while listed := [vars(photo.checked()).copy() for photo in islice(photos, 4096)]:
        for row in listed:
            row["code"], row["reason"] = row.pop("refusal") or (None, None)
            row["attributes"] = row["attributes"] or None
        yield pa.RecordBatch.from_pylist(listed, schema=LISTED)


def _read_delta(spark: SparkSession, settings: Settings, source: str, layout: Table) -> DataFrame:
    """A Delta table of the ``table`` layout: Spark reads the columns that are asked for, and no other."""
    root, store = Location.given(source), settings.photos
    try:
        frame = spark.read.format("delta").load(root.hadoop)
        schema = to_arrow_schema(frame.schema)
        called, image = called_in(schema, layout.columns, ())
        for name, column in called.items():
            as_text(pa.array([], schema.field(column).type), name)
        called |= {IMAGE: image} if image else {}
        quoted = {name: column.replace("`", "``") for name, column in called.items()}
        frame = frame.select(*(F.col(f"`{column}`").alias(name) for name, column in quoted.items()))
    except TableFault as fault:
        raise UserError(f"cannot read {source!r}: {fault}") from None
    except (PySparkException, Py4JJavaError) as error:
        why = one_line(reason(error))
        raise UserError(f"cannot read {source!r} as a Delta table ({why})") from None

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from _batches(table.photos_of(batches, root, source, store))

    return frame.mapInArrow(rows, spark_schema(LISTED))


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


def _update(
    spark: SparkSession,
    settings: Settings,
    dataset: str,
    listed: DataFrame,
    count: int,
    linked: int,
    allow_removals: bool,
) -> IngestCounts:
    catalog = read_table(spark, settings, CATALOG).filter(F.col("dataset") == dataset)
    with persisted(_checked(spark, settings, dataset, listed, catalog, count, linked)) as checked:
        with progress(spark, f"reading {dataset}", count):
            counts = _count(checked)
        good = checked.filter("code IS NULL")
        gone = catalog.join(good, "image_id", "left_anti")
        held = facts.count(settings, CATALOG, lake.matches(dataset=dataset))
        removed = gone.count() if held != counts.images - counts.added else 0
        if not allow_removals:
            _refuse_removals(settings, dataset, counts.images - counts.added + removed, removed, gone, checked)
        moment = lake.now()
        if moved := counts.added + counts.changed + counts.updated + removed:
            _merge_catalog(spark, settings, dataset, good, catalog, gone, moment, moved)
        if linked or has_rows(settings, LINKS, lake.matches("t", dataset=dataset)):
            linked_photos.merge_links(spark, settings, dataset, good)
        append_labels(spark, settings, dataset)
        # Of a constant, Spark knows that there is none before it looks.
        bad = checked.filter("code IS NOT NULL" if counts.quarantined else "false")
        mended = merge_quarantine(spark, settings, dataset, "ingest", "", bad, counts.quarantined, moment)
        return replace(counts, removed=removed, mended=mended)


def _checked(
    spark: SparkSession,
    settings: Settings,
    dataset: str,
    listed: DataFrame,
    catalog: DataFrame,
    count: int,
    linked: int,
) -> DataFrame:
    """Rows of ``CHECKED``, and ``away``: does a photo stay since its host is away? ``linked`` is how many photos are
    behind links."""
    known = catalog.select("image_id", *(F.col(name).alias(f"known_{name}") for name in KNOWN))
    both = listed.join(known, "image_id", "left")
    files = both.filter(f"NOT ({_IS_LINKED})") if linked else both
    parts = max(2 * spark.sparkContext.defaultParallelism, (count - linked) // _READ_AT_ONCE)
    checked = files.repartition(parts).mapInArrow(checker(settings.max_pixels, settings.photos), spark_schema(CHECKED))
    checked = checked.withColumn("away", F.lit(False))
    if not linked:
        return checked
    return checked.unionByName(linked_photos.check_links(spark, settings, dataset, both.filter(_IS_LINKED), linked))


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
                "asked": "asked",
                "not_modified": "not_modified",
                "away": "away",
            }.items()
        ),
        F.coalesce(F.sum("fetched_bytes"), F.lit(0)).alias("fetched_bytes"),
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
    moved: int,
) -> None:
    """``moved``: how many rows are written or removed."""
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
    # Photos are read a thousand a task, and each task would write a file of its own.
    source = source.coalesce(max(2 * spark.sparkContext.defaultParallelism, moved // _IN_A_FILE))
    merge_or_append(spark, settings, CATALOG, source, lake.matches("t", dataset=dataset), rows=moved)


def append_labels(spark: SparkSession, settings: Settings, dataset: str) -> None:
    """Add the catalog's labels that differ from the last ones of their photos; after a killed run, the next one does.

    The last ones have the latest time, also where the clock was set back since.
    """
    if not (lacking := facts.lacking_labels(settings, dataset)):  # without a job of Spark's
        return
    catalog = read_table(spark, settings, CATALOG).filter(F.col("dataset") == dataset)
    said = F.to_json("attributes").alias("said")  # Spark compares no maps
    last = (
        read_table(spark, settings, LABELS)
        .filter(F.col("dataset") == dataset)
        .groupBy("image_id")
        .agg(
            F.max_by(F.struct("product_id", "category", said), "valid_from").alias("last"),
            F.max("valid_from").alias("last_from"),
        )
    )
    fresh = catalog.join(last, "image_id", "left").filter(
        "last IS NULL OR NOT (last.product_id <=> product_id AND last.category <=> category "
        "AND last.said <=> to_json(attributes))"
    )
    later = F.expr("greatest(updated_at, last_from + INTERVAL '0.000001' SECOND)")
    append(spark, settings, LABELS, fresh.withColumn("valid_from", later), rows=lacking)
