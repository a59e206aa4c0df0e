"""The gates: Great Expectations suites in code, on Delta tables, with Data Docs of every run.

The gates ``catalog``, ``embeddings``, ``sync`` and ``metrics`` stand before what serves, and ``index`` where its index
is not an exact one; ``training_set`` stands before a tuning. ``docs/gates.md`` says what each asks for. The context
lives in memory and only its stores are on disk: there is no shared configuration file that two gates at once, or a
killed one, could spoil.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from evaluation.gates.data_docs import GateResult, Rule, decided, rule, validate
from evaluation.gates.drift import FEWEST, drift_checks, read_probe
from evaluation.gates.gate import Check
from vitrine import facts, lake
from vitrine.errors import GateRefused, UserError, VitrineError, unknown
from vitrine.names import check_name
from vitrine.runs import record
from vitrine.setting_sections import GateSettings
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, ENCODERS, LABELS, QUARANTINE, TABLES

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from evaluation.gates.training_set import Rows
    from evaluation.milvus.vector_index import VectorIndex

GATES = ("catalog", "embeddings", "sync", "metrics", "index")


def gates(settings: Settings) -> tuple[str, ...]:
    """Those that a version has to pass before it serves."""
    return GATES if settings.milvus.index != "FLAT" else GATES[:-1]


def run_gate(
    settings: Settings,
    gate: str,
    dataset: str,
    encoder: str | None = None,
    encoder_version: str | None = None,
    spark: "SparkSession | None" = None,
    milvus: "VectorIndex | None" = None,
) -> GateResult:
    """Ask one gate, write its Data Docs and its row of ``runs``.

    ``encoder`` and ``encoder_version`` go with all gates but the catalog's, ``spark`` with those on the catalog and
    embeddings, ``milvus`` with those on the sync and the index.

    Raises:
        UserError: the gate or data set is unknown, or there is nothing to judge yet.
        GateRefused: with the expectations that failed and their figures, after all is written.
    """
    if gate not in GATES:
        raise unknown("gate", gate, GATES)
    check_name(dataset, "data set name")
    known = _known_datasets(settings)
    if dataset not in known:
        raise unknown("data set", dataset, known)
    if gate == "catalog":
        encoder = encoder_version = None
    elif not encoder or not encoder_version:
        raise UserError(f"gate {gate!r} judges one encoder: name it with --encoder")
    with record(settings, "gate", dataset, encoder) as run:
        run.encoder_version = encoder_version
        run.catalog_version = facts.catalog_version(settings, dataset)
        run.figures = {"gate": gate}
        if gate == "metrics":
            from evaluation.gates.metrics import gate_metrics

            result = gate_metrics(settings, dataset, str(encoder), str(encoder_version), run.run_id)
        elif gate in ("sync", "index"):
            from evaluation.gates.index import gate_index
            from evaluation.gates.sync import gate_sync

            if milvus is None:
                raise VitrineError(f"gate {gate!r} needs Milvus")
            judge = gate_sync if gate == "sync" else gate_index
            result = judge(settings, milvus, dataset, str(encoder), str(encoder_version), run.run_id)
        elif spark is None:
            raise VitrineError(f"gate {gate!r} needs a Spark session")
        elif gate == "catalog":
            result = gate_catalog(settings, dataset, spark, run.run_id)
        else:
            result = gate_embeddings(settings, dataset, str(encoder), str(encoder_version), spark, run.run_id)
        run.figures = result.figures()
        if not result.success:
            subject = dataset if encoder is None else f"{encoder} ({encoder_version}) for {dataset}"
            raise GateRefused(_refusal(result, subject, "What serves goes on serving"))
    return result


def run_training_set_gate(settings: Settings, rows: "Rows", encoder_version: str | None) -> GateResult:
    """As ``run_gate``, of a training set that is written already.

    Raises:
        GateRefused: as ``run_gate``.
    """
    from evaluation.gates.training_set import gate_training_set

    with record(settings, "gate", rows.dataset, rows.encoder) as run:
        run.encoder_version = encoder_version
        run.catalog_version = facts.catalog_version(settings, rows.dataset)
        run.figures = {"gate": "training_set"}
        result = gate_training_set(settings, rows, run.run_id)
        run.figures = result.figures()
        if not result.success:
            subject = f"{rows.train} photos of {rows.dataset}" + (f" by {rows.encoder}" if rows.encoder else "")
            raise GateRefused(_refusal(result, subject, "Nothing is tuned"))
    return result


def _refusal(result: GateResult, subject: str, what_now: str) -> str:
    faults = "; ".join(
        f"{check['expectation']} [{', '.join(f'{k} {_told(v)}' for k, v in check['figures'].items())}]"
        for check in result.failed
    )
    return f"gate {result.gate} refused {subject}: {faults}. {what_now}; see {result.data_docs}"


def _told(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return (
        value if isinstance(value, str) and value.isprintable() else json.dumps(value, ensure_ascii=False, default=str)
    )


def _known_datasets(settings: Settings) -> list[str]:
    """Every data set that an ingest ever named, also where nothing of it could be read."""
    names = " UNION ".join(f"SELECT dataset FROM {table.name}" for table in (CATALOG, LABELS, QUARANTINE))
    return [row["dataset"] for row in lake.rows(settings, names)]


# ---- the catalog ----


def gate_catalog(settings: Settings, dataset: str, spark: "SparkSession", run_id: str | None = None) -> GateResult:
    """Is the catalog of ``dataset`` fit to be embedded?"""
    here = f"dataset = {lake.quote(dataset)}"
    sql = f"SELECT count(*) AS n FROM {QUARANTINE.name} WHERE {here} AND stage = 'ingest'"
    quarantined = int(lake.rows(settings, sql)[0]["n"])
    photos = int(lake.rows(settings, f"SELECT count(*) AS n FROM {CATALOG.name} WHERE {here}")[0]["n"])
    share = quarantined / (quarantined + photos) if quarantined + photos else 0.0
    most = settings.gates.max_quarantine_share
    counted = {"quarantined": quarantined, "catalog": photos, "share": share, "max_quarantine_share": most}
    rules = [
        rule("ExpectTableRowCountToBeBetween", "the catalog is not empty", min_value=1),
        rule("ExpectColumnValuesToBeInSet", "image_id is unique", column="copies", value_set=[1]),
        rule("ExpectColumnValuesToNotBeNull", "every photo has a product_id", column="product_id"),
        rule("ExpectColumnValuesToNotBeNull", "every photo is in the label history", column="labelled"),
        rule(
            "ExpectColumnValuesToMatchRegex",
            "content_sha256 is 64 hex digits",
            column="content_sha256",
            regex=r"^[0-9a-f]{64}\z",
        ),
        *(
            rule("ExpectColumnValuesToBeBetween", f"{name} is at least 1", column=name, min_value=1)
            for name in ("width", "height", "size")
        ),
        rule(
            "UnexpectedRowsExpectation",
            f"at most {most:.1%} of the photos are in quarantine",
            counted,
            unexpected_rows_query=f"SELECT {quarantined} AS quarantined, count(*) AS catalog FROM {{batch}} "
            f"HAVING {quarantined} > {most!r} * ({quarantined} + count(*))",
        ),
    ]
    with _persisted(_catalog_frame(settings, dataset, spark)) as frame:
        return validate(settings, "catalog", dataset, frame, rules, run_id)


def _catalog_frame(settings: Settings, dataset: str, spark: "SparkSession") -> "DataFrame":
    """One row a photo; what is null or blank is null in ``product_id`` and ``labelled``, and a fault elsewhere."""
    from pyspark.sql import functions as F

    catalog = _read(spark, settings, CATALOG.name).filter(F.col("dataset") == dataset)
    labels = _read(spark, settings, LABELS.name).filter(F.col("dataset") == dataset)
    labelled = labels.select("image_id").distinct().withColumn("labelled", F.lit(True))
    prefix = f"{dataset}/"
    own = F.when(F.col("product_id").startswith(prefix), F.substr("product_id", F.lit(len(prefix) + 1)))
    return catalog.join(labelled, "image_id", "left").select(
        "image_id",
        _copies(),
        F.when(F.trim(F.coalesce(own, F.col("product_id"))) != "", F.col("product_id")).alias("product_id"),
        "labelled",
        F.coalesce("content_sha256", F.lit("")).alias("content_sha256"),
        *(F.coalesce(F.col(name), F.lit(0)).alias(name) for name in ("width", "height", "size")),
    )


# ---- the embeddings ----


def gate_embeddings(
    settings: Settings,
    dataset: str,
    encoder: str,
    encoder_version: str,
    spark: "SparkSession",
    run_id: str | None = None,
) -> GateResult:
    """Are the vectors of one encoder version whole, sound, and those of the catalog as it is now?

    Raises:
        UserError: the version never embedded anything.
    """
    sql = f"SELECT dim FROM {ENCODERS.name} WHERE encoder_version = {lake.quote(encoder_version)}"
    found = lake.rows(settings, sql)
    if not found:
        raise UserError(
            f"encoder {encoder!r} ({encoder_version}) never embedded anything: "
            f"run `vitrine embed --encoder {encoder} --dataset {dataset}` first"
        )
    serving = facts.serving(settings, dataset)
    drift = _drift(settings, dataset, encoder, encoder_version, serving)
    rules = [*_embedding_rules(settings.gates, int(found[0]["dim"])), *map(decided, drift)]
    version = serving["encoder_version"] if serving else None
    with _persisted(_audit_frame(settings, dataset, encoder, encoder_version, spark)) as frame:
        return validate(settings, "embeddings", f"{dataset} {encoder}", frame, rules, run_id, version)


def _drift(
    settings: Settings, dataset: str, encoder: str, encoder_version: str, serving: dict[str, Any] | None
) -> list[Check]:
    """The version's vectors against those of what serves; nothing to ask where that is nothing, or this version."""
    if not serving or serving["encoder_version"] == encoder_version:
        return []
    sides = (encoder, encoder_version), (serving["encoder"], serving["encoder_version"])
    probe = read_probe(settings, dataset, *sides, settings.gates.probes)
    if probe is None:
        why = f"fewer than {FEWEST} photos of different content have a vector of what serves too"
        return [Check("drift", True, f"skipped: {why}", {"skipped": why})]
    return drift_checks(probe, settings.gates)


