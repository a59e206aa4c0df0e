"""``vitrine tune``: from features in Feast to a tuned encoder, by the study's protocol."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrine import facts, runs, tracking
from vitrine.cli import output
from vitrine.cli.options import Json, Label
from vitrine.cli.verbs.embed import embed_named
from vitrine.cli.verbs.evaluate import evaluate_one
from vitrine.cli.verbs.gate import gate_training_set
from vitrine.encoders import backbones, tuned
from vitrine.errors import UserError
from vitrine.names import check_name
from vitrine.settings import Settings, load_settings

if TYPE_CHECKING:
    from training.training_set import TrainingSet

app = typer.Typer(
    name="tune",
    help="Tune an encoder to a data set: a perceptron on its frozen embeddings (top), or all its weights (full).\n\n"
    "What comes of it is an encoder like any other: vitrine embed --encoder NAME, vitrine evaluate --encoder NAME.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


class Strategy(StrEnum):
    top = "top"
    full = "full"


TunedOn = Annotated[list[str], typer.Option("--dataset", help="A data set with a train split; may repeat.")]
Base = Annotated[list[str], typer.Option("--encoder", help="What to tune; may repeat.", metavar="NAME")]
ToldApart = Annotated[Label, typer.Option("--label", help="What to tell apart.")]
Name = Annotated[str | None, typer.Option(help="Of the tuned encoder. Left out: ENCODER__STRATEGY__DATASET.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Left out: tune.seed.")]
Quick = Annotated[bool, typer.Option("--quick", help="Small and short: for a first look.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say on how many rows, and by a measured estimate at what cost.")
]
AsOf = Annotated[
    datetime | None,
    typer.Option(help="Labels and vectors as they were then, in UTC.", show_default="now", metavar="WHEN"),
]


@app.command()
def top(
    dataset: TunedOn,
    encoder: Base,
    label: ToldApart = Label.product_id,
    name: Name = None,
    seed: Seed = None,
    as_of: AsOf = None,
    quick: Quick = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Search for a small perceptron on frozen embeddings, train it long, and name the encoder that it makes.

    Learns from the split train alone. Embeds with the encoder first where that is missing. Killed, the same command
    goes on where it was.
    """
    settings = load_settings()
    asked = _Asked.of(settings, "top", dataset, encoder, name, seed)
    sets = _training_sets(settings, asked.pairs, label.value, asked.seed, as_of)
    work = _estimate_top if dry_run else _top
    results = [work(settings, rows, made, asked.seed, quick) for rows, made in zip(sets, asked.names, strict=True)]
    output.show_each("tuned", results, as_json)


