"""``vitrine night``: what was done since a moment."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from evaluation.report import report
from vitrine import nights, runs
from vitrine.cli import output
from vitrine.cli.options import Json
from vitrine.settings import load_settings

WHEN = [f"%Y-%m-%d{time}" for time in ("", "T%H:%M:%S", "T%H:%M:%S%z", "T%H:%M:%S.%f%z")]


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
        with runs.record(settings, "report") as run:
            path = report.write_report(settings, None)
            run.figures["report"] = str(path)
    figures |= {"report": str(path), "text": f"{figures['text']}\nreport: {path}"}
    if as_json:
        output.show("night", figures, as_json)
    else:
        output.emit(figures["text"])
