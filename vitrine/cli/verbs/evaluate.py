"""``vitrine evaluate``: how well an encoder finds again what belongs together."""

from typing import Annotated, Any

import typer

from evaluation import evaluate as evaluation
from evaluation import metrics_table
from vitrine import facts, runs
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets, encoder_and_version
from vitrine.cli.options import Datasets, Encoders, Json, Label
from vitrine.cli.verbs.gate import ask
from vitrine.encoded_set import EncodedSet
from vitrine.settings import Settings, load_settings


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
    settings = load_settings()
    how = (queries, index, relevant.value)
    results = []
    for name in dict.fromkeys(encoder):
        for chosen in chosen_datasets(settings, dataset):
            asked, version = encoder_and_version(settings, name)
            done = evaluate_one(settings, asked, version, chosen, how, full_map, again)
            results.append(done)
            for other in _held_against(settings, chosen, version) if with_serving else []:
                if not metrics_table.evaluated(settings, other[1], done):
                    results.append(evaluate_one(settings, *other, chosen, how, full_map, again))
            if gated:
                for which in ("sync", "metrics"):
                    ask(settings, which, chosen, asked, version)
    shown = results if as_json else [output.with_intervals(result) for result in results]
    output.show_each("evaluated", shown, as_json)


def _held_against(settings: Settings, dataset: str, version: str) -> list[tuple[str, str]]:
    """What the gate on metrics compares the version with: what serves, and the backbone that it was tuned from."""
    serves = facts.serving(settings, dataset)
    if serves and serves["encoder_version"] == version:
        return []
    others = [(serves["encoder"], serves["encoder_version"])] if serves else []
    base = facts.encoder_row(settings, version)["base_version"]
    if base and facts.embedded(settings, EncodedSet(dataset, "", base)):
        others.append((facts.encoder_row(settings, base)["encoder"], base))
    return list(dict.fromkeys(others))


def evaluate_one(
    settings: Settings,
    encoder: str,
    version: str,
    dataset: str,
    how: tuple[str | None, str | None, str],
    full_map: bool = False,
    again: bool = False,
) -> dict[str, Any]:
    """One encoder on one data set, as ``evaluation.evaluate.evaluate`` does it, recorded; ``how``: the split that asks,
    the split that is searched, and what counts as relevant."""
    with runs.record(settings, "evaluate", dataset, encoder) as run:
        run.encoder_version = version
        run.figures |= evaluation.evaluate(
            settings, encoder, version, dataset, *how, run_id=run.run_id, full_map=full_map, again=again
        )
        run.catalog_version = run.figures["catalog_version"]
    return {"dataset": dataset, "encoder": encoder, **run.figures}
