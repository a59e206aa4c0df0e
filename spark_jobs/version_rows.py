"""One encoder version's rows of a data set: what they miss, and the commit that brings them to the catalog.

Whoever computes the missing vectors puts them under ``staging``, by content, and then commits: new and changed photos,
relabelled ones without a new vector, photos that left, the quarantine, and the products' vectors. For networks, whose
vectors are dear; ``apply_head`` computes its own anew.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import reduce
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs.backfill_order import Order
from spark_jobs.delta_tables import NO_PATTERNS, merge_or_append, no_rows, persisted, read_table, spark_schema
from spark_jobs.embed_products import embed_products
from spark_jobs.quarantine import merge_quarantine
from vitrine import facts, lake, staging
from vitrine.encoded_set import EncodedSet
from vitrine.photo_store import readable_in_sql
from vitrine.runs import EmbedCounts
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, ENCODERS, LABEL_COLUMNS, QUARANTINE

STAGED = pa.schema(
    [
        ("content_sha256", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("code", pa.string()),
        ("reason", pa.string()),
        ("encoder_version", pa.string()),
    ]
)
"""A vector, or why there is none, by content: what a task leaves under ``staging``."""
_COPIES = 4


def stage(settings: Settings, dataset: str, vectors: DataFrame) -> None:
    """Compute ``vectors``, rows of ``STAGED``, into the staging of their versions; each task's end is a checkpoint."""
    # 2: a task's files are there when it ends, not when the job does.
    staged = vectors.write.mode("append").option("mapreduce.fileoutputcommitter.algorithm.version", "2")
    staged.partitionBy("encoder_version").parquet(staging.folder(settings, dataset))


@dataclass(frozen=True)
class RegisteredVersion:
    """An encoder version, as ``encoders`` registers it."""

    encoder: str
    encoder_version: str
    dim: int
    backbone: str
    family: str
    weights_uri: str
    licence: str
    strategy: str = "pretrained"
    source_dataset: str | None = None
    base_version: str | None = None
    cost: str | None = None
    mlflow_run: str | None = None

    def figures(self) -> dict[str, Any]:
        return {"encoder_version": self.encoder_version, "dim": self.dim}


def register(settings: Settings, version: RegisteredVersion) -> None:
    """The version's row of ``encoders``; one that is there keeps all but its state, which follows ``[nightly]``."""
    known = facts.find_encoder(settings, version.encoder_version)
    state = facts.usual_state(settings, version.encoder)
    if known and known["state"] in (state, facts.RETIRED):
        return
    row = known | {"state": state} if known else {**asdict(version), "state": state, "created_at": lake.now()}
    data = pa.Table.from_pylist([row], schema=ENCODERS.schema)
    lake.write(settings, ENCODERS, data, replacing={"encoder_version": version.encoder_version})


def nothing(unchanged: int) -> dict[str, Any]:
    """The figures of a run that found nothing to do."""
    return asdict(EmbedCounts(unchanged=unchanged))


