"""``vitrine rollback``: what served before serves again."""

from evaluation.promotion import promote
from vitrine import runs
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets
from vitrine.cli.options import Dataset, Json
from vitrine.cli.verbs.promote import follow
from vitrine.settings import load_settings


def rollback(dataset: Dataset, as_json: Json = False) -> None:
    """Let the version that served before serve again, without embedding anything; one cut short is finished."""
    settings = load_settings()
    chosen_datasets(settings, [dataset])
    with runs.record(settings, "rollback", dataset) as run:
        run.figures |= promote.unfinished_rollback(settings, dataset) or promote.rollback(settings, dataset)
        run.figures |= follow(settings, dataset)
    output.show(f"rollback {dataset}", run.figures, as_json)
