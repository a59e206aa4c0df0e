"""``vitrine ingest``: a source's photos into the catalog."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from spark_jobs import ingest_catalog
from vitrine import runs
from vitrine.cli import output
from vitrine.cli.options import Dataset, Gated, Json
from vitrine.cli.verbs.gate import ask
from vitrine.datasets import attributes, columns, registry
from vitrine.names import check_name
from vitrine.settings import load_settings

EPILOG = f"Layouts:\n\n{registry.describe()}"
"""What its help ends with."""


def ingest(
    source: Annotated[str, typer.Argument(help="A folder or table by path or URI, or for generated e.g. 40x12.")],
    dataset: Dataset,
    layout: Annotated[str, typer.Option(help="How the source is laid out: one of those below.")] = "folder",
    test_share: Annotated[
        float | None,
        typer.Option(
            help="Of photos without a split: the share that becomes test, the rest train; by id.", min=0.01, max=0.99
        ),
    ] = None,
    splits: Annotated[
        bool | None,
        typer.Option(
            "--splits/--no-splits", help="The first level of a folder is one of splits, or not; left out: by its names."
        ),
    ] = None,
    categories: Annotated[
        bool,
        typer.Option("--categories", help="Products' folders lie in folders of their categories."),
    ] = False,
    encoding: Annotated[
        str | None,
        typer.Option(help="The character set of a table in CSV, as cp1252; left out: UTF-8.", metavar="NAME"),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="What a table calls a column, as uri=image_url; may repeat.", metavar="NAME=COLUMN"),
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(
            help="A column to keep as an attribute of photos, as colour, or brand=Marke; may repeat.",
            metavar="NAME=COLUMN",
        ),
    ] = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="A published data set, whatever its counts.")
    ] = False,
    allow_removals: Annotated[
        bool, typer.Option("--allow-removals", help="However many photos left: past gates.max_removed_share.")
    ] = False,
    gated: Gated = False,
    as_json: Json = False,
) -> None:
    """Bring a catalog in: new and changed photos are read, unreadable ones quarantined, those that left removed.

    Exit 3, and nothing changed, where far more photos left than in any usual night.
    """
    settings = load_settings()
    check_name(dataset, "data set")
    with runs.record(settings, "ingest", dataset) as run:
        how: dict[str, Any] = {
            "allow_partial": allow_partial,
            "allow_removals": allow_removals,
            "test_share": test_share,
        }
        how |= {
            "splits": splits,
            "categories": categories,
            "encoding": encoding,
            "columns": columns.parse(column or (), registry.columns_of(layout)),
            "attributes": attributes.parse(attribute or ()),
        }
        run.figures |= ingest_catalog.ingest(settings, source, dataset, layout, **how)
        run.figures |= asdict(runs.IngestSource(layout))
    if gated:
        ask(settings, "catalog", dataset)
    output.show(f"ingested {dataset}", run.figures, as_json)
