"""``vitrine report``: one self-contained HTML page."""

from evaluation.report import report as page
from vitrine import runs
from vitrine.cli import output
from vitrine.cli.options import Datasets, Json
from vitrine.settings import load_settings


def report(dataset: Datasets = None, as_json: Json = False) -> None:
    """Write the report: one self-contained HTML page."""
    settings = load_settings()
    with runs.record(settings, "report") as run:
        run.figures["report"] = str(page.write_report(settings, dataset or None))
    output.show("report written", run.figures, as_json)
