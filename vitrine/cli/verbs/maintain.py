"""``vitrine maintain``: compaction, and the removal of what nothing needs any more."""

from typing import Annotated

import typer

from evaluation.promotion import old_collections
from spark_jobs import maintain_tables
from vitrine import runs
from vitrine.cli import output
from vitrine.cli.options import Json
from vitrine.settings import load_settings


def maintain(
    keep_days: Annotated[int, typer.Option(min=7, help="How long time travel reaches back.")] = 30,
    keep_runs_days: Annotated[
        int, typer.Option(min=30, help="How long `runs` keeps more than each job's newest.")
    ] = 400,
    as_json: Json = False,
) -> None:
    """Compact the tables, remove files that no version of the last days needs, and drop Milvus's old collections."""
    settings = load_settings()
    with runs.record(settings, "maintain") as run:
        run.figures |= maintain_tables.maintain(settings, keep_days, keep_runs_days)
        run.figures |= old_collections.drop_old(settings)
    output.show("maintained", run.figures, as_json)
