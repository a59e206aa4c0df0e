"""The table ``runs``: a row for what each job did and cost, written here and read here.

``figures`` holds what ``--json`` prints. What one job writes there and another reads has a dataclass below: the writer
makes one and adds ``asdict`` of it, the reader asks ``RecordedRun.read`` for it. A row of an earlier version may lack
fields: they then have their defaults.
"""

import json
import resource
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from vitrine import lake
from vitrine.errors import GateRefused, VitrineError, reason
from vitrine.lake import matches
from vitrine.settings import Settings
from vitrine.tables import RUNS

Figures = TypeVar("Figures")


# ---- what jobs write for others to read ----


@dataclass(frozen=True)
class IngestCounts:
    """Photos by what ``ingest`` found of them."""

    images: int = 0
    """In the catalog afterwards."""
    added: int = 0
    changed: int = 0
    """Of other content than before."""
    updated: int = 0
    """Of the same content, with another label, split or place."""
    unchanged: int = 0
    quarantined: int = 0
    removed: int = 0
    mended: int = 0
    """No longer in quarantine."""
    blank_rows: int = 0
    """Of a table, without any value: left out."""
    asked: int = 0
    """Links whose servers were asked."""
    not_modified: int = 0
    """Of those, answered without the photo: it is the one of before."""
    fetched_bytes: int = 0
    away: int = 0
    """Photos that stayed as they were known, since their host is away."""


@dataclass(frozen=True)
class IngestSource:
    """What ``ingest`` read."""

    layout: str | None = None


@dataclass(frozen=True)
class EmbedCounts:
    """Photos, and products, by what ``embed`` did with them."""

    embedded: int = 0
    unchanged: int = 0
    updated: int = 0
    """Relabelled, without a new vector."""
    deleted: int = 0
    quarantined: int = 0
    computed: int = 0
    """Different contents that went through the network or head."""
    products: int = 0
    products_deleted: int = 0


@dataclass(frozen=True)
class Bill:
    """What one encoder's share of a pass over the photos took."""

    seconds: float = 0.0
    core_seconds: float = 0.0
    gpu_seconds: float = 0.0
    worker_cpu_seconds: float = 0.0
    forward_seconds: float = 0.0
    worker_peak_mib: float = 0.0
    bytes_read: int = 0
    money: float = 0.0
    currency: str = ""
    devices: list[str] = field(default_factory=list)
    precision: str | None = None


@dataclass(frozen=True)
class BackfillPiece:
    """What a backfill adds to the figures of the ``embed`` run that is one of its pieces."""

    backfill: str | None = None
    """Its name."""
    left: int = 0
    """Photos that are still missing."""
    pass_seconds: float = 0.0
    """Of ``seconds``, those of the pass over the photos."""


@dataclass(frozen=True)
class Latency:
    """Clock time of one search, in milliseconds: the median, the fastest and the slowest."""

    milliseconds: float
    low: float
    high: float
    queries: int
    limit: int
    index: str
    milvus: str
    """``Lite`` or ``server``."""


@dataclass(frozen=True)
class ClassifierDetails:
    """Which classes one classifier mistakes, and how far its confidence can be believed."""

    classifier: str = ""
    label: str = ""
    """``product_id`` or ``category``: what it predicts."""
    calibration: list[dict[str, Any]] = field(default_factory=list)
    """The reliability diagram's bins: ``above``, ``upto``, ``photos``, ``confidence``, ``accuracy``."""
    most_confused: list[dict[str, Any]] = field(default_factory=list)
    """``truth``, ``predicted``, ``photos``; the most frequent first."""
    classes: list[str] = field(default_factory=list)
    """Where they are few; else empty, as ``confusion_matrix`` is."""
    confusion_matrix: list[list[int]] = field(default_factory=list)
    """A row a true class, a column a predicted one."""


@dataclass(frozen=True)
class EvaluateFigures:
    """What ``evaluate`` measured beside what ``metrics`` has."""

    latency: Latency | None = None
    classifiers: list[ClassifierDetails] = field(default_factory=list)


@dataclass(frozen=True)
class TagFigures:
    """How far the probabilities of a classifier that tags can be believed, where it was learned."""

    classifier_version: str = ""
    calibration: list[dict[str, Any]] = field(default_factory=list)
    """As that of ``ClassifierDetails``."""


@dataclass(frozen=True)
class LadderStep:
    """What ``tune auto`` forecast of one strategy, and found."""

    strategy: str = ""
    outcome: str = ""
    forecast_known: dict[str, float] | None = None
    """``value``, ``low`` and ``high`` of the gain of mMP@5 on known products over the strategy below."""
    found: float | None = None
    """The same gain, once it was tuned in full; None where it was not."""


@dataclass(frozen=True)
class LadderFigures:
    """How ``tune auto`` decided."""

    decisions: list[LadderStep] = field(default_factory=list)


@dataclass(frozen=True)
class GateFigures:
    """How a gate ended."""

    gate: str = ""
    success: bool = False
    checks: list[dict[str, Any]] = field(default_factory=list)
    """``expectation``, ``success`` and ``figures`` of each."""
    failed: list[dict[str, Any]] = field(default_factory=list)
    """``expectation`` and ``figures`` of those that failed."""
    warnings: list[str] = field(default_factory=list)
    serving_version: str | None = None
    """What a gate that compares compared with."""
    data_docs: str = ""

    @property
    def asked(self) -> list[dict[str, Any]]:
        """All ``checks``; of a run of an earlier version, which kept its failures alone, those."""
        return self.checks or [{"success": False, "figures": {}, **failure} for failure in self.failed]


