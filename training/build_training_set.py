"""The rows that tuning learns from: labels as they were said at a moment, with the features of that moment, by Feast.

Feast joins both point in time: a label that was said later, and a vector of a picture that was seen later, do not get
in. The rows are written once, as Parquet files under ``train/`` and ``validation/``, in an order that is shuffled once
and for all, and streamed from there: no process holds them all. Rows of other splits reach no tuning, nor do pictures
that any of them shows.
"""

import hashlib
import json
import os
import shutil
import warnings
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pyspark import StorageLevel
from pyspark.sql import Window
from pyspark.sql import functions as F

from vitrine import facts, feature_store, lake
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.tables import CATALOG

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Label = Literal["product_id", "category"]
TRAIN, VALIDATION = "train", "validation"
_OWN_VALIDATION = ("val", "validation")
_ROWS_A_FILE = 50_000


@dataclass(frozen=True)
class TrainingSet:
    """What ``training_set.json`` in ``folder`` says; a row's ``label`` is the number of its class in ``classes``."""

    folder: str
    dataset: str
    label: Label
    encoder: str | None
    encoder_version: str | None
    as_of: str
    seed: int
    classes: list[str]
    train: int
    validation: int
    validation_from: str
    """The data set's own split, or ``train``: cut from it."""
    only_trained: list[str]
    """Classes with too few photos (or products) to have any in the validation part."""
    without_features: int
    """Photos of these splits that had no label, or no vector, at ``as_of``."""
    left_out: int
    """Photos whose picture another split shows too; of validation, also those that the training part shows, and those
    of a class that it does not have."""
    fingerprint: str
    """Of the rows' ids, contents, labels and parts, and of the vectors' version: 16 hex digits."""


def build_training_set(
    settings: Settings,
    spark: "SparkSession",
    dataset: str,
    label: Label = "product_id",
    encoder: tuple[str, str] | None = None,
    *,
    as_of: datetime | None = None,
    validation_share: float = 0.1,
    seed: int = 0,
) -> TrainingSet:
    """Write the training set of ``dataset``, or find the same one written before.

    Columns: ``image_id`` (string), ``label`` (int32), and by ``encoder`` (its name and version, whose Feast view is
    applied) ``embedding`` (list of float32, unit length); without one, ``uri`` (string). Where the data set has no
    validation split, ``validation_share`` of each class becomes the validation part: whole products where the class
    has several, photos where it has one; of equal pictures, none is on both sides.

    Raises:
        UserError: unknown data set, no train split, nothing labelled or embedded in it, or fewer than two classes.
    """
    facts.check_dataset(settings, dataset)
    splits = _splits(settings, dataset)
    moment = as_of or lake.now()
    feature = "embedding" if encoder else "uri"
    every = _featured(settings, dataset, label, encoder, moment, splits).persist(StorageLevel.DISK_ONLY)
    # What decides, without the vectors, and without the plan of Feast's joins, which Spark would go through each time.
    photos = every.withColumn("known", F.expr(f"class IS NOT NULL AND {feature} IS NOT NULL")).drop(feature)
    photos = photos.localCheckpoint()
    others = spark.sql(_catalog(settings, dataset, splits, within=False)).select("content_sha256").distinct()
    apart = photos.filter("known").drop("known").join(others, "content_sha256", "left_anti")
    parts = _cut(apart, label, splits, validation_share, seed).persist()
    try:
        counts = {row["part"]: row["n"] for row in parts.groupBy("part").agg(F.count("*").alias("n")).collect()}
        classes = [row["class"] for row in parts.select("class").distinct().orderBy("class").collect()]
        _check(dataset, label, encoder, counts, classes)
        labelled = photos.filter("known").count()
        validated = {
            row["class"] for row in parts.filter(F.col("part") == VALIDATION).select("class").distinct().collect()
        }
        origin = next((split for split in splits if split in _OWN_VALIDATION), TRAIN)
        made = TrainingSet(
            folder="",
            dataset=dataset,
            label=label,
            encoder=encoder[0] if encoder else None,
            encoder_version=encoder[1] if encoder else None,
            as_of=moment.isoformat(),
            seed=seed,
            classes=classes,
            train=counts[TRAIN],
            validation=counts[VALIDATION],
            validation_from=origin,
            only_trained=[name for name in classes if name not in validated],
            without_features=photos.count() - labelled,
            left_out=labelled - sum(counts.values()),
            fingerprint=_fingerprint(parts, dataset, label, encoder, seed),
        )
        folder = settings.home / "training" / made.fingerprint
        if (folder / "training_set.json").is_file():
            os.utime(folder)  # in use: maintenance removes what nobody touched
        else:
            _write(every.select("image_id", feature).join(parts, "image_id"), made, folder, feature)
        return read_training_set(folder)
    finally:
        parts.unpersist()
        every.unpersist()


def read_training_set(folder: Path) -> TrainingSet:
    """The training set that was written to ``folder``."""
    return TrainingSet(**{**json.loads((folder / "training_set.json").read_text()), "folder": str(folder)})


def _splits(settings: Settings, dataset: str) -> list[str]:
    """The splits that may be learned from."""
    sql = f"SELECT DISTINCT split FROM {CATALOG.name} WHERE dataset = {lake.quote(dataset)}"
    known = sorted(row["split"] for row in lake.rows(settings, sql) if row["split"])
    if TRAIN not in known:
        raise UserError(
            f"data set {dataset!r} has no split {TRAIN!r} (it has {', '.join(known) or 'none'}): tuning learns from "
            "one split and is measured on others; ingest it as folder ROOT/train/PRODUCT/PHOTO and "
            "ROOT/test/PRODUCT/PHOTO, or as a table with a column split"
        )
    return [TRAIN, *(split for split in _OWN_VALIDATION if split in known)]