def _embedding_rules(gates: GateSettings, dim: int) -> list[Rule]:
    tolerance, most = gates.norm_tolerance, gates.max_quarantine_share

    def never(state: str, text: str) -> Rule:
        return rule("ExpectColumnValuesToNotBeInSet", text, column="state", value_set=[state])

    return [
        rule("ExpectTableRowCountToBeBetween", "there are photos to embed", min_value=1),
        rule("ExpectColumnValuesToBeInSet", "one vector an image and encoder version", column="copies", value_set=[1]),
        never("missing", "no photo lacks its vector"),
        never("stale", "every vector is of its photo's current content"),
        never("left over", "no vector is of a photo that left the catalog"),
        rule(
            "ExpectColumnValuesToBeBetween",
            f"every vector has {dim} dimensions",
            {"expected": dim},
            column="dimension",
            min_value=dim,
            max_value=dim,
        ),
        rule(
            "ExpectColumnValuesToBeInSet",
            "no vector holds NaN, infinity or null",
            column="finite",
            value_set=[True],
        ),
        rule(
            "ExpectColumnValuesToBeBetween",
            f"every vector's norm is 1 ± {tolerance:g}",
            {"norm_tolerance": tolerance},
            column="norm",
            min_value=1 - tolerance,
            max_value=1 + tolerance,
        ),
        rule(
            "ExpectColumnMeanToBeBetween",
            f"the encoder put at most {most:.1%} of the photos in quarantine",
            {"max_quarantine_share": most},
            column="in_quarantine",
            max_value=most,
        ),
    ]