@app.command()
def full(
    dataset: TunedOn,
    encoder: Base,
    label: ToldApart = Label.product_id,
    name: Name = None,
    seed: Seed = None,
    as_of: AsOf = None,
    quick: Quick = False,
    processes: Annotated[int, typer.Option(min=1, help="That share each batch: one a GPU.")] = 1,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train all weights on the photos themselves, by timm's A2 procedure, and name the encoder that it makes.

    Learns from the split train alone. Killed, the same command goes on after its last whole epoch. Where
    spark.master is a cluster, several processes are spread over it; else they are this machine's.
    """
    settings = load_settings()
    asked = _Asked.of(settings, "full", dataset, encoder, name, seed)
    # Rows of photos are the same whatever encoder is tuned on them.
    made = _training_sets(settings, [(on, None) for on in asked.datasets], label.value, asked.seed, as_of)
    sets = dict(zip(asked.datasets, made, strict=True))
    results = [
        _estimate_full(settings, sets[on], str(base), to, asked.seed, quick)
        if dry_run
        else _full(settings, sets[on], str(base), to, asked.seed, quick, processes)
        for (on, base), to in zip(asked.pairs, asked.names, strict=True)
    ]
    output.show_each("tuned", results, as_json)


@app.command()
def cross(
    dataset: TunedOn,
    encoder: Base,
    strategy: Annotated[Strategy, typer.Option(help="How to tune.")] = Strategy.top,
    label: ToldApart = Label.product_id,
    seed: Seed = None,
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Tune on each data set, measure on every one: what tuning changes elsewhere, and whether likeness foretells it.

    What is tuned, embedded and measured already is used again; killed, the same command goes on where it was. Draws a
    heat map of the changes under HOME/reports.
    """
    settings = load_settings()
    asked = _Asked.of(settings, strategy.value, dataset, encoder, None, seed)
    if len(asked.datasets) < 2:
        raise UserError(f"cross-tuning needs two data sets or more, not {len(asked.datasets)}: repeat --dataset")
    results = []
    for base in dict.fromkeys(encoder):
        with runs.record(settings, f"tune cross {strategy.value}", None, base) as run:
            run.figures |= _cross(settings, asked, base, strategy, label.value, quick)
        tracking.to_mlflow(settings, run, tracking.Details(files=[Path(run.figures["heat_map"])]))
        results.append({"encoder": base, **run.figures})
    output.show_each("tuned", results, as_json)


def _cross(
    settings: Settings, asked: "_Asked", base: str, strategy: Strategy, label: str, quick: bool
) -> dict[str, Any]:
    from training.cross_tuning import cross as put_together
    from training.cross_tuning import draw
    from vitrine.encoders import by_name

    metric, version = settings.gates.metric, by_name.version(settings, base)
    names = _tuned_on_each(settings, asked, base, strategy, label, quick)
    for on in asked.datasets:
        embed_named(settings, [base, *names], on)
    how = (None, None, label)
    before = {on: evaluate_one(settings, base, version, on, how) for on in asked.datasets}
    after = []
    for name in names:
        on_each = [evaluate_one(settings, name, by_name.version(settings, name), on, how) for on in asked.datasets]
        after.append([figures["metrics"][metric] for figures in on_each])
    pretrained = [before[on]["metrics"][metric] for on in asked.datasets]
    found = put_together(settings, base, version, strategy.value, metric, asked.datasets, pretrained, after)
    heat_map = settings.reports / f"cross_{strategy.value}_{base}.html"
    draw(found, heat_map)
    return {**found.figures(), "tuned": names, "heat_map": str(heat_map)}


def _tuned_on_each(
    settings: Settings, asked: "_Asked", base: str, strategy: Strategy, label: str, quick: bool
) -> list[str]:
    """The names of what ``base`` becomes on each data set, tuned where that is missing."""
    names = [tuned.default_name(base, strategy.value, on) for on in asked.datasets]
    features = base if strategy is Strategy.top else None
    sets = _training_sets(settings, [(on, features) for on in asked.datasets], label, asked.seed)
    for rows, name in zip(sets, names, strict=True):
        if strategy is Strategy.top:
            _top(settings, rows, name, asked.seed, quick)
        else:
            _full(settings, rows, base, name, asked.seed, quick, 1)
    return names


@dataclass(frozen=True)
class _Asked:
    """What is to be tuned, checked before anything starts."""

    pairs: list[tuple[str, str | None]]
    """Data set and encoder."""
    names: list[str]
    seed: int

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(on for on, _ in self.pairs))

    @classmethod
    def of(
        cls,
        settings: Settings,
        strategy: str,
        datasets: list[str],
        bases: list[str],
        name: str | None,
        seed: int | None,
    ) -> "_Asked":
        from training.tune import check_base

        pairs: list[tuple[str, str | None]] = [
            (on, base) for on in dict.fromkeys(datasets) for base in dict.fromkeys(bases)
        ]
        if name and len(pairs) > 1:
            raise UserError(f"--name {name!r} is for one encoder and one data set, not {len(pairs)}")
        for on, base in pairs:
            facts.check_dataset(settings, on)
            check_base(settings, str(base))
        names = [
            check_name(name, "encoder name") if name else tuned.default_name(str(base), strategy, on)
            for on, base in pairs
        ]
        if taken := {*names} & {*settings.encoders, *backbones.REGISTRY}:
            raise UserError(f"encoder {min(taken)!r} is there already, and not by tuning: choose another --name")
        return cls(pairs, names, settings.tune.seed if seed is None else seed)


def _training_sets(
    settings: Settings, pairs: list[tuple[str, str | None]], label: Any, seed: int, as_of: datetime | None = None
) -> "list[TrainingSet]":
    """One a pair: of a data set's vectors by an encoder, or of its photos, that its gate let through. Spark's memory is
    free again afterwards."""
    from feature_repo import definitions
    from spark_jobs.progress import progress
    from spark_jobs.session import build_session, end_session
    from training.training_set import build_training_set
    from vitrine import feature_store
    from vitrine.encoders import by_name

    spark = build_session(settings, "training set")
    for chosen, base in pairs:
        if base:
            embed_named(settings, [base], chosen)
    feature_store.apply(feature_store.open_store(settings), definitions.objects(settings))
    moment = as_of.replace(tzinfo=UTC) if as_of else None
    found = []
    for chosen, base in pairs:
        version = by_name.version(settings, base) if base else None
        # Views go by the name that the version was registered under.
        encoder = (facts.encoder_row(settings, version)["encoder"], version) if version else None
        share = settings.tune.validation_share
        with (
            runs.record(settings, "training_set", chosen, base) as run,
            progress(spark, f"training set of {chosen}"),
        ):
            rows = build_training_set(
                settings, spark, chosen, label, encoder, as_of=moment, validation_share=share, seed=seed
            )
            run.encoder_version = version
            run.figures |= {"training_set": rows.fingerprint, "train": rows.train, "validation": rows.validation}
        gate_training_set(settings, rows, version)
        found.append(rows)
    end_session()
    return found


def _estimate_top(settings: Settings, rows: "TrainingSet", name: str, seed: int, quick: bool) -> dict[str, Any]:
    from training.tune import estimate_top

    protocol = settings.tune.top.quick() if quick else settings.tune.top
    return _planned(rows, name, "top", estimate_top(settings, rows, protocol, seed))


