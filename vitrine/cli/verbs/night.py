"""What nights and backfills ask of the command line: what is pending, what was done, what leaves."""

import math
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrine import facts, nights, runs, tracking
from vitrine.cli import output
from vitrine.cli.options import Dataset, Json, chosen_datasets, show, show_each
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import by_name
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings

if TYPE_CHECKING:
    from evaluation.milvus.vector_index import VectorIndex
    from spark_jobs.backfill import Budget

app = typer.Typer()
WHEN = [f"%Y-%m-%d{time}" for time in ("", "T%H:%M:%S", "T%H:%M:%S%z", "T%H:%M:%S.%f%z")]


@app.command()
def pending(dataset: Dataset, as_json: Json = False) -> None:
    """Which of the nightly encoders have work to do on a data set, and why; those that are retired are left out.

    Asks the tables, Milvus and Feast for the versions that they hold, without Spark. The first nightly encoder is the
    one that nights promote.
    """
    settings = load_settings()
    chosen_datasets(settings, [dataset])
    from evaluation.milvus.vector_index import VectorIndex
    from vitrine.online import sync

    retired = [name for name in settings.nightly.encoders if _retired(settings, name)]
    found = []
    with VectorIndex(settings) as milvus:
        for name in settings.nightly.encoders:
            first = name == settings.nightly.encoders[0]
            if name not in retired and (why := _why_pending(settings, milvus, dataset, name, first)):
                found.append({"encoder": name, "first": first, "why": why})
    fresh = [name for name in settings.nightly.encoders if name not in retired]
    if fresh and not found and (why := sync.lag(settings, dataset)):
        found = [{"encoder": fresh[0], "first": fresh[0] == settings.nightly.encoders[0], "why": why}]
    figures: dict[str, Any] = {"dataset": dataset, "pending": found, "retired": retired}
    show(f"pending {dataset}", figures, as_json)


def _retired(settings: Settings, name: str) -> bool:
    try:
        version = by_name.version(settings, name)
    except UserError:
        return False
    return facts.is_retired(settings, version)


def _why_pending(settings: Settings, milvus: "VectorIndex", dataset: str, name: str, first: bool) -> str | None:
    """The first thing found that is not as it should be; what only a later step would find is found by that step."""
    from evaluation.promotion.milvus_alias import lag
    from evaluation.promotion.promote import served_before, unpassed_gates

    try:
        version = by_name.version(settings, name)
    except UserError as error:  # the task of this encoder says so, and fails alone
        return str(error)
    encoded = EncodedSet(dataset, name, version)
    if facts.settled(settings, encoded) is None:
        return "embeddings are not those of the catalog"
    if problems := unpassed_gates(settings, encoded, with_index=first):
        return problems[0]
    if first and not served_before(settings, encoded):
        return "never promoted"
    return lag(settings, milvus, encoded)


@app.command()
def night(
    since: Annotated[
        datetime, typer.Option(help="When it began; UTC where it says no other.", formats=WHEN, metavar="WHEN")
    ],
    as_json: Json = False,
) -> None:
    """What was done since then, in a few lines; writes the report anew where something was."""
    settings = load_settings()
    began = since.astimezone(UTC) if since.tzinfo else since.replace(tzinfo=UTC)
    figures = nights.summary(settings, began)
    path = settings.reports / "report.html"
    if figures["changed"] or not path.is_file():
        from evaluation.report.report import write_report

        with runs.record(settings, "report") as run:
            path = write_report(settings, None)
            run.figures["report"] = str(path)
    figures |= {"report": str(path), "text": f"{figures['text']}\nreport: {path}"}
    if as_json:
        show("night", figures, as_json)
    else:
        output.emit(figures["text"])


@app.command()
def retire(
    encoder: Annotated[str, typer.Argument(help="An encoder's name, for all its versions, or one version.")],
    delete_rows: Annotated[bool, typer.Option("--delete-rows", help="Delete its vectors too.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Bring it back instead.")] = False,
    as_json: Json = False,
) -> None:
    """Take an encoder out of the nights, Feast and Milvus; what serves, or is another's base, is refused.

    Its vectors stay in the tables unless --delete-rows. Killed, the same command goes on where it was.
    """
    settings = load_settings()
    from evaluation.promotion import retire as job

    if undo and delete_rows:
        raise UserError("--undo brings an encoder back: --delete-rows does not go with it")
    with runs.record(settings, "retire", None, encoder) as run:
        run.figures |= job.bring_back(settings, encoder) if undo else job.retire(settings, encoder, delete_rows)
    for name in run.figures.get("still_nightly", []):
        print(f"[nightly] still names {name!r}: nights leave it out; take it from vitrine.toml", file=sys.stderr)
    show(f"{'brought back' if undo else 'retired'} {encoder}", run.figures, as_json)


