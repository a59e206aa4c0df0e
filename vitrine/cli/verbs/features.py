"""``vitrine features``: Feast's definitions, rows and services."""

from functools import partial
from typing import Annotated, Any

import typer

from feature_repo import definitions
from spark_jobs import fill_online, session
from vitrine import feature_store, locks, runs
from vitrine.cli import output
from vitrine.cli.choices import chosen_datasets
from vitrine.cli.options import Datasets, Json
from vitrine.online import sync
from vitrine.settings import Settings, load_settings


def features(
    dataset: Datasets = None,
    with_spark: Annotated[
        bool,
        typer.Option("--spark", help="What holds nothing yet is filled by Spark's executors: for millions of rows."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Feast: apply the definitions, bring the online store to the lake's version, point the serving services."""
    settings = load_settings()
    fill = _spark_fill(settings) if with_spark else None
    output.show("features", bring_online(settings, chosen_datasets(settings, dataset), fill=fill), as_json)


def _spark_fill(settings: Settings) -> "sync.Fill":
    return partial(fill_online.fill_online, session.build_session(settings, "features"))


def bring_online(
    settings: Settings, datasets: list[str], fresh: bool = False, fill: "sync.Fill | None" = None
) -> dict[str, Any]:
    """Feast's definitions, online rows and serving services, brought to the tables; ``fresh`` and ``fill`` as
    ``vitrine.online.sync.sync`` has them."""
    one = datasets[0] if len(datasets) == 1 else None
    with locks.held(settings, "features"), runs.record(settings, "features", one) as run:
        store = feature_store.open_store(settings)
        feature_store.apply(store, definitions.objects(settings))
        run.figures |= {"upserted": 0, "deleted": 0, "views": []}
        for dataset in datasets:
            for name, figure in sync.sync_all(settings, store, dataset, fresh, fill).items():
                run.figures[name] += figure
        # Last: a service points to a version only when its rows are there.
        feature_store.apply(store, definitions.serving_services(settings))
    return run.figures