class VersionRows:
    """One version's rows of a data set, and how they differ from the catalog: frames, computed when somebody asks.

    ``sharing`` are the versions that one pass brings to the catalog. Of the rows of photos that left, each deletes its
    own, and the first one those of all other versions: a photo that moved still lends its vector to its new place until
    its own version's commit. With ``order``, the pass embeds some of what is missing.
    """

    def __init__(
        self,
        spark: SparkSession,
        settings: Settings,
        registered: RegisteredVersion,
        dataset: str,
        sharing: Sequence[str],
        order: Order | None = None,
    ) -> None:
        self.spark, self.settings, self.registered, self.dataset = spark, settings, registered, dataset
        self.version = registered.encoder_version
        self.encoded = EncodedSet(dataset, registered.encoder, self.version)
        self.order = order
        self.catalog = read_table(spark, settings, CATALOG).filter(F.col("dataset") == dataset)
        self.of_all = read_table(spark, settings, EMBEDDINGS)
        self.quarantine = read_table(spark, settings, QUARANTINE)
        self.behind = self._behind()
        self.relabelled = self.behind.filter("state = 'relabelled'")
        self.missing = self.behind.filter("state IN ('missing', 'stale')")
        self.chosen = self.missing
        if order:
            self.chosen = order.choose(spark, settings, dataset, self.missing.filter("NOT refused"))
        self.gone = self._gone(sharing)

    def _behind(self) -> DataFrame:
        """The catalog's photos whose row is not as the catalog has it, with the catalog's columns and, of the row,
        ``event_timestamp`` and ``encoder``."""
        listed = ("dataset", "content_sha256", *LABEL_COLUMNS, "attributes", "uri", "content_seen_at")
        tables = {"catalog": self.catalog, "embeddings": self.of_all, "quarantine": self.quarantine}
        names = {name: f"{{{name}}}" for name in tables}
        states = facts.photo_states(self.encoded, **names, listed=listed, carried=("event_timestamp", "encoder"))
        # What has a uri is in the catalog: with this, Spark need not join what left it.
        behind = self.spark.sql(f"SELECT * FROM ({states}) WHERE state <> 'current' AND uri IS NOT NULL", **tables)
        return behind if self.order else behind.drop("refused")  # Spark leaves out the join of what nobody asks for

    def refused_before(self) -> DataFrame:
        """Photos that could not be embedded when they were tried: a backfill does not try them again with each piece,
        and they stay in the quarantine."""
        refused = self.quarantine.filter(facts.quarantined(self.encoded))
        return refused.join(self.missing, "image_id", "left_semi").select("image_id", "uri", "code", "reason")

    def _gone(self, sharing: Sequence[str]) -> DataFrame:
        """Keys of rows of photos that left, which this version deletes."""
        # Keys alone: the vectors are nearly all of the table's bytes.
        keys = self.of_all.filter(F.col("dataset") == self.dataset).select(*EMBEDDINGS.key)
        mine = F.col("encoder_version") == self.version
        if self.version == sharing[0]:
            mine |= ~F.col("encoder_version").isin(list(sharing))
        return keys.join(self.catalog, "image_id", "left_anti").filter(mine)

    def plan(self) -> dict[str, Any]:
        """What a pass would do."""
        with persisted(self.behind):
            return {
                "dry_run": True,
                "to_embed": self.chosen.count(),
                "to_compute": self.to_compute().count(),
                "to_update": self.relabelled.count(),
                "to_delete": self.gone.count(),
                "total": self.catalog.count(),
            }

    @contextmanager
    def begin(self) -> Iterator["Work"]:
        """Register the version, and hold what is missing as it is now until the block ends."""
        register(self.settings, self.registered)
        with persisted(self.behind), persisted(self.chosen) if self.order else nullcontext():
            states: dict[str, int] = dict(self.behind.groupBy("state").count().collect())
            missing, relabelled = states.get("missing", 0) + states.get("stale", 0), states.get("relabelled", 0)
            to_embed = self.chosen.count() if self.order else missing
            yield Work(self, self.catalog.count(), to_embed, relabelled, missing - to_embed)

    def to_compute(self) -> DataFrame:
        """Some uris for each content that has no vector yet: where one copy is damaged by now, another may do."""
        copies, sources = (F.sort_array(F.collect_set(uri)) for uri in (F.expr(readable_in_sql(self.settings)), "uri"))
        uris = F.slice(F.array_distinct(F.concat(copies, sources)), 1, _COPIES)
        contents = self.chosen.groupBy("content_sha256").agg(uris.alias("uris"))
        return contents.join(self._known_vectors().select("content_sha256"), "content_sha256", "left_anti")

    def _known_vectors(self) -> DataFrame:
        """Vectors of the chosen contents that are there already: embedded for another image, or waiting in staging."""
        contents = self.chosen.select("content_sha256").distinct()
        stored = self.of_all.filter(F.col("encoder_version") == self.version)
        known = stored.join(contents, "content_sha256", "left_semi").select("content_sha256", "embedding")
        staged = self._staged().filter("embedding IS NOT NULL").select("content_sha256", "embedding")
        return known.unionByName(staged).groupBy("content_sha256").agg(F.first("embedding").alias("embedding"))

    def _staged(self) -> DataFrame:
        schema = pa.schema([field for field in STAGED if field.name != "encoder_version"])
        if staging.has_vectors(self.settings, self.dataset, self.version):
            return (
                self.spark.read.schema(spark_schema(schema))
                .option(*NO_PATTERNS)
                .parquet(staging.folder(self.settings, self.dataset, self.version))
            )
        return no_rows(self.spark, schema)

    def embedded(self) -> DataFrame:
        """The chosen photos that have a vector by now, with it."""
        return self.chosen.join(self._known_vectors(), "content_sha256")

    def refused(self) -> DataFrame:
        """The chosen photos that came to no vector, with ``code`` and ``reason``."""
        failed = self._staged().filter("embedding IS NULL").dropDuplicates(["content_sha256"])
        refused = self.chosen.join(failed, "content_sha256")
        return refused.join(self.embedded().select("image_id"), "image_id", "left_anti")


