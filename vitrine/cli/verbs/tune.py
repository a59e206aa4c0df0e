"""``vitrine tune``: from features in Feast to a tuned encoder, by the study's protocol."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from vitrine.cli import ladder, output, tuning
from vitrine.cli.options import Json
from vitrine.cli.tuning import Strategy, Tuning
from vitrine.errors import UserError
from vitrine.settings import Settings

app = typer.Typer(
    name="tune",
    help="Tune an encoder to a data set: a matrix (linear) or a perceptron (top) on its frozen embeddings, its last "
    "part (partial), changes of low rank (low-rank), or all its weights (full), or let it learn another encoder's "
    "vectors (distil).\n\n"
    "What comes of it is an encoder like any other: vitrine embed --encoder NAME, vitrine evaluate --encoder NAME.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

TunedOn = Annotated[list[str], typer.Option("--dataset", help="A data set with a train split; may repeat.")]
Base = Annotated[list[str], typer.Option("--encoder", help="What to tune; may repeat.", metavar="NAME")]
Bases = Annotated[
    list[str],
    typer.Option("--encoder", help="What to tune; may repeat. A+B: both, their vectors joined.", metavar="NAME"),
]
ToldApart = Annotated[
    str, typer.Option("--label", help="What to tell apart: product_id, category, or an attribute.", metavar="LABEL")
]
Name = Annotated[str | None, typer.Option(help="Of the tuned encoder. Left out: ENCODER__STRATEGY__DATASET.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Left out: tune.seed.")]
Quick = Annotated[bool, typer.Option("--quick", help="Small and short: for a first look.")]
Processes = Annotated[int, typer.Option(min=1, help="Of a full tuning, that share each batch: one a GPU.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say on how many rows, and by a measured estimate at what cost.")
]
AsOf = Annotated[
    datetime | None,
    typer.Option(help="Labels and vectors as they were then, in UTC.", show_default="now", metavar="WHEN"),
]


class Products(StrEnum):
    auto = "auto"
    known = "known"
    new = "new"


@app.command()
def linear(
    dataset: TunedOn,
    encoder: Bases,
    label: ToldApart = "product_id",
    name: Name = None,
    seed: Seed = None,
    as_of: AsOf = None,
    products: Annotated[
        Products | None, typer.Option(help="What to choose it for. Left out: tune.linear.products.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Fit a matrix to frozen embeddings, in closed form and seconds, and name the encoder that it makes.

    Discriminants, ridge or whitening within classes: which, and how strong, is chosen on photos left aside, of products
    that it learned from (known) or did not (new). Learns from the split train alone. Embeds with the encoder first
    where that is missing.
    """
    settings = tuning.settings_for(False, products.value if products else None)
    _tune(
        settings, tuning.plan(settings, Strategy.linear, dataset, encoder, name), label, seed, as_of, dry_run, as_json
    )


