"""What every job did and what it cost: one row of ``runs`` a job."""

import json
import resource
import sys
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
            "seconds": self.seconds,
            "peak_mib": peak_mib(),
            "figures": json.dumps(self.figures, default=str),
        }


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