@dataclass(frozen=True)
class Work:
    """What a pass has to do for one version, counted when it began."""

    rows: VersionRows
    total: int
    """Photos of the data set."""
    to_embed: int
    updated: int
    """Photos that are relabelled."""
    left: int
    """Photos that a backfill leaves to later pieces."""

    def commit(self, computed: int) -> dict[str, Any]:
        """Photos, quarantine, products: each one commit, each made up for by the next run where this one is killed.
        Then the checkpoints go. ``computed``: for how many contents the pass computed; joins the figures."""
        rows, moment = self.rows, lake.now()
        with persisted(rows.refused()) as refused:
            quarantined = refused.count() if self.to_embed else 0
            gone: dict[str, int] = dict(rows.gone.groupBy("encoder_version").count().collect())
            changes = []
            if self.to_embed:
                changes.append(_embedded_rows(rows, moment))
            if quarantined:
                # A changed photo that cannot be embedded any more must not keep the vector of what it showed before.
                stale = refused.filter("state = 'stale'").withColumn("encoder_version", F.lit(rows.version))
                changes.append(leaving(stale))
            if self.updated:
                changes.append(_relabelled_rows(rows, moment))
            if gone:
                changes.append(leaving(rows.gone))
            if changes:
                touched = ", ".join(lake.quote(version) for version in sorted({*gone, rows.version}))
                within = f"t.dataset = {lake.quote(rows.dataset)} AND t.encoder_version IN ({touched})"
                source = reduce(DataFrame.unionByName, changes)
                most = self.to_embed + quarantined + self.updated + sum(gone.values())
                merge_or_append(rows.spark, rows.settings, EMBEDDINGS, source, within, ("embedding",), most)
            bad = refused.select("image_id", "uri", "code", "reason")
            bad = bad if quarantined else bad.filter("false")  # which Spark knows to be empty
            count, encoder = quarantined, rows.registered.encoder
            if rows.order:
                bad = bad.unionByName(rows.refused_before())
                count = bad.count()
            merge_quarantine(rows.spark, rows.settings, rows.dataset, "embed", encoder, bad, count, moment)
        made = embed_products(rows.spark, rows.settings, rows.dataset, rows.version)
        for version in gone.keys() - {rows.version}:  # photos that left took their vectors of every version along
            embed_products(rows.spark, rows.settings, rows.dataset, version)
        staging.clear(rows.settings, rows.dataset, rows.version)
        counts = EmbedCounts(
            embedded=self.to_embed - quarantined,
            unchanged=self.total - self.to_embed - self.left - self.updated,
            updated=self.updated,
            deleted=sum(gone.values()),
            quarantined=quarantined,
            computed=computed,
        )
        return {**asdict(counts), **made}


def _embedded_rows(rows: VersionRows, moment: datetime) -> DataFrame:
    added = {
        "encoder_version": F.lit(rows.version),
        "encoder": F.lit(rows.registered.encoder),
        "event_timestamp": F.col("content_seen_at"),
        "created_timestamp": F.lit(moment),
        "gone": F.lit(False),
    }
    return rows.embedded().withColumns(added).select(*EMBEDDINGS.schema.names, "gone")


def _relabelled_rows(rows: VersionRows, moment: datetime) -> DataFrame:
    added = {
        "encoder_version": F.lit(rows.version),
        "created_timestamp": F.lit(moment),
        "embedding": F.lit(None).cast("array<float>"),  # the merge keeps the stored one
        "gone": F.lit(False),
    }
    return rows.relabelled.withColumns(added).select(*EMBEDDINGS.schema.names, "gone")


def leaving(rows: DataFrame) -> DataFrame:
    """Keys of embeddings as rows of a merge that delete them."""
    known = {name: F.col(name) for name in EMBEDDINGS.key}
    schema = spark_schema(EMBEDDINGS.schema)
    columns = [known.get(f.name, F.lit(None).cast(f.dataType)).alias(f.name) for f in schema.fields]
    return rows.select(*columns, F.lit(True).alias("gone"))
