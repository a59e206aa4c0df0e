"""``vitrine advise``: which encoder for this catalog, tuned or as it is, without trying all of them."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from evaluation.advice import answer
from vitrine.cli import advice, advice_apply, output
from vitrine.cli.choices import chosen_datasets
from vitrine.cli.options import Dataset, Json
from vitrine.settings import load_settings


class Use(StrEnum):
    search = "search"
    tagging = "tagging"
    cost = "cost"


def advise(
    dataset: Dataset,
    use: Annotated[
        Use,
        typer.Option(
            help="Finding a product's other photos; telling a photo's category; or the former, as cheaply as may be."
        ),
    ] = Use.search,
    budget: Annotated[
        str | None, typer.Option(help="What all of it may take: 30m, 2h, or money as 5EUR. Left out: no bound.")
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="A candidate; may repeat. Left out: all with weights on this machine.", metavar="NAME"),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="What a cheaper one may be worse. Left out: 0.01, with --use cost 0.03."),
    ] = None,
    non_commercial_too: Annotated[
        bool, typer.Option("--non-commercial-too", help="Try those, too, whose licence forbids commercial use.")
    ] = False,
    tuning: Annotated[
        bool,
        typer.Option(
            "--tuning",
            help="Then probe which tuning the best two are worth, within what is left; no budget: tune.auto.budget.",
        ),
    ] = False,
    apply: Annotated[
        bool,
        typer.Option(
            "--apply",
            help="Then backfill what is advised, through its gates, and name it first among nightly.encoders.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Find the encoder for a catalog, as it is, with a linear head, or joined with another one, from a sample.

    The best of each kind of pre-training is measured first, then what may gain most; what is surely worse leaves, and
    the sample grows until one is left or all are within the margin: then the cheapest. Says "undecided" where that is
    the truth: then --apply changes nothing, and ends with 4. Vectors are the catalog's own: embed takes them over, and
    killed, the same command goes on. With --tuning, the rungs of tune.auto are probed on the sample, and the answer
    names the highest that is worth its cost. Draws a page under HOME/reports.
    """
    settings = load_settings()
    (chosen,) = chosen_datasets(settings, [dataset])
    if apply:
        advice_apply.check(settings, chosen, non_commercial_too)
    asked = advice.Asked(use.value, budget, encoder or [], margin, non_commercial_too, tuning)
    found = advice.advise(settings, chosen, asked)
    if not as_json:
        _show(found)
    elif not apply or not found.encoder:
        output.emit_json(asdict(found))
    if apply:
        done = advice_apply.apply(settings, found)
        if as_json:
            output.emit_json(asdict(found) | {"applied": asdict(done)})
        else:
            output.emit("\n".join(done.lines()))


def _show(found: "answer.Advice") -> None:
    if found.options:
        columns = ["encoder", "strategy", "expected", "low", "high", "sample", "photos", "photos/s"]
        columns += ["logme", "h_score", "verdict"]
        rows = [
            [each.encoder, each.strategy, each.value, each.low, each.high, each.measured, each.photos]
            + [each.use.photos_per_second, each.logme, each.h_score, each.verdict]
            for each in found.options
        ]
        output.emit_rows(columns, rows)
    output.emit("\n".join(found.lines()))
