"""``vitrine quantize``: a network in integers of eight bits, where that pays on this machine."""

from typing import Annotated

import typer

from vitrine import runs, tracking
from vitrine.cli import output
from vitrine.cli import quantize as work
from vitrine.cli.choices import chosen_datasets
from vitrine.cli.options import Dataset, Json
from vitrine.settings import load_settings


def quantize(
    encoder: Annotated[str, typer.Option("--encoder", help="A network, as it is or tuned.", metavar="NAME")],
    dataset: Dataset,
    max_drop: Annotated[
        float | None, typer.Option(min=0, max=1, help="What mMP@5 may lose. Left out: gates.max_drop.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the encoder. Left out: ENCODER__int8__DATASET.")] = None,
    as_json: Json = False,
) -> None:
    """Round a network to integers of eight bits, where that pays on this machine's processor.

    Photos of the split train (or without a split) say how far its values reach. Then both are held against each other:
    photos a second on one core, and mMP@5 on a sample of products. Where eight bits are not surely good enough, or not
    faster by a tenth, says so with the figures and makes no encoder. What is made is embedded, gated and promoted like
    any other, on processors.
    """
    settings = load_settings()
    (chosen,) = chosen_datasets(settings, [dataset])
    asked = work.check(settings, chosen, encoder, name, max_drop)
    with runs.record(settings, "quantize", chosen, asked.base) as run:
        work.quantize(settings, asked, run)
    tracking.to_mlflow(settings, run, tracking.Details(params={"max_drop": asked.max_drop}))
    output.show(f"quantized {asked.base}", {"dataset": chosen, "encoder": asked.base, **run.figures}, as_json)