def _estimate_full(
    settings: Settings, rows: "TrainingSet", base: str, name: str, seed: int, quick: bool
) -> dict[str, Any]:
    from training.tune import estimate_full

    protocol = settings.tune.full.quick() if quick else settings.tune.full
    return _planned(rows, name, "full", estimate_full(settings, rows, base, protocol, seed))


def _planned(rows: "TrainingSet", name: str, strategy: str, estimate: dict[str, Any]) -> dict[str, Any]:
    counts = {"classes": len(rows.classes), "train": rows.train, "validation": rows.validation}
    return {"dry_run": True, "dataset": rows.dataset, "encoder": name, "strategy": strategy, **counts, **estimate}


def _full(
    settings: Settings, rows: "TrainingSet", base: str, name: str, seed: int, quick: bool, processes: int
) -> dict[str, Any]:
    from spark_jobs.session import build_session
    from training.tune import tune_full

    protocol = settings.tune.full.quick() if quick else settings.tune.full
    spread = processes > 1 and not (settings.spark.master or "local").startswith("local")
    with runs.record(settings, "tune full", rows.dataset, name) as run:
        spark = build_session(settings, f"tune full {name}") if spread else None
        made, result = tune_full(settings, rows, base, protocol, name, seed, processes, spark)
        run.encoder_version = made.encoder_version
        run.figures |= _figures(rows, made, result) | {"unreadable": result["unreadable"]}
    details = tracking.Details(
        params={**protocol.model_dump(mode="json"), "label": rows.label, "processes": result["processes"]},
        curves=result["epochs"],
    )
    tuned.register(settings, replace(made, mlflow_run=tracking.to_mlflow(settings, run, details)))
    return {"dataset": rows.dataset, "encoder": name, "strategy": "full", **run.figures}


def _figures(rows: "TrainingSet", made: tuned.Tuned, result: dict[str, Any]) -> dict[str, Any]:
    """What both strategies say."""
    return {
        "base": made.base,
        "base_version": made.base_version,
        "encoder_version": made.encoder_version,
        "dim": made.dim,
        "training_set": rows.fingerprint,
        "seed": made.seed,
        "classes": len(rows.classes),
        "train": rows.train,
        "validation": rows.validation,
        "only_trained": len(rows.only_trained),
        "without_features": rows.without_features,
        "left_out": rows.left_out,
        "val_accuracy": result["val_accuracy"],
        "best_epoch": result["best_epoch"],
        **{f"{step}_seconds": seconds for step, seconds in result["seconds"].items()},
        **{f"tuning_{key}": value for key, value in made.cost.items()},
    }


def _top(settings: Settings, rows: "TrainingSet", name: str, seed: int, quick: bool) -> dict[str, Any]:
    from training.classifier import PERCEPTRON, perceptron, reported_split, write_predictions
    from training.tune import tune_top
    from vitrine.encoders import heads

    protocol = settings.tune.top.quick() if quick else settings.tune.top
    with runs.record(settings, "tune top", rows.dataset, name) as run:
        made, result = tune_top(settings, rows, protocol, name, seed)
        run.encoder_version = made.encoder_version
        run.figures |= _figures(rows, made, result) | {"trials": len(result["trials"])}
        if reported_split(settings, rows.dataset, made.base_version):
            says = perceptron(heads.load(made.path(settings)))
            said = write_predictions(settings, rows, PERCEPTRON, says)
            run.figures |= {key: value for key, value in said.items() if key != "predicted"}
    details = tracking.Details(
        params={**protocol.model_dump(mode="json"), "label": rows.label, **result["recipe"]},
        curves=result["epochs"],
        files=[made.path(settings) / "head.json", made.path(settings) / "head.safetensors"],
        children=[(f"trial {at}", _trial(trial)) for at, trial in enumerate(result["trials"], 1)],
    )
    tuned.register(settings, replace(made, mlflow_run=tracking.to_mlflow(settings, run, details)))
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
    label: ToldApart = Label.product_id,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Ask a linear probe and nearest neighbours on frozen embeddings about the test split: rows of predictions."""
    settings = load_settings()
    from training.classifier import LINEAR_PROBE, NEIGHBOURS, linear_probe, neighbours, write_predictions

    pairs: list[tuple[str, str | None]] = [
        (chosen, name) for chosen in dict.fromkeys(dataset) for name in dict.fromkeys(encoder)
    ]
    results = []
    for rows in _training_sets(settings, pairs, label.value, settings.tune.seed if seed is None else seed):
        for classifier, learn in ((LINEAR_PROBE, linear_probe), (NEIGHBOURS, neighbours)):
            with runs.record(settings, f"classify {classifier}", rows.dataset, rows.encoder) as run:
                run.encoder_version = rows.encoder_version
                says, how = learn(rows)
                run.figures |= {"classifier": classifier, **how, **write_predictions(settings, rows, classifier, says)}
            tracking.to_mlflow(settings, run)
            results.append({"dataset": rows.dataset, "encoder": rows.encoder, **run.figures})
    output.show_each("classified", results, as_json)
