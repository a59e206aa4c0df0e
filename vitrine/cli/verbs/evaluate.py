"""``vitrine evaluate``: how well an encoder finds again what belongs together."""

from typing import Annotated, Any

import typer

from evaluation import evaluate as evaluation
from evaluation import metrics_table
from evaluation.gates import metrics
from vitrine import facts, runs
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets, encoded_set
from vitrine.cli.options import Datasets, Encoders, Json, Relevant
from vitrine.cli.verbs.gate import ask
from vitrine.encoded_set import EncodedSet
from vitrine.settings import Settings, load_settings


def evaluate(
    encoder: Encoders,
    dataset: Datasets = None,
    queries: Annotated[str | None, typer.Option(help="The split that asks.", metavar="SPLIT")] = None,
    index: Annotated[str | None, typer.Option(help="The split that is searched.", metavar="SPLIT")] = None,
    relevant: Relevant = "product_id",
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
    settings = load_settings()
    how = (queries, index, relevant)
    results = []
    for name in dict.fromkeys(encoder):
        for chosen in chosen_datasets(settings, dataset):
            encoded = encoded_set(settings, name, chosen)
            results += evaluate_beside(settings, encoded, how, full_map, again, with_serving)
            if gated:
                ask_gates(settings, encoded)
    shown = results if as_json else [output.with_intervals(result) for result in results]
    output.show_each("evaluated", shown, as_json)


def evaluate_beside(
    settings: Settings,
    encoded: EncodedSet,
    how: tuple[str | None, str | None, str],
    full_map: bool = False,
    again: bool = False,
    with_serving: bool = True,
) -> list[dict[str, Any]]:
    """As ``evaluate_one``; with what the gate compares with, where its figures are missing."""
    done = {encoded: evaluate_one(settings, encoded, how, full_map, again)}
    # Of encoders that were joined, the gate asks the best: one without figures may be that until it has some.
    while with_serving and (
        lacking := [
            each
            for each in _compared_with(settings, encoded)
            if each not in done and not _has_figures(settings, each, done[encoded])
        ]
    ):
        done |= {each: evaluate_one(settings, each, how, full_map, again) for each in lacking}
    return list(done.values())


def ask_gates(settings: Settings, encoded: EncodedSet) -> None:
    """
    Raises:
        GateRefused: by the gate on Milvus's rows, or on the metrics.
    """
    for which in ("sync", "metrics"):
        ask(settings, which, encoded.dataset, encoded)


def _compared_with(settings: Settings, encoded: EncodedSet) -> list[EncodedSet]:
    """What the gate on metrics compares with: what serves, and the backbone, where it has vectors."""
    against = metrics.compared_with(settings, encoded)
    return [each.encoded for each in against if each.kind == "serving" or facts.embedded(settings, each.encoded)]


def _has_figures(settings: Settings, encoded: EncodedSet, like: dict[str, Any]) -> bool:
    return metrics_table.evaluated(settings, encoded.encoder_version, like)


def evaluate_one(
    settings: Settings,
    encoded: EncodedSet,
    how: tuple[str | None, str | None, str],
    full_map: bool = False,
    again: bool = False,
) -> dict[str, Any]:
    """One encoded set, as ``evaluation.evaluate.evaluate`` does it, recorded; ``how``: the split that asks, the split
    that is searched, and what counts as relevant."""
    with runs.record(settings, "evaluate", encoded.dataset, encoded.encoder) as run:
        run.encoder_version = encoded.encoder_version
        run.figures |= evaluation.evaluate(settings, encoded, *how, run_id=run.run_id, full_map=full_map, again=again)
        run.catalog_version = run.figures["catalog_version"]
    return {"dataset": encoded.dataset, "encoder": encoded.encoder, **run.figures}
