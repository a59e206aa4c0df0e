"""The front door: every verb of Vitrine. The one module here that imports the rooms, each where it is needed."""

import os
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrine import facts, lake, runs
from vitrine.cli import options, output
from vitrine.cli.options import (
    Dataset,
    Datasets,
    Encoders,
    Json,
    Label,
    chosen_datasets,
    embed_named,
    evaluate_one,
    show,
    show_each,
    version_of,
)
from vitrine.cli.verbs.browse import browse
from vitrine.cli.verbs.check import check
from vitrine.cli.verbs.night import app as nights_app
from vitrine.cli.verbs.serve import lookup, serve
from vitrine.cli.verbs.sql import sql, sql_server
from vitrine.cli.verbs.tune import app as tune_app
from vitrine.cli.verbs.tune import classify
from vitrine.datasets import registry
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError, VitrineError
from vitrine.settings import Settings, check_name, load_settings

if TYPE_CHECKING:
    from vitrine.online.sync import Fill

app = typer.Typer(
    name="vitrine",
    help="Turn a shop's product photos into served, searchable, measured embeddings.\n\n"
    "A first walk:  vitrine ingest PHOTOS --dataset shop,  vitrine embed --encoder efficientnet_lite0 --dataset shop,  "
    "vitrine evaluate --encoder efficientnet_lite0 --dataset shop,  vitrine report.  Or all at once: vitrine demo.\n\n"
    "Exit codes: 0 done, 1 failed, 2 the caller's mistake, 3 a gate refused.",
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.add_typer(tune_app)
app.command()(classify)
app.add_typer(nights_app)  # without a name: its verbs stand beside the others
app.command()(lookup)
app.command()(serve)
app.command()(browse)
app.command()(check)
app.command()(sql)
app.command()(sql_server)


_FULL_DISK = ("No space left on device", "database or disk is full", "Disk quota exceeded")
"""As the libraries say it: the system, SQLite."""

Gated = Annotated[
    bool, typer.Option("--gate", help="Then ask the gate on it, without starting Spark again; exit 3 where it refuses.")
]


class Gate(StrEnum):
    catalog = "catalog"
    embeddings = "embeddings"
    sync = "sync"
    metrics = "metrics"
    index_ = "index"  # str has a method of that name


@app.command(epilog=f"Layouts:\n\n{registry.describe()}")
def ingest(
    source: Annotated[str, typer.Argument(help="A folder, a table's path or URI, or for generated e.g. 40x12.")],
    dataset: Dataset,
    layout: Annotated[str, typer.Option(help="How the source is laid out: one of those below.")] = "folder",
    test_share: Annotated[
        float | None,
        typer.Option(
            help="Of photos without a split: the share that becomes test, the rest train; by id.", min=0.01, max=0.99
        ),
    ] = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="A published data set, whatever its counts.")
    ] = False,
    allow_removals: Annotated[
        bool, typer.Option("--allow-removals", help="However many photos left: past gates.max_removed_share.")
    ] = False,
    gated: Gated = False,
    as_json: Json = False,
) -> None:
    """Bring a catalog in: new and changed photos are read, unreadable ones quarantined, those that left removed.

    Exit 3, and nothing changed, where far more photos left than in any usual night.
    """
    settings = load_settings()
    check_name(dataset, "data set")
    with runs.record(settings, "ingest", dataset) as run:
        from spark_jobs.ingest_catalog import ingest as job

        how = {"allow_partial": allow_partial, "allow_removals": allow_removals}
        found = job(settings, source, dataset, layout, test_share=test_share, **how)
        run.figures |= found | {"layout": layout}
    if gated:
        options.gate(settings, "catalog", dataset)
    show(f"ingested {dataset}", run.figures, as_json)


@app.command()
def embed(
    encoder: Encoders,
    dataset: Datasets = None,
    gated: Gated = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    as_json: Json = False,
) -> None:
    """Embed what is missing, and nothing else; several encoders share one pass over the photos.

    A top-tuned encoder is computed from its base's vectors, which are brought up to date before.
    """
    settings = load_settings()
    results = []
    for chosen in chosen_datasets(settings, dataset):
        results += embed_named(settings, encoder, chosen, dry_run)
    for result in results if gated and not dry_run else []:
        options.gate(settings, "embeddings", result["dataset"], result["encoder"], result["encoder_version"])
    show_each("embedded", results, as_json)