# ---- reading ----


WORK = ("images", "embedded", "queries", "upserted", "rows", "written")
"""Figures that count the rows a job worked on; the first that a run has is its own."""
_adapters: dict[type, TypeAdapter[Any]] = {}  # each takes a while to make


@dataclass(frozen=True)
class PhotoRate:
    """What a thousand photos took in one ``embed`` run."""

    computed: int
    """Photos of the run, those alone that went through the network or head."""
    seconds: float
    money: float
    """0 where no prices were set."""
    currency: str


@dataclass(frozen=True)
class RecordedRun:
    """A row of ``runs``."""

    run_id: str
    verb: str
    dataset: str | None
    encoder: str | None
    encoder_version: str | None
    catalog_version: str | None
    state: str
    """``done``, ``refused`` or ``failed``."""
    started_at: datetime
    seconds: float
    peak_mib: float
    figures: dict[str, Any]

    def read(self, kind: type[Figures]) -> Figures:
        """The part of ``figures`` that is of ``kind``, one of the dataclasses above."""
        if kind not in _adapters:
            _adapters[kind] = TypeAdapter(kind)
        part: Figures = _adapters[kind].validate_python(self.figures)
        return part

    @property
    def ended_at(self) -> datetime:
        return self.started_at + timedelta(seconds=self.seconds)

    @property
    def gate(self) -> str:
        """Which gate was asked; empty where the run is of another verb."""
        return str(self.figures.get("gate", "")) if self.verb == "gate" else ""

    @property
    def error(self) -> str | None:
        """Why it failed."""
        return self.figures.get("error")

    @property
    def photo_rate(self) -> PhotoRate | None:
        """Of an ``embed`` run; None where it computed nothing."""
        computed, bill = self.read(EmbedCounts).computed, self.read(Bill)
        if not computed:
            return None
        return PhotoRate(computed, 1000 * self.seconds / computed, 1000 * bill.money / computed, bill.currency)

    @property
    def rows_per_second(self) -> float:
        """How many rows of its ``WORK`` it did in a second, photos computed where it noted their rate; 0 of none."""
        counts = (self.figures.get(name) for name in WORK)
        done = next((count for count in counts if isinstance(count, int | float)), 0)
        return self.figures.get("images_per_second") or (done / self.seconds if self.seconds > 0 else 0.0)

    @property
    def job(self) -> tuple[str, str | None, str | None, str]:
        """What was asked for: a run that was made again has the same."""
        return self.verb, self.dataset, self.encoder, self.gate


def read(settings: Settings, where: str = "true", *, newest: int | None = None) -> list[RecordedRun]:
    """The runs that are as ``where`` says, oldest first; with ``newest`` the newest ones alone, newest first."""
    order = "started_at, run_id" if newest is None else f"started_at DESC, run_id LIMIT {newest}"
    rows = lake.rows(settings, f"SELECT * FROM {RUNS.name} WHERE {where} ORDER BY {order}")
    return [
        RecordedRun(
            **{name: row.get(name) for name in RUNS.schema.names} | {"figures": json.loads(row["figures"] or "{}")}
        )
        for row in rows
    ]


def layout(settings: Settings, dataset: str) -> str | None:
    """The layout that ``dataset`` was last ingested by; None where no run says."""
    ingests = read(settings, matches(verb="ingest", state="done", dataset=dataset), newest=1)
    return ingests[0].read(IngestSource).layout if ingests else None


# ---- writing ----


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
        self._energy = _joules()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._clock

    def note_rate(self, seconds: float | None = None) -> None:
        """Add ``seconds`` (left out: since the run began) and the photos that were computed in one of them."""
        seconds = self.seconds if seconds is None else seconds
        self.figures["seconds"] = round(seconds, 3)
        self.figures["images_per_second"] = round(self.figures["computed"] / seconds, 2)

    def energy(self) -> dict[str, float]:
        """``energy_joules`` that the processors' packages took since the run began, where the machine tells."""
        now = _joules()
        grown = {name: now[name] - before for name, before in self._energy.items() if name in now}
        if not grown or min(grown.values()) < 0:  # a counter that came round says nothing
            return {}
        return {"energy_joules": round(sum(grown.values()) / 1e6, 1)}

    def row(self, state: str) -> dict[str, Any]:
        return {
            **{key: getattr(self, key) for key in ("run_id", "verb", "dataset", "encoder", "encoder_version")},
            **{key: getattr(self, key) for key in ("catalog_version", "started_at")},
            "state": state,
            "seconds": self.figures.get("seconds", self.seconds),
            "peak_mib": peak_mib(),
            "figures": json.dumps(self.figures, default=str),
        }


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
        run.figures.setdefault("error", str(error if isinstance(error, VitrineError) else reason(error)))
        raise
    finally:
        run.figures.setdefault("seconds", round(run.seconds, 3))
        run.figures |= run.energy()
        lake.create_tables(settings)
        lake.append(settings, RUNS, [run.row(state)])


def _joules() -> dict[str, int]:
    """Each processor package's energy counter in microjoules (Linux's powercap, Intel's and AMD's RAPL)."""
    counters = {}
    for path in Path("/sys/class/powercap").glob("intel-rapl:[0-9]*"):
        if path.name.count(":") == 1:  # a package; what lies within is counted in it
            with suppress(OSError, ValueError):  # for root's eyes, mostly
                counters[path.name] = int((path / "energy_uj").read_text())
    return counters


def peak_mib() -> float:
    """The most memory that this process, or the largest of its ended children, held, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / unit
