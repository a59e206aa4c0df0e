"""``vitrine classify``: what classifiers on frozen embeddings say of the split that is measured on."""

import itertools
from typing import Annotated, Any

import typer

from training import classifier, shared_classes, training_set
from vitrine import runs, tracking
from vitrine.cli import output
from vitrine.cli.options import Json
from vitrine.cli.training_sets import training_sets
from vitrine.cli.verbs.tune import Seed
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings


def classify(
    dataset: Annotated[list[str], typer.Option("--dataset", help="A data set with splits train and test.")],
    encoder: Annotated[list[str], typer.Option("--encoder", help="Whose embeddings to classify; may repeat.")],
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", help="What to tell apart: product_id (left out), category, or an attribute; may repeat."
        ),
    ] = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Ask classifiers on frozen embeddings about the test split: rows of predictions.

    Discriminants, nearest neighbours and, of not too many classes, a linear probe.
    """
    settings = load_settings()
    results = []
    for told_apart in label or ["product_id"]:
        for rows in training_sets(settings, itertools.product(dataset, encoder), told_apart, seed).values():
            results += _classified(settings, rows)
    output.show_each("classified", results, as_json)


def _classified(settings: Settings, rows: training_set.TrainingSet) -> list[dict[str, Any]]:
    if why := shared_classes.unshared(settings, rows):
        raise UserError(why)
    results = []
    for name, learn in classifier.fit_for(rows).items():
        with runs.record(settings, f"classify {name}", rows.dataset, rows.encoder) as run:
            run.encoder_version = rows.encoder_version
            ask, how = learn(rows)
            run.figures |= {"classifier": name, "label": rows.label, **how}
            run.figures |= classifier.write_predictions(settings, rows, name, ask)
        tracking.to_mlflow(settings, run)
        results.append({"dataset": rows.dataset, "encoder": rows.encoder, **run.figures})
    return results
