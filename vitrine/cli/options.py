"""What the verbs of the command line share: options, how results are shown, and work that several of them start."""

from contextlib import ExitStack
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrine import facts, lake, locks, runs, tracking
from vitrine.cli import output
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError, unknown
from vitrine.settings import Settings, check_name

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from evaluation.gates.training_set import WrittenSet
    from vitrine.encoders.tuned import Tuned
    from vitrine.online.sync import Fill
    from vitrine.runs import GateFigures


class Label(StrEnum):
    product_id = "product_id"
    category = "category"


Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, and nothing else.")]
Dataset = Annotated[str, typer.Option("--dataset", help="The name of a data set.", metavar="NAME")]
Datasets = Annotated[
    list[str] | None, typer.Option("--dataset", help="A data set; may repeat. Left out: all.", metavar="NAME")
]
Encoder = Annotated[str, typer.Option("--encoder", help="An encoder's name, or a version.", metavar="NAME")]
Encoders = Annotated[list[str], typer.Option("--encoder", help="An encoder; may repeat.", metavar="NAME")]


def show(title: str, figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.emit_json(figures)
    else:
        output.emit_figures(title, figures)


def show_each(title: str, results: list[dict[str, Any]], as_json: bool) -> None:
    """One result is shown as it is; several as a list under ``results``."""
    if as_json:
        output.emit_json(results[0] if len(results) == 1 else {"results": results})
        return
    for result in results:
        output.emit_figures(f"{title} {result.get('dataset', '')} {result.get('encoder', '')}".rstrip(), result)


def chosen_datasets(settings: Settings, names: list[str] | None) -> list[str]:
    """The data sets asked for, or all there are."""
    known = facts.datasets(settings)
    for name in names or []:
        if check_name(name, "data set") not in known:
            raise unknown("data set", name, known)
    if not known:
        raise UserError("there is no data set yet: vitrine ingest SOURCE --dataset NAME makes one")
    return list(dict.fromkeys(names)) if names else known


def version_of(settings: Settings, encoder: str) -> tuple[str, str]:
    """(name, version) of an encoder's name, as it is configured now, or of a version itself."""
    from vitrine.encoders import by_name

    by_version = lake.rows(settings, f"SELECT encoder FROM encoders WHERE encoder_version = {lake.quote(encoder)}")
    if by_version:
        return by_version[0]["encoder"], encoder
    return encoder, by_name.version(settings, encoder)


def gate(
    settings: Settings, which: str, dataset: str, encoder: str | None = None, version: str | None = None
) -> "GateFigures":
    """Ask one gate, in the Spark session of this process where it needs one.

    Raises:
        GateRefused: with the expectations that failed.
    """
    from evaluation.gates.ask_gate import ask_gate

    def spark() -> "SparkSession":
        from spark_jobs.session import build_session

        return build_session(settings, f"gate {which}")

    encoded = EncodedSet(dataset, encoder, version) if encoder and version else None
    return ask_gate(settings, which, dataset, encoded, spark)


def gate_training_set(settings: Settings, written: "WrittenSet", version: str | None) -> None:
    """Raises GateRefused where nothing may learn from ``written``."""
    from evaluation.gates.ask_gate import ask_training_set

    ask_training_set(settings, written, version)


def embed_named(settings: Settings, names: list[str], dataset: str, dry_run: bool = False) -> list[dict[str, Any]]:
    """One object a name: networks share a pass over the photos, heads follow from their bases'."""
    from vitrine.encoders.by_name import find_head

    names = list(dict.fromkeys(names))
    heads = {name: head for name in names if (head := find_head(settings, name))}
    networks = list(dict.fromkeys(heads[name].base if name in heads else name for name in names))
    done = _plan_embedding(settings, networks, dataset) if dry_run else _embed_together(settings, networks, dataset)
    figures = dict(zip(networks, done, strict=True))
    figures |= {name: _apply_head(settings, head, dataset, dry_run) for name, head in heads.items()}
    return [{"dataset": dataset, "encoder": name, **figures[name]} for name in names]


def _plan_embedding(settings: Settings, names: list[str], dataset: str) -> list[dict[str, Any]]:
    from spark_jobs.embed_catalog import embed_together as job

    return job(settings, names, dataset, dry_run=True)


def _embed_together(settings: Settings, names: list[str], dataset: str) -> list[dict[str, Any]]:
    from spark_jobs.embed_catalog import embed_together as job

    with ExitStack() as stack:
        recorded = [stack.enter_context(runs.record(settings, "embed", dataset, name)) for name in names]
        done = job(settings, names, dataset)
        passes = sum(figures.get("seconds", 0.0) for figures in done)
        for run, figures in zip(recorded, done, strict=True):
            run.encoder_version = figures["encoder_version"]
            share = figures["seconds"] / passes if passes and "seconds" in figures else 1 / len(names)
            seconds = run.seconds * share  # Spark's start belongs to the cost too
            rate = round(figures["computed"] / seconds, 2)
            run.figures |= figures | {"seconds": round(seconds, 3), "images_per_second": rate}
    for run in recorded:
        if run.figures["computed"]:
            tracking.to_mlflow(settings, run)
    return [run.figures for run in recorded]


def _apply_head(settings: Settings, head: "Tuned", dataset: str, dry_run: bool) -> dict[str, Any]:
    from spark_jobs.apply_head import apply_head as job

    if dry_run:
        return job(settings, head, dataset, dry_run=True)
    with runs.record(settings, "embed", dataset, head.name) as run:
        run.encoder_version = head.encoder_version
        run.figures |= job(settings, head, dataset)
        run.figures |= {
            "seconds": round(run.seconds, 3),
            "images_per_second": round(run.figures["computed"] / run.seconds, 2),
        }
    if run.figures["computed"]:
        tracking.to_mlflow(settings, run)
    return run.figures


def evaluate_one(
    settings: Settings,
    encoder: str,
    version: str,
    dataset: str,
    how: tuple[str | None, str | None, str],
    full_map: bool = False,
    again: bool = False,
) -> dict[str, Any]:
    from evaluation.evaluate import evaluate as job

    with runs.record(settings, "evaluate", dataset, encoder) as run:
        run.encoder_version = version
        found = job(
            settings, EncodedSet(dataset, encoder, version), *how, run_id=run.run_id, full_map=full_map, again=again
        )
        run.figures.update(found)
        run.catalog_version = run.figures["catalog_version"]
    return {"dataset": dataset, "encoder": encoder, **run.figures}


def features(
    settings: Settings, datasets: list[str], fresh: bool = False, fill: "Fill | None" = None
) -> dict[str, Any]:
    """Feast: definitions, online rows, serving services; ``fresh`` and ``fill`` as ``online_sync.sync`` has them."""
    from feature_repo import definitions
    from vitrine import feature_store
    from vitrine.online import sync

    one = datasets[0] if len(datasets) == 1 else None
    with locks.held(settings, "features"), runs.record(settings, "features", one) as run:
        store = feature_store.open_store(settings)
        feature_store.apply(store, definitions.objects(settings))
        run.figures |= {"upserted": 0, "deleted": 0, "views": []}
        for dataset in datasets:
            for name, figure in sync.sync_all(settings, store, dataset, fresh, fill).items():
                run.figures[name] += figure
        # Last: a service points to a version only when its rows are there.
        feature_store.apply(store, definitions.serving_services(settings))
    return run.figures


def follow(settings: Settings, dataset: str) -> dict[str, Any]:
    """Milvus's alias and Feast's services follow the newest row of ``promotions``."""
    from evaluation.milvus.vector_index import VectorIndex
    from evaluation.promotion.milvus_alias import follow as point

    with VectorIndex(settings) as vectors:
        alias = point(settings, vectors, dataset)["serving"]
    return {"milvus_alias": alias, "online": features(settings, [dataset])["views"]}