def _audit_frame(
    settings: Settings, dataset: str, encoder: str, encoder_version: str, spark: "SparkSession"
) -> "DataFrame":
    """One row a photo or vector (a full outer join), without the vectors: they are read once, here.

    ``finite`` and ``norm`` come from one sum of squares in double: a null, NaN or infinite element makes it so, and
    squares of float32 cannot overflow it.
    """
    from pyspark.sql import functions as F

    here = F.col("dataset") == dataset
    catalog = _read(spark, settings, CATALOG.name).filter(here)
    vectors = _read(spark, settings, EMBEDDINGS.name).filter(here & (F.col("encoder_version") == encoder_version))
    refused = _read(spark, settings, QUARANTINE.name).filter(
        here & (F.col("stage") == "embed") & (F.col("encoder") == encoder)
    )
    squares = F.expr("aggregate(embedding, 0D, (total, x) -> total + CAST(x AS DOUBLE) * x)")
    stored = vectors.select(
        "image_id",
        F.col("content_sha256").alias("stored_sha256"),
        F.lit(True).alias("has_vector"),
        F.coalesce(F.array_size("embedding"), F.lit(0)).alias("dimension"),
        squares.alias("squares"),
    )
    both = (
        catalog.select("image_id", F.col("content_sha256").alias("wanted_sha256"), F.lit(True).alias("in_catalog"))
        .join(stored, "image_id", "full_outer")
        .join(refused.select("image_id", F.lit(True).alias("refused")).distinct(), "image_id", "left")
    )
    finite = F.expr("squares IS NOT NULL AND NOT isnan(squares) AND squares < double('Infinity')")
    state = F.expr(
        "CASE WHEN has_vector IS NULL THEN if(refused, 'quarantined', 'missing') WHEN in_catalog IS NULL "
        "THEN 'left over' WHEN NOT stored_sha256 <=> wanted_sha256 THEN 'stale' ELSE 'current' END"
    )
    return both.select(
        "image_id",
        _copies(),
        state.alias("state"),
        "dimension",
        F.when(F.col("has_vector"), finite).alias("finite"),
        F.when(finite, F.sqrt("squares")).alias("norm"),
        F.when(F.col("in_catalog"), (state == "quarantined").cast("int")).alias("in_quarantine"),
    )


# ---- asking ----


def _read(spark: "SparkSession", settings: Settings, name: str) -> "DataFrame":
    lake.create_tables(settings, [TABLES[name]])
    return spark.read.format("delta").load(TABLES[name].uri(settings))


def _copies() -> "Column":
    """How many rows have this row's image_id: counted once, where the join has them together already."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    return F.count("*").over(Window.partitionBy("image_id")).alias("copies")


@contextlib.contextmanager
def _persisted(frame: "DataFrame") -> Iterator["DataFrame"]:
    """Great Expectations asks many small questions: they read a narrow copy, not the tables."""
    from pyspark import StorageLevel

    kept = frame.persist(StorageLevel.DISK_ONLY)
    try:
        yield kept
    finally:
        kept.unpersist()
