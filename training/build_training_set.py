"""Building a training set: labels as they were said at a moment, with the features of that moment, by Feast.

Feast joins both point in time: a label that was said later, and a vector of a picture that was seen later, do not get
in. Rows of other splits reach no tuning, nor do pictures that any of them shows. What needs no label may learn from
further splits, those of the index above all: their labels stay unread.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import pyarrow.compute as pc
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from training.training_set import ABOUT, TRAIN, UNLABELLED, VALIDATION, TrainingSet, read_training_set
from vitrine import facts, feature_store, lake, photo_store
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.tables import CATALOG

_OWN_VALIDATION = ("val", "validation")
_ROWS_A_FILE = 50_000


@dataclass(frozen=True)
class _Plan:
    """What a training set is built from."""

    dataset: str
    label: str
    encoded: EncodedSet | None
    moment: datetime
    splits: list[str]
    """Those that may be learned from, ``train`` first."""
    validation_share: float
    seed: int
    with_photos: bool
    products_below: str | None
    unlabelled: list[str]
    """Splits whose photos are in the training part without a label."""

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that are learned from."""
        if self.encoded:
            return ("embedding", "uri") if self.with_photos else ("embedding",)
        return ("uri",)


def build_training_set(
    settings: Settings,
    spark: SparkSession,
    dataset: str,
    label: str = "product_id",
    encoded: EncodedSet | None = None,
    *,
    as_of: datetime | None = None,
    validation_share: float = 0.1,
    seed: int = 0,
    with_photos: bool = False,
    products_below: str | None = None,
    unlabelled: Sequence[str] = (),
) -> TrainingSet:
    """Write the training set of ``dataset``, or find the same one written before.

    Columns: ``image_id`` (string), ``label`` (int32), and with ``encoded``, whose Feast view is applied, ``embedding``
    (list of float32, of unit length; of joined encoders one vector after the other); without, ``uri`` (string);
    ``with_photos`` gives both. Where the data set has no validation split, ``validation_share`` of each class becomes
    the validation part: whole products where the class has several, photos where it has one; of equal pictures, none is
    on both sides. ``products_below``: of the products alone whose ids' SHA-256, hexadecimal, is below it. The photos of
    splits that are ``unlabelled`` are in the training part too; no label of theirs is read, and their ``label`` is -1.

    Raises:
        UserError: unknown data set, no train split, nothing labelled or embedded in it, fewer than two classes, or a
            split of ``unlabelled`` that there is not, that is learned from or that queries are of.
    """
    facts.check_dataset(settings, dataset)
    facts.check_label(settings, dataset, label)
    splits, moment = learnable_splits(settings, dataset), as_of or lake.now()
    beside = unlabelled_splits(settings, dataset, unlabelled)
    plan = _Plan(dataset, label, encoded, moment, splits, validation_share, seed, with_photos, products_below, beside)
    with _persisted(_featured(settings, plan), StorageLevel.DISK_ONLY) as featured:
        # The cut is decided on rows without their vectors. The checkpoint spares each query the plan of Feast's joins.
        known = F.expr(" AND ".join(f"{name} IS NOT NULL" for name in plan.features))
        known &= F.col("class").isNotNull() | _is_unlabelled(plan)
        photos = featured.withColumn("known", known).drop(*plan.features).localCheckpoint()
        others = spark.sql(_catalog(settings, plan, within=False)).select("content_sha256").distinct()
        apart = photos.filter("known").drop("known").join(others, "content_sha256", "left_anti")
        with _persisted(_cut(apart, plan), StorageLevel.MEMORY_AND_DISK_DESER) as parts:
            described = _describe(plan, photos, parts)
            folder = settings.home / "training" / described.fingerprint
            if (folder / ABOUT).is_file():
                os.utime(folder)  # in use: maintenance removes what nobody touched
            else:
                rows = featured.select("image_id", *plan.features).join(parts, "image_id")
                _write(rows.select("image_id", "label", *plan.features, "part"), described, folder)
    return read_training_set(folder)


@contextmanager
def _persisted(frame: DataFrame, level: StorageLevel) -> Iterator[DataFrame]:
    """``frame``, computed once for all that the block asks of it."""
    frame = frame.persist(level)
    try:
        yield frame
    finally:
        frame.unpersist()


def learnable_splits(settings: Settings, dataset: str) -> list[str]:
    """The splits that may be learned from, ``train`` first.

    Raises:
        UserError: there is no split ``train``.
    """
    known = _splits(settings, dataset)
    if TRAIN not in known:
        raise UserError(
            f"data set {dataset!r} has no split {TRAIN!r} (it has {', '.join(known) or 'none'}): tuning learns from "
            "one split and is measured on others; ingest it as folder ROOT/train/PRODUCT/PHOTO and "
            "ROOT/test/PRODUCT/PHOTO, or as a table with a column split"
        )
    return [TRAIN, *(split for split in _OWN_VALIDATION if split in known)]


