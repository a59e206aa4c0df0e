"""What every job did and what it cost: one row of ``runs`` a job."""

import importlib
import json
import logging
import os
import resource
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vitrine import lake
from vitrine.errors import GateRefused
from vitrine.settings import Settings
from vitrine.tables import RUNS


class Run:
    """A job under way; ``figures`` becomes what ``--json`` prints."""

    def __init__(self, verb: str, dataset: str | None, encoder: str | None) -> None:
        self.run_id = uuid.uuid4().hex
        self.verb, self.dataset, self.encoder = verb, dataset, encoder
        self.encoder_version: str | None = None
        self.catalog_version: str | None = None
        self.figures: dict[str, Any] = {}
        self.started_at = lake.now()
        self._clock = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._clock

    def row(self, state: str) -> dict[str, Any]:
        return {
            **{key: getattr(self, key) for key in ("run_id", "verb", "dataset", "encoder", "encoder_version")},
            "catalog_version": self.catalog_version,
            "state": state,
            "started_at": self.started_at,
            "seconds": self.figures.get("seconds", self.seconds),
            "peak_mib": peak_mib(),
            "figures": json.dumps(self.figures, default=str),
        }


def load_mlflow() -> None:
    """Import MLflow beside what the caller goes on with: it takes seconds, and a long job needs it at its end."""
    _quiet_mlflow()
    names = ("mlflow", "mlflow.store.tracking.sqlalchemy_store")
    threading.Thread(target=lambda: [importlib.import_module(name) for name in names], daemon=True).start()


def _quiet_mlflow() -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every table of a new SQLite file
    logging.getLogger("mlflow").setLevel(logging.WARNING)


def to_mlflow(settings: Settings, run: Run) -> None:
    """Log an ended run: its numbers as metrics, what it was of as tags. A server that is away costs one line on stderr.

    The ``runs`` table is the record; MLflow is where people compare.
    """
    _quiet_mlflow()
    from mlflow import MlflowClient
    from mlflow.entities import Metric, RunTag
    from mlflow.exceptions import MlflowException

    given = settings.mlflow.uri
    uri = given.get_secret_value() if given else f"sqlite:///{settings.home / 'mlflow.db'}"
    started = round(run.started_at.timestamp() * 1000)
    ended = started + round(run.seconds * 1000)
    what = ("run_id", "verb", "dataset", "encoder", "encoder_version", "catalog_version")
    tags = {name: str(getattr(run, name)) for name in what if getattr(run, name)}
    numbers = {name: value for name, value in run.figures.items() if isinstance(value, int | float)}
    try:
        client = MlflowClient(uri)
        found = client.get_experiment_by_name(settings.mlflow.experiment)
        place = found.experiment_id if found else client.create_experiment(settings.mlflow.experiment)
        name = " ".join(tags[key] for key in ("verb", "dataset", "encoder") if key in tags)
        logged = client.create_run(place, start_time=started, run_name=name).info.run_id
        metrics = [Metric(name, float(value), ended, 0) for name, value in numbers.items()]
        client.log_batch(logged, metrics=metrics, tags=[RunTag(f"vitrine.{key}", value) for key, value in tags.items()])
        client.set_terminated(logged, "FINISHED", ended)
    except (MlflowException, OSError) as error:
        said = type(error).__name__ if given else f"{type(error).__name__}: {error}"  # a URI may hold a password
        print(f"MLflow was not told of this run ({said.splitlines()[0][:200]}); table runs has it", file=sys.stderr)


def peak_mib() -> float:
    """The most memory that this process, or the largest of its ended children, held, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / unit


@contextmanager
def record(settings: Settings, verb: str, dataset: str | None = None, encoder: str | None = None) -> Iterator[Run]:
    """Write the job of this block to ``runs``, however it ends; ``seconds`` joins its figures."""
    run = Run(verb, dataset, encoder)
    state = "failed"
    try:
        yield run
        state = "done"
    except GateRefused:
        state = "refused"
        raise
    except Exception as error:
        run.figures.setdefault("error", f"{type(error).__name__}: {error}"[:500])
        raise
    finally:
        run.figures.setdefault("seconds", round(run.seconds, 3))
        lake.create_tables(settings)
        lake.append(settings, RUNS, [run.row(state)])