@app.command()
def top(
    dataset: TunedOn,
    encoder: Bases,
    label: ToldApart = "product_id",
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
    settings = tuning.settings_for(quick)
    _tune(settings, tuning.plan(settings, Strategy.top, dataset, encoder, name), label, seed, as_of, dry_run, as_json)


def _tune(
    settings: Settings,
    tunings: list[Tuning],
    label: str,
    seed: int | None,
    as_of: datetime | None,
    dry_run: bool,
    as_json: bool,
    processes: int = 1,
) -> None:
    results = [
        tuning.estimate(settings, *pair) if dry_run else tuning.tune(settings, *pair, processes)
        for pair in tuning.with_rows(settings, tunings, label, seed, as_of)
    ]
    output.show_each("tuned", results, as_json)


@app.command()
def partial(
    dataset: TunedOn,
    encoder: Base,
    label: ToldApart = "product_id",
    name: Name = None,
    seed: Seed = None,
    as_of: AsOf = None,
    quick: Quick = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train the network's last part alone, on what its first part makes of each photo, and name the encoder.

    The first part runs once on each photo as augmented a few times, and what it makes is kept on disk until the end: an
    epoch then costs a fraction of a full one. For networks whose parts follow each other one by one, as convolutional
    ones do. Learns from the split train alone. Killed, the same command goes on where it was.
    """
    settings = tuning.settings_for(quick)
    tunings = tuning.plan(settings, Strategy.partial, dataset, encoder, name)
    _tune(settings, tunings, label, seed, as_of, dry_run, as_json)


@app.command("low-rank")
def low_rank(
    dataset: TunedOn,
    encoder: Base,
    label: ToldApart = "product_id",
    name: Name = None,
    seed: Seed = None,
    as_of: AsOf = None,
    quick: Quick = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train a change of low rank for each matrix of the network (LoRA) on the photos, and name the encoder.

    A fraction of the numbers learn, from a fitted classifier, and the changes are added to the weights in the end. For
    vision transformers above all, which cannot be tuned in part. Learns from the split train alone. Killed, the same
    command goes on after its last whole epoch.
    """
    settings = tuning.settings_for(quick)
    tunings = tuning.plan(settings, Strategy.low_rank, dataset, encoder, name)
    _tune(settings, tunings, label, seed, as_of, dry_run, as_json)


@app.command()
def full(
    dataset: TunedOn,
    encoder: Base,
    label: ToldApart = "product_id",
    name: Name = None,
    seed: Seed = None,
    as_of: AsOf = None,
    quick: Quick = False,
    from_head: Annotated[
        bool,
        typer.Option("--from-head", help="Fit a classifier first; few epochs from there, and back as far as pays."),
    ] = False,
    processes: Processes = 1,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train all weights on the photos themselves, by timm's A2 procedure, and name the encoder that it makes.

    With --from-head (its settings are tune.from_head) a classifier is fitted to the frozen network first, all weights
    then learn little by little, early layers least, and the weights between the old and the new network are taken that
    retrieve best on photos left aside: by default in a thirtieth of the epochs.

    Learns from the split train alone. Killed, the same command goes on after its last whole epoch. Where
    spark.master is a cluster, several processes are spread over it; else they are this machine's.
    """
    settings = tuning.settings_for(quick)
    tunings = tuning.plan(settings, Strategy.from_head if from_head else Strategy.full, dataset, encoder, name)
    _tune(settings, tunings, label, seed, as_of, dry_run, as_json, processes)


@app.command()
def distil(
    dataset: TunedOn,
    encoder: Annotated[list[str], typer.Option("--encoder", help="The student; may repeat.", metavar="NAME")],
    teacher: Annotated[
        str, typer.Option(help="Whose vectors are learned: a network or a head. A+B: both, joined.", metavar="NAME")
    ],
    unlabelled: Annotated[
        list[str] | None,
        typer.Option(help="A further split to learn from, that of the index; may repeat.", metavar="SPLIT"),
    ] = None,
    name: Name = None,
    seed: Seed = None,
    as_of: AsOf = None,
    quick: Quick = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Let a small network learn the vectors that a better encoder has stored of the same photos, and name the encoder.

    The student's vectors lie in the teacher's space: it can ask the teacher's index, or have its own. No label is
    learned from. Embeds with the teacher first where that is missing. Learns from the split train, and from those that
    --unlabelled names: where the index has products that train lacks, name its split. Says how well photos left aside
    are found by teacher and student, and by the student in the teacher's index. Killed, the same command goes on after
    its last whole epoch.
    """
    settings = tuning.settings_for(quick)
    tunings = tuning.plan(
        settings, Strategy.distil, dataset, encoder, name, teacher=teacher, unlabelled=unlabelled or []
    )
    _tune(settings, tunings, "product_id", seed, as_of, dry_run, as_json)


@app.command()
def auto(
    dataset: TunedOn,
    encoder: Bases,
    label: ToldApart = "product_id",
    budget: Annotated[
        str | None,
        typer.Option(help="What all of it may take: 30m, 2h, or money as 2EUR. Left out: tune.auto.budget."),
    ] = None,
    gain: Annotated[
        float | None, typer.Option(min=0, max=1, help="The least gain of mMP@5 worth a step. Left out: tune.auto.gain.")
    ] = None,
    seed: Seed = None,
    as_of: AsOf = None,
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Decide which tuning is worth its cost: from the cheapest up, each probed on a small part before it is paid for.

    A strategy is tuned in full where its forecast gain over the one below is surely large enough and within the budget.
    What comes out is never worse than the encoder as it is, on photos left aside of known and of new products. Killed,
    the same command goes on where it was. Draws a page of the decision under HOME/reports.
    """
    settings = tuning.settings_for(quick)
    results = [
        ladder.climb(settings, each, base, ladder.Asked(label, seed, as_of, budget, gain))
        for each in dict.fromkeys(dataset)
        for base in dict.fromkeys(encoder)
    ]
    output.show_each("decided", results, as_json)


@app.command()
def cross(
    dataset: TunedOn,
    encoder: Base,
    strategy: Annotated[Strategy, typer.Option(help="How to tune.")] = Strategy.top,
    label: ToldApart = "product_id",
    name: Annotated[
        str | None,
        typer.Option(help="Of the new encoders, before __DATASET. Left out: the encoder's and the strategy's."),
    ] = None,
    seed: Seed = None,
    quick: Quick = False,
    processes: Processes = 1,
    as_json: Json = False,
) -> None:
    """Tune on each data set, measure on every one: what tuning changes elsewhere, and whether likeness foretells it.

    What is tuned, embedded and measured already is used again; killed, the same command goes on where it was. Draws a
    heat map of the changes under HOME/reports.
    """
    settings = tuning.settings_for(quick)
    tunings = tuning.plan(settings, strategy, dataset, encoder, name, on_each=True)
    if (count := len(set(dataset))) < 2:
        raise UserError(f"cross-tuning needs two data sets or more, not {count}: repeat --dataset")
    by_base = [[one for one in tunings if one.base == base] for base in dict.fromkeys(encoder)]
    output.show_each("tuned", [tuning.cross(settings, group, label, seed, processes) for group in by_base], as_json)
