"""``vitrine retire``: an encoder out of the nights, or back into them."""

import sys
from typing import Annotated

import typer

from evaluation.promotion import retire as retirement
from vitrine import runs
from vitrine.cli import output
from vitrine.cli.options import Json
from vitrine.errors import UserError
from vitrine.settings import load_settings


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
    if undo and delete_rows:
        raise UserError("--undo brings an encoder back: --delete-rows does not go with it")
    with runs.record(settings, "retire", None, encoder) as run:
        if undo:
            run.figures |= retirement.bring_back(settings, encoder)
        else:
            run.figures |= retirement.retire(settings, encoder, delete_rows)
    for name in run.figures.get("still_nightly", []):
        print(f"[nightly] still names {name!r}: nights leave it out; take it from vitrine.toml", file=sys.stderr)
    output.show(f"{'brought back' if undo else 'retired'} {encoder}", run.figures, as_json)