def _splits(settings: Settings, dataset: str) -> list[str]:
    sql = f"SELECT DISTINCT split FROM {CATALOG.name} WHERE {lake.matches(dataset=dataset)}"
    return sorted(row["split"] for row in lake.rows(settings, sql) if row["split"])


def unlabelled_splits(settings: Settings, dataset: str, asked: Sequence[str]) -> list[str]:
    """``asked``, each once, in their order by name.

    Raises:
        UserError: the data set has no such split, or it is learned from with labels, or queries are of it.
    """
    if not asked:
        return []
    kept = (TRAIN, *_OWN_VALIDATION, *facts.REPORTED)
    others = [split for split in _splits(settings, dataset) if split not in kept]
    for split in asked:
        if split not in others:
            raise UserError(
                f"nothing can be learned from split {split!r} of {dataset!r} without its labels: it must be a split of "
                f"that data set, other than {', '.join(kept)}; there is {', '.join(others) or 'none'}"
            )
    return sorted(set(asked))


def _is_unlabelled(plan: _Plan) -> Column:
    return F.col("split").isin(plan.unlabelled)


def _catalog(settings: Settings, plan: _Plan, *, within: bool) -> str:
    """The catalog's rows within the splits that are learned from, or outside of them."""
    names = ", ".join(map(lake.quote, [*plan.splits, *plan.unlabelled]))
    sampled = f" AND sha2(product_id, 256) < {lake.quote(plan.products_below)}" if plan.products_below else ""
    return (
        f"SELECT image_id, content_sha256, split FROM {CATALOG.sql(settings)} WHERE "
        f"{lake.matches(dataset=plan.dataset)} AND coalesce(split, '') {'IN' if within else 'NOT IN'} ({names})"
        f"{sampled if within else ''}"
    )


def _featured(settings: Settings, plan: _Plan) -> DataFrame:
    """Every photo of the splits, with what Feast knew of it at the moment: null where that is nothing."""
    parts = plan.encoded.parts if plan.encoded else []
    views = [feature_store.IMAGES.view(part.encoder, part.encoder_version) for part in parts]
    # Null where any of several is.
    vectors = f"concat({', '.join(f'{view}__embedding' for view in views)})"
    made = {"embedding": vectors, "uri": photo_store.readable_in_sql(settings, "catalog__uri")}
    photos = _catalog(settings, plan, within=True)
    entities = f"SELECT *, timestamp '{plan.moment.isoformat()}' AS event_timestamp FROM ({photos})"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Feast calls its Spark store experimental each time
        job = feature_store.open_store(settings).get_historical_features(
            entity_df=entities,
            features=[
                *(f"{view}:embedding" for view in views),
                *(["catalog:uri"] if "uri" in plan.features else []),
                *{f"labels:{name}" for name in (plan.label, "product_id")},
            ],
            full_feature_names=True,
        )
    return job.to_spark_df().selectExpr(
        *("image_id", "content_sha256", "split"),
        "labels__product_id AS product_id",
        f"labels__{plan.label} AS class",
        *(f"{made[feature]} AS {feature}" for feature in plan.features),
    )


def _cut(every_photo: DataFrame, plan: _Plan) -> DataFrame:
    """``every_photo`` with ``part`` and ``label``, without validation rows whose picture the training part shows too,
    or whose class it lacks, and without unlabelled rows whose picture the validation part shows."""
    photos = every_photo.filter(~_is_unlabelled(plan)) if plan.unlabelled else every_photo
    if len(plan.splits) > 1:
        parts = photos.withColumn("part", F.when(F.col("split") == TRAIN, TRAIN).otherwise(VALIDATION))
    else:
        parts = _drawn(photos, plan)
    train = parts.filter(F.col("part") == TRAIN)
    validation = (
        parts.filter(F.col("part") == VALIDATION)
        .join(train.select("content_sha256").distinct(), "content_sha256", "left_anti")
        .join(train.select("class").distinct(), "class", "left_semi")
    )
    kept = train.unionByName(validation.select(*train.columns))
    numbers = train.select("class").distinct()
    numbers = numbers.withColumn("label", (F.row_number().over(Window.orderBy("class")) - 1).cast("int"))
    labelled = kept.join(numbers, "class")
    if not plan.unlabelled:
        return labelled
    beside = every_photo.filter(_is_unlabelled(plan)).withColumn("class", F.lit(None).cast("string"))
    beside = beside.join(validation.select("content_sha256").distinct(), "content_sha256", "left_anti")
    beside = beside.withColumns({"part": F.lit(TRAIN), "label": F.lit(UNLABELLED)})
    return labelled.unionByName(beside.select(*labelled.columns))


