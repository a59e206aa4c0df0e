"""``vitrine tune``: from features in Feast to a tuned encoder, by the study's protocol."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrine import lake, tracking, tuned
from vitrine.settings import Settings, check_name, load_settings

if TYPE_CHECKING:
    from training.training_set import TrainingSet

app = typer.Typer(
    name="tune",
    help="Tune an encoder to a data set: a perceptron on its frozen embeddings (top), or all its weights (full).\n\n"
    "What comes of it is an encoder like any other: vitrine embed --encoder NAME, vitrine evaluate --encoder NAME.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Label(StrEnum):
    product_id = "product_id"
    category = "category"


@app.command()
def top(
    dataset: Annotated[list[str], typer.Option("--dataset", help="A data set with a train split; may repeat.")],
    encoder: Annotated[list[str], typer.Option("--encoder", help="Whose embeddings to tune on; may repeat.")],
    label: Annotated[Label, typer.Option(help="What to tell apart.")] = Label.product_id,
    name: Annotated[
        str | None, typer.Option(help="Of the tuned encoder. Left out: ENCODER__top__DATASET.", metavar="NAME")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Left out: [tune] seed.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few short trials: for a first look.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, and nothing else.")] = False,
) -> None:
    """Search for a small perceptron on frozen embeddings, train it long, and name the encoder that it makes.

    Learns from the split train alone. Embeds with the encoder first where that is missing. Killed, the same command
    goes on where it was.
    """
    settings = load_settings()
    from training.tune import check_base
    from vitrine.cli import show_each
    from vitrine.errors import UserError

    pairs = [(chosen, base) for chosen in dict.fromkeys(dataset) for base in dict.fromkeys(encoder)]
    if name and len(pairs) > 1:
        raise UserError(f"--name {name!r} is for one encoder and one data set, not {len(pairs)}")
    names = [check_name(name, "encoder name") if name else tuned.default_name(base, "top", on) for on, base in pairs]
    for chosen, base in pairs:
        lake.check_dataset(settings, chosen)
        check_base(settings, base)
    seed = settings.tune.seed if seed is None else seed
    sets = _training_sets(settings, pairs, label.value, seed)
    results = [_top(settings, rows, made, seed, quick) for rows, made in zip(sets, names, strict=True)]
    show_each("tuned", results, as_json)


def _training_sets(settings: Settings, pairs: list[tuple[str, str]], label: Any, seed: int) -> "list[TrainingSet]":
    """One a pair of data set and encoder; Spark's memory is free again afterwards."""
    from feature_repo import definitions
    from spark_jobs.apply_head import apply_head
    from spark_jobs.embed_catalog import embed
    from spark_jobs.session import build_session, end_session
    from training.training_set import build_training_set
    from vitrine import encoders, feature_store

    spark = build_session(settings, "training set")
    for chosen, base in pairs:
        head = encoders.find_head(settings, base)
        embed(settings, head.base if head else base, chosen)
        if head:
            apply_head(settings, head, chosen)
    feature_store.apply(feature_store.open_store(settings), definitions.objects(settings))
    found = []
    for chosen, base in pairs:
        version = encoders.version(settings, base)
        registered = lake.encoder_row(settings, version)["encoder"]
        share = settings.tune.validation_share
        with tracking.record(settings, "training_set", chosen, base) as run:
            rows = build_training_set(
                settings, spark, chosen, label, (registered, version), validation_share=share, seed=seed
            )
            run.encoder_version = version
            run.figures |= {"training_set": rows.fingerprint, "train": rows.train, "validation": rows.validation}
        found.append(rows)
    end_session()
    return found


def _top(settings: Settings, rows: "TrainingSet", name: str, seed: int, quick: bool) -> dict[str, Any]:
    from training.classifier import PERCEPTRON, perceptron, write_predictions
    from training.tune import tune_top
    from vitrine import heads

    protocol = settings.tune.top.quick() if quick else settings.tune.top
    with tracking.record(settings, "tune top", rows.dataset, name) as run:
        made, result = tune_top(settings, rows, protocol, name, seed)
        run.encoder_version = made.encoder_version
        run.figures |= {
            "base": made.base,
            "base_version": made.base_version,
            "encoder_version": made.encoder_version,
            "dim": made.dim,
            "training_set": rows.fingerprint,
            "seed": seed,
            "classes": len(rows.classes),
            "train": rows.train,
            "validation": rows.validation,
            "only_trained": len(rows.only_trained),
            "without_features": rows.without_features,
            "left_out": rows.left_out,
            "trials": len(result["trials"]),
            "val_accuracy": result["val_accuracy"],
            "best_epoch": result["best_epoch"],
            **{f"{step}_seconds": seconds for step, seconds in result["seconds"].items()},
            **{f"tuning_{key}": value for key, value in made.cost.items()},
        }
        said = write_predictions(settings, rows, PERCEPTRON, perceptron(heads.load(made.path(settings))))
        run.figures |= {key: value for key, value in said.items() if key != "predicted"}
    details = tracking.Details(
        params={**protocol.model_dump(mode="json"), "label": rows.label, **result["recipe"]},
        curves=result["epochs"],
        files=[made.path(settings) / "head.json", made.path(settings) / "head.safetensors"],
        children=[(f"trial {at}", _trial(trial)) for at, trial in enumerate(result["trials"], 1)],
    )
    tracking.to_mlflow(settings, run, details)
    return {"dataset": rows.dataset, "encoder": name, "strategy": "top", **run.figures}


def _trial(trial: dict[str, Any]) -> tracking.Details:
    """A trial's recipe, and its executions' epochs side by side."""
    epochs = max(len(history) for history in trial["executions"])
    curves = [
        {
            f"{name}_{at}": value
            for at, history in enumerate(trial["executions"], 1)
            if step < len(history)
            for name, value in history[step].items()
        }
        for step in range(epochs)
    ]
    return tracking.Details(params=trial["recipe"], curves=[*curves, {"trial_val_accuracy": trial["val_accuracy"]}])


def classify(
    dataset: Annotated[list[str], typer.Option("--dataset", help="A data set with splits train and test.")],
    encoder: Annotated[list[str], typer.Option("--encoder", help="Whose embeddings to classify; may repeat.")],
    label: Annotated[Label, typer.Option(help="What to tell apart.")] = Label.product_id,
    seed: Annotated[int | None, typer.Option(min=0, help="Left out: [tune] seed.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, and nothing else.")] = False,
) -> None:
    """Ask a linear probe and nearest neighbours on frozen embeddings about the test split: rows of predictions."""
    settings = load_settings()
    from training.classifier import LINEAR_PROBE, NEIGHBOURS, linear_probe, neighbours, write_predictions
    from vitrine.cli import show_each

    pairs = [(chosen, name) for chosen in dict.fromkeys(dataset) for name in dict.fromkeys(encoder)]
    results = []
    for rows in _training_sets(settings, pairs, label.value, settings.tune.seed if seed is None else seed):
        for classifier, learn in ((LINEAR_PROBE, linear_probe), (NEIGHBOURS, neighbours)):
            with tracking.record(settings, f"classify {classifier}", rows.dataset, rows.encoder) as run:
                run.encoder_version = rows.encoder_version
                says, how = learn(rows)
                run.figures |= {"classifier": classifier, **how, **write_predictions(settings, rows, classifier, says)}
            tracking.to_mlflow(settings, run)
            results.append({"dataset": rows.dataset, "encoder": rows.encoder, **run.figures})
    show_each("classified", results, as_json)
