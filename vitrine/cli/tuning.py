"""The work of ``vitrine tune``: what was asked for is checked, tuned, told to MLflow, and given its name."""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from spark_jobs import session
from training import build_training_set, classifier, cross_tuning, training_set
from training import tune as jobs
from vitrine import facts, runs, tracking
from vitrine.cli.training_sets import training_sets
from vitrine.cli.verbs.embed import embed_named
from vitrine.cli.verbs.evaluate import evaluate_one
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import backbones, by_name, heads, tuned
from vitrine.errors import UserError
from vitrine.names import JOIN, split_joined
from vitrine.settings import Settings, load_settings


class Strategy(StrEnum):
    linear = "linear"
    top = "top"
    partial = "partial"
    low_rank = "low_rank"
    from_head = "from_head"
    full = "full"
    distil = "distil"


@dataclass(frozen=True)
class Tuning:
    """One encoder that is to be made: ``name``, from ``base``, on ``dataset``."""

    strategy: Strategy
    dataset: str
    base: str
    name: str
    teacher: str | None = None
    """Of a distillation: whose vectors are learned."""
    unlabelled: tuple[str, ...] = ()
    """Of a distillation: the splits whose photos are learned from too."""

    @property
    def source(self) -> tuple[str, str | None]:
        """What its training set is made of: the base's vectors, the teacher's with photos, or photos, which are the
        same whatever the base."""
        return self.dataset, self.base if self.strategy in tuned.HEADS else self.teacher


def settings_for(quick: bool, products: str | None = None) -> Settings:
    """The settings; with ``quick`` the long protocols are as small as a first look needs. ``products``: of
    ``[tune.linear]``."""
    settings = load_settings()
    protocols: dict[str, Any] = {}
    if quick:
        long = ("top", "partial", "low_rank", "from_head", "full", "distil")
        protocols = {name: getattr(settings.tune, name).quick() for name in long}
    if products:
        protocols["linear"] = settings.tune.linear.model_copy(update={"products": products})
    return settings.model_copy(update={"tune": settings.tune.model_copy(update=protocols)})


def plan(
    settings: Settings,
    strategy: Strategy,
    datasets: list[str],
    bases: list[str],
    name: str | None = None,
    on_each: bool = False,
    teacher: str | None = None,
    unlabelled: Sequence[str] = (),
) -> list[Tuning]:
    """Each base on each data set, checked before anything starts. ``on_each``: ``name`` is followed by the data set's.
    ``teacher``: of a distillation, one encoder or several joined; ``unlabelled``: of one, splits that are learned from
    beside those that have labels.

    Raises:
        UserError: an unknown data set, encoder or split, a head as base, or a name that cannot be taken.
    """
    if strategy is Strategy.distil:
        _check_teacher(settings, teacher, bases)
    pairs = list(itertools.product(dict.fromkeys(datasets), dict.fromkeys(bases)))
    several = len(set(bases)) if on_each else len(pairs)
    if name and several > 1:
        raise UserError(f"--name {name!r} is for one encoder{'' if on_each else ' and one data set'}, not {several}")
    for dataset, base in pairs:
        facts.check_dataset(settings, dataset)
        if unlabelled:  # else Spark's modules would be loaded for nothing
            build_training_set.unlabelled_splits(settings, dataset, unlabelled)
        jobs.check_base(settings, base)
        if strategy not in tuned.HEADS and JOIN in base:
            raise UserError(f"a head alone can be tuned on several encoders joined, {base!r}: tune linear or top")
        if strategy not in tuned.HEADS and backbones.resolve(settings, base).int8:
            raise UserError(f"encoder {base!r} is in 8 bits, and learns nothing: tune what it was made of, or a head")
    tunings = []
    for dataset, base in pairs:
        given = f"{name}__{dataset}" if name and on_each else name
        to = by_name.check_free(settings, given or tuned.default_name(base, strategy, dataset), base)
        tunings.append(Tuning(strategy, dataset, base, to, teacher, tuple(unlabelled)))
    return tunings


def _check_teacher(settings: Settings, teacher: str | None, students: list[str]) -> None:
    if not teacher:
        raise UserError("a distillation has a teacher: vitrine tune distil --teacher NAME")
    names = split_joined(teacher)
    for name in names:
        by_name.version(settings, name)
    if len(set(names)) < len(names):
        raise UserError(f"--teacher {teacher!r} joins an encoder with itself: name each once")
    if teacher in students:
        raise UserError(f"--teacher {teacher!r} is the student too: name another, which is better and costs more")


def with_rows(
    settings: Settings, tunings: list[Tuning], label: str, seed: int | None, as_of: datetime | None = None
) -> "list[tuple[Tuning, training_set.TrainingSet]]":
    """Each tuning with the training set that it learns from."""
    with_photos, unlabelled = bool(tunings[0].teacher), tunings[0].unlabelled  # all are of one plan
    sources = [tuning.source for tuning in tunings]
    sets = training_sets(settings, sources, label, seed, as_of, with_photos, unlabelled=unlabelled)
    return [(tuning, sets[tuning.source]) for tuning in tunings]