def _drawn(photos: DataFrame, plan: _Plan) -> DataFrame:
    """A share of each class's units for validation, at least one where it has two: the first by a hash."""
    several = F.size(F.collect_set("product_id").over(Window.partitionBy("class"))) > 1
    by_product = several if plan.label != "product_id" else F.lit(False)
    units = photos.withColumn("unit", F.when(by_product, F.col("product_id")).otherwise(F.col("content_sha256")))
    of_class = Window.partitionBy("class")
    validated = f"at <= least(greatest(round({plan.validation_share} * n), 1), n - 1)"
    drawn = (
        units.select("class", "unit")
        .distinct()
        .withColumn("n", F.count("*").over(of_class))
        .withColumn("at", F.row_number().over(of_class.orderBy(_shuffled("unit", plan.seed), "unit")))
        .withColumn("part", F.expr(f"IF({validated}, '{VALIDATION}', '{TRAIN}')"))
    )
    return units.join(drawn.select("class", "unit", "part"), ["class", "unit"]).drop("unit")


def _shuffled(column: str, seed: int) -> Column:
    return F.sha2(F.concat_ws("/", F.lit(str(seed)), F.col(column)), 256)


def _describe(plan: _Plan, photos: DataFrame, parts: DataFrame) -> TrainingSet:
    """What ``training_set.json`` is to say of ``parts``, which were cut from ``photos``.

    Raises:
        UserError: they are too few to learn from.
    """
    sizes: dict[str, int] = {TRAIN: 0, VALIDATION: 0} | dict(parts.groupBy("part").count().collect())
    # Classes may be as many as the products: in Arrow's memory, where rows would take ten times theirs. Spark numbered
    # them in the same order.
    of_class = parts.filter(f"label <> {UNLABELLED}").groupBy("class")
    groups = of_class.agg(F.expr(f"bool_or(part = '{VALIDATION}') AS validated")).toArrow().sort_by("class")
    classes: list[str] = groups.column("class").to_pylist()
    _check(plan, sizes, classes)
    count, labelled = photos.agg(F.count("*"), F.count_if("known")).first() or (0, 0)
    return TrainingSet(
        folder="",
        dataset=plan.dataset,
        label=plan.label,
        encoder=plan.encoded.encoder if plan.encoded else None,
        encoder_version=plan.encoded.encoder_version if plan.encoded else None,
        as_of=plan.moment.isoformat(),
        seed=plan.seed,
        classes=classes,
        train=sizes[TRAIN],
        validation=sizes[VALIDATION],
        validation_from=plan.splits[1] if len(plan.splits) > 1 else TRAIN,
        only_trained=groups.filter(pc.invert(groups.column("validated"))).column("class").to_pylist(),
        without_features=count - labelled,
        left_out=labelled - sum(sizes.values()),
        fingerprint=_fingerprint(plan, parts),
        unlabelled=plan.unlabelled,
    )


def _check(plan: _Plan, sizes: dict[str, int], classes: list[str]) -> None:
    label, where = plan.label, f"split {TRAIN!r} of {plan.dataset!r}"
    if not sizes[TRAIN]:
        encoder = plan.encoded.encoder if plan.encoded else None
        vector = f" with a vector by {encoder!r}: vitrine embed --encoder {encoder} first" if encoder else ""
        raise UserError(f"nothing to learn from in {where}: no photo has a {label}{vector}")
    if len(classes) < 2:
        raise UserError(f"{where} has one {label} ({classes[0]!r}): tuning needs two to tell apart")
    if not sizes[VALIDATION]:
        raise UserError(
            f"no {label} of {plan.dataset!r} has two photos (or products): nothing is left to validate with"
        )


def _fingerprint(plan: _Plan, parts: DataFrame) -> str:
    """Of the rows whatever their order: two sums of hashes, and what they are of."""
    fields = ("image_id", "content_sha256", "class", "part")
    sums = [F.sum(F.xxhash64(F.lit(salt), *fields).cast("decimal(38,0)")) for salt in ("a", "b")]
    digest = [str(value) for value in parts.agg(*sums, F.count("*")).first() or ()]
    by = [plan.encoded.encoder, plan.encoded.encoder_version] if plan.encoded else []
    contents = [*digest, plan.dataset, plan.label, by, plan.seed, *plan.features[1:]]  # earlier sets have one feature
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:16]


def _write(rows: DataFrame, described: TrainingSet, folder: Path) -> None:
    """Write ``rows`` to ``folder``, whole or not at all: all columns but ``part``, which says into which folder."""
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    order = _shuffled("image_id", described.seed)
    try:
        for part, count in described.sizes.items():
            shuffled = rows.filter(F.col("part") == part).withColumn("order", order)
            shuffled = shuffled.repartitionByRange(-(-count // _ROWS_A_FILE), "order").sortWithinPartitions("order")
            shuffled.drop("part", "order").write.parquet(str(fresh / part))
        (fresh / ABOUT).write_text(json.dumps({**asdict(described), "folder": ""}, indent=1))
        if not folder.exists():  # another process may have been quicker, with the same rows
            fresh.replace(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
