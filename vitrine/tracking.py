"""MLflow: where people compare what runs did and cost; the table ``runs`` is the record."""

import importlib
import logging
import os
import re
import sys
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitrine import surroundings
from vitrine.errors import UserError, one_line
from vitrine.locations import sqlite_url
from vitrine.runs import Run
from vitrine.settings import Settings, load_settings

_SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}
"""MLflow's variables as they are here, unless the caller has set them otherwise."""


@dataclass
class Details:
    """What MLflow keeps of a run beside its figures."""

    params: dict[str, Any] = field(default_factory=dict)
    curves: list[dict[str, float]] = field(default_factory=list)
    """Metrics by step, the first step first."""
    files: list[Path] = field(default_factory=list)
    children: "list[tuple[str, Details]]" = field(default_factory=list)
    """Names and details of the runs within: a search's trials."""


def load_mlflow() -> None:
    """Import MLflow beside what the caller goes on with: it takes seconds, and a long job needs it at its end."""
    _quiet_mlflow()
    names = ("mlflow", "mlflow.store.tracking.sqlalchemy_store")
    threading.Thread(target=lambda: [importlib.import_module(name) for name in names], daemon=True).start()


def _quiet_mlflow() -> None:
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", message="The ``noload`` loader strategy")  # MLflow's own use of SQLAlchemy
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every table of a new SQLite file
    logging.getLogger("mlflow").setLevel(logging.WARNING)


def mlflow_uri(settings: Settings) -> str:
    """``[mlflow] uri``, which may hold a password, else the file under the home."""
    given = settings.mlflow.uri
    return given.get_secret_value() if given else sqlite_url(settings.home / "mlflow.db")


def to_mlflow(settings: Settings, run: Run, details: Details | None = None) -> str | None:
    """Log an ended run: its numbers as metrics, what it was of as tags. A server that is away costs one line on stderr.

    Returns:
        MLflow's id of it; None where it could not be told.

    The ``runs`` table is the record; MLflow is where people compare.
    """
    _quiet_mlflow()
    from mlflow import MlflowClient
    from mlflow.entities import Metric, RunTag
    from mlflow.exceptions import MlflowException

    given = settings.mlflow.uri
    started = round(run.started_at.timestamp() * 1000)
    ended = started + round(run.seconds * 1000)
    what = ("run_id", "verb", "dataset", "encoder", "encoder_version", "catalog_version")
    tags = {name: str(getattr(run, name)) for name in what if getattr(run, name)}
    numbers = {name: value for name, value in run.figures.items() if isinstance(value, int | float)}
    try:
        client = MlflowClient(mlflow_uri(settings))
        found = client.get_experiment_by_name(settings.mlflow.experiment)
        # Without a server, files lie beside its database, not wherever the command ran.
        files = None if given else (settings.home / "mlflow_files").as_uri()
        place = found.experiment_id if found else client.create_experiment(settings.mlflow.experiment, files)
        name = " ".join(tags[key] for key in ("verb", "dataset", "encoder") if key in tags)
        logged = client.create_run(place, start_time=started, run_name=name).info.run_id
        metrics = [Metric(_allowed(name), float(value), ended, 0) for name, value in numbers.items()]
        client.log_batch(logged, metrics=metrics, tags=[RunTag(f"vitrine.{key}", value) for key, value in tags.items()])
        _log_details(client, place, logged, details or Details(), started, ended)
        client.set_terminated(logged, "FINISHED", ended)
    except (MlflowException, OSError) as error:
        said = type(error).__name__ if given else f"{type(error).__name__}: {error}"  # a URI may hold a password
        print(f"MLflow was not told of this run ({one_line(said)}); table runs has it", file=sys.stderr)
        return None
    return str(logged)


def _allowed(name: str) -> str:
    """``name`` as MLflow takes it, which refuses a whole run for one other character: ``mMP@5`` is ``mMP_at_5``."""
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"), flags=re.ASCII)


def _log_details(client: Any, place: str, logged: str, details: Details, started: int, ended: int) -> None:
    from mlflow.entities import Metric, Param

    values = [
        Metric(_allowed(name), float(value), ended, step)
        for step, metrics in enumerate(details.curves)
        for name, value in metrics.items()
    ]
    params = [Param(_allowed(name), str(value)[:500]) for name, value in details.params.items()]
    for first in range(0, max(len(values), 1), 900):  # a batch holds 1,000 metrics
        client.log_batch(logged, metrics=values[first : first + 900], params=[] if first else params)
    for path in details.files:
        client.log_artifact(logged, str(path))
    for name, child in details.children:
        tags = {"mlflow.parentRunId": logged}
        within = client.create_run(place, start_time=started, run_name=name, tags=tags).info.run_id
        _log_details(client, place, within, child, started, ended)
        client.set_terminated(within, "FINISHED", ended)


def serve_mlflow(settings: Settings) -> None:
    """Become MLflow's own pages on this home's runs, until Ctrl-C; a server that the settings name has its own.

    Raises:
        UserError: ``[mlflow] uri`` names a server.
    """
    uri = mlflow_uri(settings)
    if uri.startswith(("http:", "https:", "databricks")):
        raise UserError("[mlflow] uri names a server: open its address in a browser")
    settings.home.mkdir(parents=True, exist_ok=True)
    _quiet_mlflow()
    # By the environment: a database's URI may hold a password, and anyone sees a command line.
    others = {name for name in os.environ if name.startswith("MLFLOW_") and name not in _SWITCHES}
    env = {name: value for name, value in surroundings.for_child().items() if name not in others} | {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_ARTIFACTS_DESTINATION": str(settings.home / "mlflow_files"),
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", "5000"]
    print("MLflow: http://127.0.0.1:5000 (Ctrl-C ends it)", file=sys.stderr, flush=True)
    os.execve(sys.executable, command, env)  # noqa: S606


if __name__ == "__main__":  # make mlflow
    try:
        serve_mlflow(load_settings())
    except UserError as mistake:
        sys.exit(f"vitrine: {mistake}")
