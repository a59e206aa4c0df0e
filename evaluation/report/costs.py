"""What each encoder version costs: seconds and money a thousand photos, tuning, bytes a vector, time of a query."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from statistics import median

from evaluation.report.figures import Group, Row
from vitrine import runs
from vitrine.encoders.tuned import HEADS
from vitrine.lake import matches
from vitrine.names import split_joined
from vitrine.runs import EvaluateFigures, Latency, PhotoRate
from vitrine.settings import Settings

WHOLE = 0.5
"""An embedding run counts where it computed this share of the photos of the version's largest: a night with little to
do says what starting costs."""
BYTES = 4  # of a dimension, float32


@dataclass(frozen=True)
class Point:
    """A cost, with the least and the most of what it is the middle of."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Cost:
    """What is known of what an encoder version costs."""

    seconds: Point | None = None
    """Of a thousand photos, over the runs that count. A head's are its own and its backbone's: photos have to be
    embedded by that first."""
    money: Point | None = None
    """The same, in ``currency``."""
    runs: int = 0
    """Those that count."""
    photos: int = 0
    """Of the largest of them."""
    tuning: Row = field(default_factory=dict)
    """``seconds`` and ``money`` of making it, once."""
    currency: str = ""
    bytes: int | None = None
    """Of a vector."""
    latency: Latency | None = None

    def point(self, kind: str) -> Point | None:
        """One kind of cost: ``seconds``, ``money``, ``bytes`` or ``latency``."""
        if kind == "bytes":
            return Point(self.bytes, self.bytes, self.bytes) if self.bytes else None
        if kind == "latency":
            return Point(self.latency.milliseconds, self.latency.low, self.latency.high) if self.latency else None
        return self.money if kind == "money" else self.seconds


def by_version(settings: Settings, group: Group, known: dict[str, Row]) -> dict[str, Cost]:
    """The costs of each encoder of ``group``; ``known`` is what ``figures.registered`` returns."""
    rates = _rates(settings, group.dataset)
    latencies = _latencies(settings, group.dataset)
    costs = {}
    for entry in group.encoders:
        version, about = entry.encoder_version, entry.about
        own = rates.get(version, Cost())
        bases = split_joined(about["base_version"]) if about["strategy"] in HEADS else []
        parts = [own, *(rates.get(base, Cost()) for base in bases)]
        tuning = known.get(version, {}).get("tuning") or {}
        costs[version] = replace(
            own,
            seconds=_sum([part.seconds for part in parts]),
            money=_sum([part.money for part in parts]),
            tuning=tuning,
            currency=next((part.currency for part in parts if part.runs), tuning.get("currency", "")),
            bytes=BYTES * about["dim"] if about["dim"] else None,
            latency=latencies.get(version),
        )
    return costs


def deciding(costs: Iterable[Cost]) -> str:
    """What encoders are compared by: money where all that have seconds have a price too, else seconds."""
    timed = [cost for cost in costs if cost.seconds]
    return "money" if timed and all(cost.money for cost in timed) else "seconds"


def _rates(settings: Settings, dataset: str) -> dict[str, Cost]:
    """Of every version that embedded: of this data set's runs, else of any."""
    rates: dict[tuple[str, bool], list[PhotoRate]] = {}
    where = f"{matches(verb='embed', state='done')} AND encoder_version IS NOT NULL"
    for run in runs.read(settings, where, newest=5000):
        if run.encoder_version and (rate := run.photo_rate):
            rates.setdefault((run.encoder_version, run.dataset == dataset), []).append(rate)
    return {version: _rate(rates.get((version, True)) or rates[version, False]) for version, _ in rates}


def _rate(each: list[PhotoRate]) -> Cost:
    """Of one encoder version alone."""
    most = max(rate.computed for rate in each)
    whole = [rate for rate in each if rate.computed >= WHOLE * most]
    money = _middle([rate.money for rate in whole]) if all(rate.money for rate in whole) else None
    seconds = _middle([rate.seconds for rate in whole])
    return Cost(seconds, money, len(whole), most, currency=whole[0].currency)


def _middle(values: list[float]) -> Point:
    return Point(median(values), min(values), max(values))


def _sum(parts: list[Point | None]) -> Point | None:
    """The parts together; None where one is missing."""
    known = [part for part in parts if part]
    if len(known) < len(parts):
        return None
    return Point(sum(part.value for part in known), sum(part.low for part in known), sum(part.high for part in known))


def _latencies(settings: Settings, dataset: str) -> dict[str, Latency]:
    """Of each version, the newest that was measured."""
    latencies: dict[str, Latency] = {}
    for run in runs.read(settings, matches(dataset=dataset, verb="evaluate", state="done"), newest=1000):
        if run.encoder_version and (latency := run.read(EvaluateFigures).latency):
            latencies.setdefault(run.encoder_version, latency)
    return latencies
