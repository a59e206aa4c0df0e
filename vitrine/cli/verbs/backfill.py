"""``vitrine backfill``: an encoder brought to a catalog piece by piece."""

import math
import sys
from typing import Annotated, Any

import typer

from spark_jobs import backfill as pieces
from spark_jobs import backfill_order, embed_catalog
from vitrine import facts, runs, tracking
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets
from vitrine.cli.options import Json
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import by_name
from vitrine.errors import UserError
from vitrine.names import split_joined
from vitrine.settings import Settings, load_settings


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
    if rows is not None and share is not None:
        raise UserError("--rows and --share are two ways to say one thing: give one of them")
    head = by_name.find_head(settings, encoder)
    asked = head.base if head else encoder
    if len(parts := split_joined(asked)) > 1:
        raise UserError(f"{encoder!r} is a head on several encoders: backfill {' and '.join(map(repr, parts))}, each")
    budget = pieces.Budget(budget_seconds, budget_money)
    names = chosen_datasets(settings, dataset)
    if dry_run:
        output.show(f"backfill {asked}", _plan_backfill(settings, asked, names, name, chunk_rows, budget), as_json)
        return
    results = [backfill_one(settings, asked, chosen, name, rows, share, wanted, budget) for chosen in names]
    output.show_each("backfilled", results, as_json)


def _plan_backfill(
    settings: Settings, encoder: str, names: list[str], name: str, chunk_rows: int, budget: "pieces.Budget"
) -> dict[str, Any]:
    version = by_name.version(settings, encoder)
    left = {chosen: facts.missing(settings, EncodedSet(chosen, encoder, version)) for chosen in names}
    done = pieces.spent(settings, version, name)
    rest = pieces.estimate(done, sum(left.values()), chunk_rows)
    chunks = pieces.chunks(left, chunk_rows)
    total = {what: done[what] + rest[what] for what in ("seconds", "money")}
    print(
        f"{sum(left.values())} photos are left: {rest['seconds']:.0f} s, {rest['money']:.4f} "
        f"{settings.prices.currency}, in {len(chunks)} pieces",
        file=sys.stderr,
    )
    budget.check(settings, total["seconds"], total["money"], "the whole backfill is going to take")
    return {"dry_run": True, "encoder": encoder, "left": left, "so_far": done, "estimate": rest, "chunks": chunks}


def backfill_one(
    settings: Settings,
    encoder: str,
    dataset: str,
    name: str,
    rows: int | None,
    share: float | None,
    wanted: str | None,
    budget: "pieces.Budget",
) -> dict[str, Any]:
    """What the network ``encoder`` misses, or a part of it; the figures.

    Raises:
        GateRefused: the budget is used up.
    """
    version = by_name.version(settings, encoder)
    done, left = pieces.spent(settings, version, name), facts.missing(settings, EncodedSet(dataset, encoder, version))
    budget.check(settings, done["seconds"], done["money"], "this backfill has taken")
    wished = math.ceil(left * share) if share is not None else rows
    take = min(left, left if wished is None else wished)
    with runs.record(settings, "embed", dataset, encoder) as run:
        run.encoder_version = version
        run.figures |= {"backfill": name, "embedded": 0, "computed": 0, "left": left}
        if take:
            found = embed_catalog.embed(settings, encoder, dataset, first=backfill_order.BackfillOrder(take, wanted))
            run.figures |= found | {"pass_seconds": found.get("seconds", 0.0)}
            run.note_rate()
            run.figures["left"] = facts.missing(settings, EncodedSet(dataset, encoder, version))
    if run.figures["computed"]:
        tracking.to_mlflow(settings, run)
    return {"dataset": dataset, "encoder": encoder, **run.figures}