def estimate(settings: Settings, tuning: Tuning, rows: "training_set.TrainingSet") -> dict[str, Any]:
    """On how many rows a tuning would be, and by a measured estimate at what cost."""
    if tuning.strategy in tuned.HEADS:
        cost = jobs.estimate_head(settings, rows, protocol_of(settings, tuning))
    else:
        cost = jobs.estimate_full(settings, rows, tuning.base, protocol_of(settings, tuning))
    counts = {"classes": len(rows.classes), **rows.sizes}
    return {"dry_run": True, **_named(tuning), **counts, **cost}


def tune(settings: Settings, tuning: Tuning, rows: "training_set.TrainingSet", processes: int = 1) -> dict[str, Any]:
    """Tune, or find it done; record it, tell MLflow of it, and let the name mean it."""
    with runs.record(settings, f"tune {tuning.strategy}", tuning.dataset, tuning.name) as run:
        if tuning.strategy in tuned.HEADS:
            made, details = _tune_head(settings, tuning, rows, run)
        else:
            made, details = _tune_full(settings, tuning, rows, run, processes)
    # The pointer is written once, and holds MLflow's id. Killed before, the tuning lies in its folder, done: the same
    # command finds it there, and comes to this line.
    tuned.register(settings, replace(made, mlflow_run=tracking.to_mlflow(settings, run, details)))
    return {**_named(tuning), **run.figures}


def _named(tuning: Tuning) -> dict[str, str]:
    return {"dataset": tuning.dataset, "encoder": tuning.name, "strategy": tuning.strategy.value}


def protocol_of(settings: Settings, tuning: Tuning) -> Any:
    """The section of ``[tune]`` that the tuning's strategy has: of a head ``jobs.HeadSettings``, else
    ``jobs.FullSettings``."""
    return getattr(settings.tune, tuning.strategy.value)


def _tune_head(
    settings: Settings, tuning: Tuning, rows: "training_set.TrainingSet", run: "runs.Run"
) -> "tuple[tuned.Tuned, tracking.Details]":
    protocol = protocol_of(settings, tuning)
    made, result = jobs.tune_head(settings, rows, protocol, tuning.name)
    _note(run, rows, made, result)
    trials = result.get("trials", [])
    if tuning.strategy is Strategy.linear:
        run.figures |= result["recipe"] | {key: result[key] for key in ("val_score", "val_score_as_it_is")}
        if result["val_score"] <= result["val_score_as_it_is"]:
            print(f"{tuning.name}: no kind is better on validation than {made.base} as it is", file=sys.stderr)
    else:
        run.figures["trials"] = len(trials)
    if facts.reported_split(settings, rows.encoded):
        classify = classifier.of_head(heads.load(made.path(settings)))
        name = classifier.LINEAR_HEAD if tuning.strategy is Strategy.linear else classifier.PERCEPTRON
        # Joined encoders are no encoder that is evaluated: what is said of their vectors counts for the head.
        joined = len(rows.encoded.parts) > 1
        said_of = EncodedSet(rows.dataset, made.name, made.encoder_version) if joined else None
        predictions = classifier.write_predictions(settings, rows, name, classify, said_of)
        run.figures |= {key: value for key, value in predictions.items() if key != "predicted"}
    return made, tracking.Details(
        params={**protocol.model_dump(mode="json"), "label": rows.label, **result["recipe"]},
        curves=result.get("epochs", []),
        files=[made.path(settings) / "head.json", made.path(settings) / "head.safetensors"],
        children=[
            *((f"trial {number}", _trial(trial)) for number, trial in enumerate(trials, 1)),
            *(
                (f"{each['kind']} {each['strength']:g}", tracking.Details(params=each))
                for each in result.get("candidates", [])
            ),
        ],
    )


def _tune_full(
    settings: Settings, tuning: Tuning, rows: "training_set.TrainingSet", run: "runs.Run", processes: int
) -> "tuple[tuned.Tuned, tracking.Details]":
    protocol = protocol_of(settings, tuning)
    on_cluster = processes > 1 and not (settings.spark.master or "local").startswith("local")
    spark = session.build_session(_whole_gpus(settings), f"tune full {tuning.name}") if on_cluster else None
    made, result = jobs.tune_full(settings, rows, tuning.base, protocol, tuning.name, processes, spark)
    _note(run, rows, made, result)
    run.figures["unreadable"] = result["unreadable"]
    if "interpolation" in result:
        run.figures["interpolation"] = result["interpolation"]
    params = {**protocol.model_dump(mode="json"), "label": rows.label, "processes": result["processes"]}
    if tuning.teacher:
        scores = {f"val_mMP@5_{name}": value for name, value in result["val_mMP@5"].items()}
        run.figures |= {"teacher": tuning.teacher, **scores}
        params |= {"teacher": tuning.teacher, "teacher_version": rows.encoder_version}
    return made, tracking.Details(params=params, curves=result["epochs"])


