"""``vitrine embed``: what an encoder misses, and nothing else."""

import itertools
from contextlib import ExitStack
from typing import Annotated, Any

import typer

from spark_jobs import apply_head, embed_catalog
from vitrine import runs, tracking
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets
from vitrine.cli.options import Datasets, Encoders, Gated, Json
from vitrine.cli.verbs.gate import ask
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import by_name
from vitrine.encoders.tuned import Tuned
from vitrine.names import split_joined
from vitrine.settings import Settings, load_settings


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
        ask(settings, "embeddings", result["dataset"], EncodedSet.of(result))
    output.show_each("embedded", results, as_json)


def embed_named(settings: Settings, names: list[str], dataset: str, dry_run: bool = False) -> list[dict[str, Any]]:
    """One object a name: networks share a pass over the photos, heads follow from their bases'."""
    names = list(dict.fromkeys(names))
    heads = {name: head for name in names if (head := by_name.find_head(settings, name))}
    networks = list(dict.fromkeys(itertools.chain(*(_networks(name, heads.get(name)) for name in names))))
    if dry_run:
        done = embed_catalog.embed_together(settings, networks, dataset, dry_run=True)
    else:
        done = _embed_networks(settings, networks, dataset)
    figures = dict(zip(networks, done, strict=True))
    figures |= {name: _embed_by_head(settings, head, dataset, dry_run) for name, head in heads.items()}
    return [{"dataset": dataset, "encoder": name, **figures[name]} for name in names]


def _networks(name: str, head: Tuned | None) -> list[str]:
    """The networks whose vectors the encoder ``name`` is made of."""
    return split_joined(head.base) if head else [name]


def _embed_networks(settings: Settings, names: list[str], dataset: str) -> list[dict[str, Any]]:
    with ExitStack() as stack:
        recorded = [stack.enter_context(runs.record(settings, "embed", dataset, name)) for name in names]
        done = embed_catalog.embed_together(settings, names, dataset)
        passes = sum(figures.get("seconds", 0.0) for figures in done)
        for run, figures in zip(recorded, done, strict=True):
            run.encoder_version = figures["encoder_version"]
            share = figures["seconds"] / passes if passes and "seconds" in figures else 1 / len(names)
            run.figures |= figures
            run.note_rate(run.seconds * share)  # Spark's start belongs to the cost too
    for run in recorded:
        if run.figures["computed"]:
            tracking.to_mlflow(settings, run)
    return [run.figures for run in recorded]


def _embed_by_head(settings: Settings, head: Tuned, dataset: str, dry_run: bool) -> dict[str, Any]:
    if dry_run:
        return apply_head.apply_head(settings, head, dataset, dry_run=True)
    with runs.record(settings, "embed", dataset, head.name) as run:
        run.encoder_version = head.encoder_version
        run.figures |= apply_head.apply_head(settings, head, dataset)
        run.note_rate()
    if run.figures["computed"]:
        tracking.to_mlflow(settings, run)
    return run.figures