@app.command()
def backfill(
    encoder: Annotated[str, typer.Argument(help="An encoder's name; of one tuned by its head, what it computes from.")],
    dataset: Annotated[list[str], typer.Option("--dataset", help="A data set; may repeat.", metavar="NAME")],
    name: Annotated[str, typer.Option(help="Of the backfill: what its calls cost is summed by it.")] = "backfill",
    rows: Annotated[int | None, typer.Option(min=1, help="Photos to embed now. Left out: all.")] = None,
    share: Annotated[float | None, typer.Option(min=0, max=1, help="The same as a share of what is missing.")] = None,
    wanted: Annotated[
        str | None, typer.Option(help="A table of product_id and weight: what weighs most goes first.", metavar="FILE")
    ] = None,
    budget_seconds: Annotated[float | None, typer.Option(min=0, help="What the whole may take.")] = None,
    budget_money: Annotated[
        float | None, typer.Option(min=0, help="What the whole may cost, by the prices set.")
    ] = None,
    chunk_rows: Annotated[int, typer.Option(min=1, help="Photos of a piece, in the plan.")] = 20_000,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is left and, by the rate so far, what it takes; in pieces.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Embed a part of what an encoder misses: the products most wanted first, then the newest.

    Exit 3 where the budget is used up, or the plan of --dry-run is beyond it. Nothing is lost by stopping it: the next
    call goes on with what is missing.
    """
    settings = load_settings()
    from spark_jobs.backfill import Budget

    if rows is not None and share is not None:
        raise UserError("--rows and --share are two ways to say one thing: give one of them")
    head = by_name.find_head(settings, encoder)
    asked = head.base if head else encoder
    budget = Budget(budget_seconds, budget_money)
    names = chosen_datasets(settings, dataset)
    if dry_run:
        show(f"backfill {asked}", _plan_backfill(settings, asked, names, name, chunk_rows, budget), as_json)
        return
    results = [_backfill_one(settings, asked, chosen, name, rows, share, wanted, budget) for chosen in names]
    show_each("backfilled", results, as_json)


def _plan_backfill(
    settings: Settings, encoder: str, names: list[str], name: str, chunk_rows: int, budget: "Budget"
) -> dict[str, Any]:
    from spark_jobs import backfill as job

    version = by_name.version(settings, encoder)
    left = {chosen: facts.missing(settings, EncodedSet(chosen, encoder, version)) for chosen in names}
    done = job.spent(settings, version, name)
    rest = job.estimate(done, sum(left.values()), chunk_rows)
    pieces = job.chunks(left, chunk_rows)
    total = {what: done[what] + rest[what] for what in ("seconds", "money")}
    print(
        f"{sum(left.values())} photos are left: {rest['seconds']:.0f} s, {rest['money']:.4f} "
        f"{settings.prices.currency}, in {len(pieces)} pieces",
        file=sys.stderr,
    )
    budget.check(settings, total["seconds"], total["money"], "the whole backfill is going to take")
    return {"dry_run": True, "encoder": encoder, "left": left, "so_far": done, "estimate": rest, "chunks": pieces}


def _backfill_one(
    settings: Settings,
    encoder: str,
    dataset: str,
    name: str,
    rows: int | None,
    share: float | None,
    wanted: str | None,
    budget: "Budget",
) -> dict[str, Any]:
    from spark_jobs import backfill as job
    from spark_jobs.backfill_order import First
    from spark_jobs.embed_catalog import embed

    version = by_name.version(settings, encoder)
    done, left = job.spent(settings, version, name), facts.missing(settings, EncodedSet(dataset, encoder, version))
    budget.check(settings, done["seconds"], done["money"], "this backfill has taken")
    wished = math.ceil(left * share) if share is not None else rows
    take = min(left, left if wished is None else wished)
    with runs.record(settings, "embed", dataset, encoder) as run:
        run.encoder_version = version
        run.figures |= {"backfill": name, "embedded": 0, "computed": 0, "left": left}
        if take:
            found = embed(settings, encoder, dataset, first=First(take, wanted))
            seconds = round(run.seconds, 3)
            rate = round(found["computed"] / seconds, 2)
            run.figures |= found | {"pass_seconds": found.get("seconds", 0.0), "seconds": seconds}
            run.figures |= {
                "images_per_second": rate,
                "left": facts.missing(settings, EncodedSet(dataset, encoder, version)),
            }
    if run.figures["computed"]:
        tracking.to_mlflow(settings, run)
    return {"dataset": dataset, "encoder": encoder, **run.figures}