def _catalog(settings: Settings, dataset: str, splits: list[str], *, within: bool) -> str:
    names = ", ".join(map(lake.quote, splits))
    return (
        f"SELECT image_id, content_sha256, split FROM delta.`{CATALOG.uri(settings)}` WHERE dataset = "
        f"{lake.quote(dataset)} AND coalesce(split, '') {'IN' if within else 'NOT IN'} ({names})"
    )


def _featured(
    settings: Settings, dataset: str, label: Label, encoder: tuple[str, str] | None, moment: datetime, splits: list[str]
) -> "DataFrame":
    """Every photo of ``splits``, with what Feast knew of it at ``moment``: null where that is nothing."""
    view = feature_store.image_view(*encoder) if encoder else "catalog"
    feature = "embedding" if encoder else "uri"
    wanted = _catalog(settings, dataset, splits, within=True)
    entities = f"SELECT *, timestamp '{moment.isoformat()}' AS event_timestamp FROM ({wanted})"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Feast calls its Spark store experimental each time
        job = feature_store.open_store(settings).get_historical_features(
            entity_df=entities,
            features=[f"{view}:{feature}", *{f"labels:{name}" for name in (label, "product_id")}],
            full_feature_names=True,
        )
    return job.to_spark_df().selectExpr(
        *("image_id", "content_sha256", "split"),
        "labels__product_id AS product_id",
        f"labels__{label} AS class",
        f"{view}__{feature} AS {feature}",
    )


def _cut(rows: "DataFrame", label: Label, splits: list[str], share: float, seed: int) -> "DataFrame":
    """``rows`` with ``part``, without validation rows whose picture or class the training part lacks or shows too."""
    if len(splits) > 1:
        parts = rows.withColumn("part", F.when(F.col("split") == TRAIN, TRAIN).otherwise(VALIDATION))
    else:
        parts = _drawn(rows, label, share, seed)
    train = parts.filter(F.col("part") == TRAIN)
    validation = (
        parts.filter(F.col("part") == VALIDATION)
        .join(train.select("content_sha256").distinct(), "content_sha256", "left_anti")
        .join(train.select("class").distinct(), "class", "left_semi")
    )
    kept = train.unionByName(validation.select(*train.columns))
    numbers = train.select("class").distinct()
    numbers = numbers.withColumn("label", (F.row_number().over(Window.orderBy("class")) - 1).cast("int"))
    return kept.join(numbers, "class")


def _drawn(rows: "DataFrame", label: Label, share: float, seed: int) -> "DataFrame":
    """A share of each class's units for validation, at least one where it has two: the first by a hash."""
    several = F.size(F.collect_set("product_id").over(Window.partitionBy("class"))) > 1
    by_product = several if label == "category" else F.lit(False)
    units = rows.withColumn("unit", F.when(by_product, F.col("product_id")).otherwise(F.col("content_sha256")))
    of_class = Window.partitionBy("class")
    drawn = (
        units.select("class", "unit")
        .distinct()
        .withColumn("n", F.count("*").over(of_class))
        .withColumn("at", F.row_number().over(of_class.orderBy(_shuffled("unit", seed), "unit")))
        .withColumn(
            "part", F.expr(f"IF(at <= least(greatest(round({share} * n), 1), n - 1), '{VALIDATION}', '{TRAIN}')")
        )
    )
    return units.join(drawn.select("class", "unit", "part"), ["class", "unit"]).drop("unit")


def _shuffled(column: str, seed: int) -> Any:
    return F.sha2(F.concat_ws("/", F.lit(str(seed)), F.col(column)), 256)


def _check(
    dataset: str, label: Label, encoder: tuple[str, str] | None, counts: dict[str, int], classes: list[str]
) -> None:
    if not counts.get(TRAIN):
        how = f" with a vector by {encoder[0]!r}: vitrine embed --encoder {encoder[0]} first" if encoder else ""
        raise UserError(f"nothing to learn from in split {TRAIN!r} of {dataset!r}: no photo has a {label}{how}")
    if len(classes) < 2:
        raise UserError(
            f"split {TRAIN!r} of {dataset!r} has one {label} ({classes[0]!r}): tuning needs two to tell apart"
        )
    if not counts.get(VALIDATION):
        raise UserError(f"no {label} of {dataset!r} has two photos (or products): nothing is left to validate with")


def _fingerprint(parts: "DataFrame", dataset: str, label: Label, encoder: tuple[str, str] | None, seed: int) -> str:
    """Of the rows whatever their order: two sums of hashes, and what they are of."""
    fields = ("image_id", "content_sha256", "class", "part")
    sums = [F.sum(F.xxhash64(F.lit(salt), *fields).cast("decimal(38,0)")) for salt in ("a", "b")]
    digest = [str(value) for value in parts.agg(*sums, F.count("*")).first() or ()]
    contents = [*digest, dataset, label, list(encoder or ()), seed]
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:16]


def _write(parts: "DataFrame", made: TrainingSet, folder: Path, feature: str) -> None:
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    order = _shuffled("image_id", made.seed)
    try:
        for part, count in ((TRAIN, made.train), (VALIDATION, made.validation)):
            rows = parts.filter(F.col("part") == part).withColumn("order", order)
            rows = rows.repartitionByRange(-(-count // _ROWS_A_FILE), "order").sortWithinPartitions("order")
            rows.select("image_id", "label", feature).write.parquet(str(fresh / part))
        (fresh / "training_set.json").write_text(json.dumps({**asdict(made), "folder": ""}, indent=1))
        if not folder.exists():  # another process may have been quicker, with the same rows
            fresh.replace(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