def _whole_gpus(settings: Settings) -> Settings:
    """Settings whose tasks have a GPU each, where embedding's share one: a process of full tuning needs all of it."""
    name = "task.resource.gpu.amount"
    shared = {key for key, value in settings.spark.conf.items() if key.endswith(name) and 0 < float(value) < 1}
    conf = {**settings.spark.conf, **dict.fromkeys(shared, "1")}
    return settings.model_copy(update={"spark": settings.spark.model_copy(update={"conf": conf})})


def _note(run: "runs.Run", rows: "training_set.TrainingSet", made: "tuned.Tuned", result: dict[str, Any]) -> None:
    """What both strategies say of themselves."""
    run.encoder_version = made.encoder_version
    run.figures |= {
        "base": made.base,
        "base_version": made.base_version,
        "encoder_version": made.encoder_version,
        "dim": made.dim,
        "training_set": rows.fingerprint,
        "seed": made.seed,
        "classes": len(rows.classes),
        **rows.sizes,
        "only_trained": len(rows.only_trained),
        "without_features": rows.without_features,
        "left_out": rows.left_out,
        **{name: value for name, value in result.items() if name in ("val_accuracy", "val_cosine")},
        **({"best_epoch": result["best_epoch"]} if "best_epoch" in result else {}),
        **{f"{step}_seconds": seconds for step, seconds in result["seconds"].items()},
        **{f"tuning_{key}": value for key, value in made.cost.items()},
    }


def _trial(trial: dict[str, Any]) -> "tracking.Details":
    """A trial's recipe, and its executions' epochs side by side."""
    epochs = max(len(history) for history in trial["executions"])
    curves = [
        {
            f"{name}_{number}": value
            for number, history in enumerate(trial["executions"], 1)
            if epoch < len(history)
            for name, value in history[epoch].items()
        }
        for epoch in range(epochs)
    ]
    return tracking.Details(params=trial["recipe"], curves=[*curves, {"trial_val_accuracy": trial["val_accuracy"]}])


def cross(
    settings: Settings, tunings: list[Tuning], label: str, seed: int | None, processes: int = 1
) -> dict[str, Any]:
    """Say how far the data sets lie from each other, tune one base on each, measure on every one, and draw what
    changed; the figures."""
    base, strategy = tunings[0].base, tunings[0].strategy
    if JOIN in base:
        raise UserError(f"cross-tuning holds each encoder against its base, and {base!r} is none: name one")
    with runs.record(settings, f"tune cross {strategy}", None, base) as run:
        apart = _apart(settings, tunings)
        for tuning, rows in with_rows(settings, tunings, label, seed):
            tune(settings, tuning, rows, processes)
        study = _measured_on_each(settings, tunings, label, apart)
        heat_map = settings.reports / f"cross_{strategy}_{base}.html"
        cross_tuning.draw(study, heat_map)
        names = [tuning.name for tuning in tunings]
        run.figures |= {**study.figures(), "tuned": names, "heat_map": str(heat_map)}
    tracking.to_mlflow(settings, run, tracking.Details(files=[Path(run.figures["heat_map"])]))
    return {"encoder": base, **run.figures}


def _apart(settings: Settings, tunings: list[Tuning]) -> "cross_tuning.Matrix":
    """How far the data sets lie from each other by the encoder as it is: said before anything is tuned."""
    base, datasets = tunings[0].base, [tuning.dataset for tuning in tunings]
    for dataset in datasets:
        embed_named(settings, [base], dataset)
    version = by_name.version(settings, base)
    apart = cross_tuning.distances(settings, [EncodedSet(dataset, base, version) for dataset in datasets])
    for i, j in itertools.combinations(range(len(datasets)), 2):
        print(f"{datasets[i]} and {datasets[j]}: Fréchet distance {apart[i, j]:.3f}", file=sys.stderr, flush=True)
    return apart


def _measured_on_each(
    settings: Settings, tunings: list[Tuning], label: str, apart: "cross_tuning.Matrix"
) -> "cross_tuning.CrossTuning":
    base, metric = tunings[0].base, settings.gates.metric
    datasets, names = [tuning.dataset for tuning in tunings], [tuning.name for tuning in tunings]
    for dataset in datasets:
        embed_named(settings, [base, *names], dataset)

    def measured(encoded: EncodedSet) -> float:
        how = (None, None, label)
        figures = evaluate_one(settings, encoded, how)
        return float(figures["metrics"][metric])

    def on_each(encoder: str) -> list[EncodedSet]:
        version = by_name.version(settings, encoder)
        return [EncodedSet(dataset, encoder, version) for dataset in datasets]

    pretrained = [measured(encoded) for encoded in on_each(base)]
    after = [[measured(encoded) for encoded in on_each(name)] for name in names]
    return cross_tuning.compare(base, datasets, tunings[0].strategy.value, metric, pretrained, after, apart)
