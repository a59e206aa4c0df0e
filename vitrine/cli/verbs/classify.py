"""``vitrine classify``: what classifiers on frozen embeddings say of the split that is measured on."""

import itertools
from typing import Annotated

import typer

from training import classifier, shared_classes
from vitrine import runs, tracking
from vitrine.cli import output
from vitrine.cli.options import Json
from vitrine.cli.training_sets import training_sets
from vitrine.cli.verbs.tune import Seed, ToldApart
from vitrine.errors import UserError
from vitrine.settings import load_settings


def classify(
    dataset: Annotated[list[str], typer.Option("--dataset", help="A data set with splits train and test.")],
    encoder: Annotated[list[str], typer.Option("--encoder", help="Whose embeddings to classify; may repeat.")],
    label: ToldApart = "product_id",
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Ask classifiers on frozen embeddings about the test split: rows of predictions.

    Discriminants, nearest neighbours and, of not too many classes, a linear probe.
    """
    settings = load_settings()
    results = []
    for rows in training_sets(settings, itertools.product(dataset, encoder), label, seed).values():
        if why := shared_classes.unshared(settings, rows):
            raise UserError(why)
        for name, learn in classifier.fit_for(rows).items():
            with runs.record(settings, f"classify {name}", rows.dataset, rows.encoder) as run:
                run.encoder_version = rows.encoder_version
                ask, how = learn(rows)
                run.figures |= {"classifier": name, **how}
                run.figures |= classifier.write_predictions(settings, rows, name, ask)
            tracking.to_mlflow(settings, run)
            results.append({"dataset": rows.dataset, "encoder": rows.encoder, **run.figures})
    output.show_each("classified", results, as_json)
