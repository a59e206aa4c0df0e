"""``vitrine browse``: a page that shows what each encoder finds."""

from typing import Annotated

import typer

from evaluation.browse import server, site
from vitrine import lake
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets
from vitrine.cli.options import Datasets
from vitrine.errors import unknown
from vitrine.settings import load_settings

PORT = 8090


def browse(
    dataset: Datasets = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder",
            help="An encoder's name, or a version; may repeat. Left out: what serves and the newest of each.",
            metavar="NAME",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On this machine alone (127.0.0.1).")] = PORT,
) -> None:
    """A page on this machine: pick or upload a photo and see its neighbours by each encoder, side by side.

    It reads the stored vectors, and embeds a photo only when one is uploaded. Ctrl-C ends it.
    """
    settings = load_settings()
    lake.create_tables(settings)
    if dataset:
        chosen_datasets(settings, dataset)
    rows = lake.rows(settings, "SELECT DISTINCT encoder, encoder_version FROM encoders")
    known = {row[name] for row in rows for name in ("encoder", "encoder_version")}
    for name in encoder or []:
        if name not in known:
            raise unknown("encoder with vectors", name, known)
    server.check_port(port)
    pages = site.Site(settings, tuple(dataset or ()), tuple(encoder or ()))
    output.emit(f"http://127.0.0.1:{port}/  (Ctrl-C ends it)")
    server.serve(pages, port)