@app.command()
def evaluate(
    encoder: Encoders,
    dataset: Datasets = None,
    queries: Annotated[str | None, typer.Option(help="The split that asks.", metavar="SPLIT")] = None,
    index: Annotated[str | None, typer.Option(help="The split that is searched.", metavar="SPLIT")] = None,
    relevant: Annotated[Label, typer.Option(help="What counts as found.")] = Label.product_id,
    with_serving: Annotated[
        bool, typer.Option("--with-serving", help="What the gate compares with too, where its figures are missing.")
    ] = False,
    full_map: Annotated[
        bool, typer.Option("--full-map", help="MAP over the ranking of the whole index too, exact: it takes longer.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Compute what is there already, too.")] = False,
    gated: Annotated[
        bool,
        typer.Option("--gate", help="Then ask the gates on Milvus's rows and the metrics; exit 3 where one refuses."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Retrieval metrics from Milvus's neighbours, and what classifiers said, scored; what is missing, and nothing else.

    Without splits: the data set's own protocol, else leave-one-out.
    """
    from evaluation import metrics_table
    from evaluation.gates.metrics import compared_with

    settings = load_settings()
    how = (queries, index, relevant.value)
    results = []
    for name in dict.fromkeys(encoder):
        for chosen in chosen_datasets(settings, dataset):
            asked, version = version_of(settings, name)
            done = evaluate_one(settings, asked, version, chosen, how, full_map, again)
            results.append(done)
            for other in compared_with(settings, EncodedSet(chosen, asked, version)) if with_serving else []:
                of = other.encoded
                there = other.kind == "serving" or facts.embedded(settings, of)
                if there and not metrics_table.evaluated(settings, of.encoder_version, done):
                    results.append(evaluate_one(settings, of.encoder, of.encoder_version, chosen, how, full_map, again))
            if gated:
                for which in ("sync", "metrics"):
                    options.gate(settings, which, chosen, asked, version)
    show_each("evaluated", results if as_json else [output.with_intervals(result) for result in results], as_json)


@app.command()
def features(
    dataset: Datasets = None,
    with_spark: Annotated[
        bool,
        typer.Option("--spark", help="What holds nothing yet is filled by Spark's executors: for millions of rows."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Feast: apply the definitions, bring the online store to the lake's version, point the serving services."""
    settings = load_settings()
    fill = _spark_fill(settings) if with_spark else None
    show("features", options.features(settings, chosen_datasets(settings, dataset), fill=fill), as_json)


def _spark_fill(settings: Settings) -> "Fill":
    from functools import partial

    from spark_jobs.fill_online import fill_online
    from spark_jobs.session import build_session

    return partial(fill_online, build_session(settings, "features"))


@app.command()
def index(
    encoder: Encoders,
    dataset: Datasets = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Write all rows again, whatever Milvus holds.")] = False,
    as_json: Json = False,
) -> None:
    """Milvus: bring the collections to the lake's version, and the alias to what serves; exit 3 where its index finds
    too little of what exact search finds."""
    settings = load_settings()
    from dataclasses import asdict

    from evaluation.milvus.vector_index import VectorIndex
    from evaluation.promotion.milvus_alias import follow

    results = []
    with VectorIndex(settings) as vectors:
        for name in encoder:
            asked, version = version_of(settings, name)
            for chosen in chosen_datasets(settings, dataset):
                with runs.record(settings, "index", chosen, asked) as run:
                    run.encoder_version = version
                    encoded = EncodedSet(chosen, asked, version)
                    if fresh:
                        vectors.forget(encoded)
                    run.figures |= asdict(vectors.sync(encoded))
                    run.figures |= follow(settings, vectors, chosen, gated=True)
                results.append({"dataset": chosen, "encoder": asked, **run.figures})
    show_each("indexed", results, as_json)


@app.command()
def gate(
    which: Annotated[Gate, typer.Argument(metavar="catalog|embeddings|sync|metrics|index", help="The gate to pass.")],
    dataset: Dataset,
    encoder: Annotated[str | None, typer.Option(help="For all gates but catalog.", metavar="NAME")] = None,
    as_json: Json = False,
) -> None:
    """Great Expectations: exit 3 where a gate refuses, saying which expectation failed, with the figures."""
    settings = load_settings()
    chosen_datasets(settings, [dataset])
    from evaluation.gates.gate import result_json

    if which is not Gate.catalog and encoder is None:
        raise UserError(f"gate {which.value} needs --encoder")
    name, version = version_of(settings, encoder) if encoder else (None, None)
    result = options.gate(settings, which.value, dataset, name, version)
    show(f"gate {which.value} passed", {"dataset": dataset, "encoder": name, **result_json(result)}, as_json)


@app.command()
def promote(
    encoder: Annotated[str, typer.Argument(help="An encoder's name, or a version.")],
    dataset: Dataset,
    force: Annotated[bool, typer.Option("--force", help="Past the gates; needs --reason, and is recorded.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why the gates are passed by.")] = None,
    if_new: Annotated[
        bool, typer.Option("--if-new", help="Only a version that never served: what was rolled back stays back.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let an encoder version serve a data set, if its gates passed; what already serves goes on."""
    settings = load_settings()
    chosen_datasets(settings, [dataset])
    from evaluation.promotion.promote import promote as job

    name, version = version_of(settings, encoder)
    with runs.record(settings, "promote", dataset, name) as run:
        run.encoder_version = version
        run.figures |= job(settings, EncodedSet(dataset, name, version), force, reason, if_new)
        run.figures |= options.follow(settings, dataset)
    show(f"promote {name}", run.figures, as_json)


@app.command()
def rollback(dataset: Dataset, as_json: Json = False) -> None:
    """Let the version that served before serve again, without embedding anything; one cut short is finished."""
    settings = load_settings()
    chosen_datasets(settings, [dataset])
    from evaluation.promotion.promote import rollback as job
    from evaluation.promotion.promote import unfinished_rollback

    with runs.record(settings, "rollback", dataset) as run:
        run.figures |= unfinished_rollback(settings, dataset) or job(settings, dataset)
        run.figures |= options.follow(settings, dataset)
    show(f"rollback {dataset}", run.figures, as_json)


@app.command()
def encoders(
    available: Annotated[bool, typer.Option("--available", help="Those that could be embedded with.")] = False,
    as_json: Json = False,
) -> None:
    """The encoder versions in the lake; with --available, every encoder that can be named."""
    settings = load_settings()
    from vitrine.encoders import backbones, tuned

    if available:
        sizes = ["pixels", "dim", "parameters", "gflops"]
        columns = ["encoder", "backbone", "family", *sizes, "embedding", "weights", "licence"]
        known = [backbones.resolve(settings, name) for name in backbones.names(settings)]
        rows = [
            [item.name, item.spelled, item.family]
            + [getattr(item.facts, size, None) for size in sizes]
            + [item.embedding, item.weights or item.hub or "hub", item.licence]
            for item in known
        ]
        heads = [made for name in tuned.names(settings, "top") if (made := tuned.find(settings, name))]
        rows += [
            [made.name, f"head on {made.base}", made.family, None, made.dim, None, None]
            + ["last hidden layer", str(made.path(settings)), made.licence]
            for made in heads
        ]
    else:
        columns = ["encoder", "encoder_version", "state", "backbone", "dim", "images", "created_at"]
        found = lake.rows(
            settings,
            "SELECT e.*, coalesce(n.images, 0) AS images FROM encoders e LEFT JOIN (SELECT encoder_version, "
            "count(*) AS images FROM embeddings GROUP BY encoder_version) n USING (encoder_version) "
            "ORDER BY created_at",
        )
        rows = [[row[name] for name in columns] for row in found]
    output.emit_rows(columns, rows, "json" if as_json else "table")


@app.command()
def status(as_json: Json = False) -> None:
    """What there is, what serves, and how the last runs went."""
    settings = load_settings()
    from vitrine.cli.verbs.status import status as figures

    found = figures(settings)
    if as_json:
        output.emit_json(found)
        return
    output.emit(f"home {settings.home}")
    for title in ("datasets", "encoders", "last_runs"):
        if found[title]:
            output.emit(f"\n{title.replace('_', ' ')}")
            output.emit_rows(list(found[title][0]), [list(row.values()) for row in found[title]])
        else:
            output.emit(f"\nno {title.replace('_', ' ')} yet: try vitrine demo")


@app.command()
def report(dataset: Datasets = None, as_json: Json = False) -> None:
    """Write the report: one self-contained HTML page."""
    settings = load_settings()
    from evaluation.report.report import write_report

    with runs.record(settings, "report") as run:
        run.figures["report"] = str(write_report(settings, dataset or None))
    show("report written", run.figures, as_json)


@app.command()
def maintain(
    keep_days: Annotated[int, typer.Option(min=7, help="How long time travel reaches back.")] = 30,
    keep_runs_days: Annotated[
        int, typer.Option(min=30, help="How long `runs` keeps more than each job's newest.")
    ] = 400,
    as_json: Json = False,
) -> None:
    """Compact the tables, remove files that no version of the last days needs, and drop Milvus's old collections."""
    settings = load_settings()
    with runs.record(settings, "maintain") as run:
        from evaluation.promotion.old_collections import drop_old
        from spark_jobs.maintain_tables import maintain as job

        run.figures |= job(settings, keep_days, keep_runs_days)
        run.figures |= drop_old(settings)
    show("maintained", run.figures, as_json)


@app.command()
def demo(
    source: Annotated[str, typer.Option(help="PRODUCTSxPHOTOS[:SEED] of the catalog that is drawn.")] = "40x12",
    as_json: Json = False,
) -> None:
    """All of it, on a small catalog that it draws itself: the nightly DAG by Airflow, then what came of it."""
    settings = load_settings()
    from vitrine.cli.verbs.demo import demo as run_demo

    show("demo", run_demo(settings, source), as_json)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit by its code; a mistake of the caller's is one line on stderr."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and "--help" not in given:
        output.claim_stdout()
    _exit(lambda: app(args=given or ["--help"], prog_name="vitrine"))


def _exit(command: Callable[[], Any]) -> None:
    try:
        command()  # the caller's mistakes in the arguments end inside, with 2
    except VitrineError as error:
        print(f"vitrine: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as ended:
        if ended.code == 130:  # what Typer makes of Ctrl-C
            print("vitrine: stopped; the same command goes on where it was", file=sys.stderr)
        raise
    except Exception as error:
        if os.environ.get("VITRINE_DEBUG"):
            raise
        said = (str(error).strip() or "no message").splitlines()[0][:300]
        if any(sign in str(error) for sign in _FULL_DISK):
            said = "a disk is full: make room, and the same command goes on"
        print(f"vitrine: {type(error).__name__}: {said} (VITRINE_DEBUG=1 shows where)", file=sys.stderr)
        sys.exit(1)
