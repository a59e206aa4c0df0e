"""A night: the runs since a moment, how they ended, and what they came to."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vitrine import facts, runs
from vitrine.lake import matches
from vitrine.runs import Bill, EmbedCounts, IngestCounts, RecordedRun
from vitrine.settings import Settings

COUNTS = ("embedded", "unchanged", "updated", "deleted", "quarantined")
BAD_STATES = ("failed", "refused")
"""The worst first."""


@dataclass(frozen=True)
class Night:
    """The runs that began at ``since`` (UTC) or later, in that order."""

    since: datetime
    runs: list[RecordedRun]

    @property
    def bad(self) -> list[RecordedRun]:
        """The jobs that ended badly."""
        return [run for run in last_of_each(self.runs) if run.state in BAD_STATES]

    @property
    def state(self) -> str:
        return worst(self.bad)

    @property
    def ended_at(self) -> datetime:
        return max(run.ended_at for run in self.runs)


def last_of_each(ran: Iterable[RecordedRun]) -> list[RecordedRun]:
    """The last run of each job: what was run again counts as it ended last."""
    return list({run.job: run for run in ran}.values())


def worst(ran: Iterable[RecordedRun]) -> str:
    """The worst state of these runs; ``done`` where none ended badly."""
    states = {run.state for run in ran}
    return next((state for state in BAD_STATES if state in states), "done")


def newest(settings: Settings, dataset: str) -> Night | None:
    """The runs since the newest ingest of ``dataset``, or without one those of its newest day.

    Runs of no data set of their own (the report, maintenance) are among them. None where nothing ever ran.
    """
    here = f"({matches(dataset=dataset)} OR dataset IS NULL)"
    began = runs.read(settings, matches(verb="ingest", dataset=dataset), newest=1)
    if began:
        since = began[0].started_at
    elif last := runs.read(settings, here, newest=1):
        since = last[0].started_at.replace(hour=0, minute=0, second=0, microsecond=0)
    else:
        return None
    return Night(since, runs.read(settings, f"{here} AND {_began_since(since)}"))


def summary(settings: Settings, since: datetime) -> dict[str, Any]:
    """Everything that began at ``since`` (UTC) or later.

    Returns:
        ``datasets``, a dict each: ``COUNTS`` by encoder, photos in the catalog, gates and how they ended, what serves;
        ``changed``, whether there was more to do than to look; ``failed``, the verbs that did not end well;
        ``seconds`` of all verbs, ``money`` and its ``currency``; ``text``, the same in a few lines.
    """
    ran = runs.read(settings, _began_since(since))
    names = dict.fromkeys(run.dataset for run in ran if run.dataset)
    figures: dict[str, Any] = {
        "since": since.isoformat(),
        "datasets": [_dataset(settings, name, [run for run in ran if run.dataset == name]) for name in names],
        "changed": any(run.verb != "ingest" and run.gate != "catalog" for run in ran),
        "failed": [_called(run) for run in ran if run.state == "failed"],
        "seconds": round(sum(run.seconds for run in ran), 1),
        "money": round(sum(run.read(Bill).money for run in ran if run.verb == "embed"), 4),
        "currency": settings.prices.currency,
    }
    return figures | {"text": _text(figures)}


def _began_since(moment: datetime) -> str:
    return f"started_at >= timestamp '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00:00'"


def _dataset(settings: Settings, name: str, ran: list[RecordedRun]) -> dict[str, Any]:
    done = [run for run in ran if run.state == "done"]
    catalog = next((run.read(IngestCounts) for run in reversed(done) if run.verb == "ingest"), None)
    embedded = {run.encoder: run.read(EmbedCounts) for run in last_of_each(done) if run.verb == "embed"}
    gates = [run for run in last_of_each(ran) if run.verb == "gate"]
    serves = facts.serving(settings, name)
    return {
        "dataset": name,
        "photos": catalog.images if catalog else None,
        "unreadable": catalog.quarantined if catalog else None,
        "encoders": {
            encoder: {count: getattr(counts, count) for count in COUNTS} for encoder, counts in embedded.items()
        },
        "gates": {" ".join(filter(None, [run.gate, run.encoder])): run.state for run in gates},
        "serves": f"{serves['encoder']} ({serves['encoder_version']})" if serves else None,
    }


def _called(run: RecordedRun) -> str:
    return " ".join(filter(None, [run.verb, run.dataset, run.encoder]))


def _text(figures: dict[str, Any]) -> str:
    lines = []
    for one in figures["datasets"]:
        lines.append(f"{one['dataset']}: {one['photos']} photos, {one['unreadable'] or 0} unreadable")
        for encoder, counts in one["encoders"].items():
            lines.append(f"  {encoder}: {', '.join(f'{count} {name}' for name, count in counts.items() if count)}")
        if not one["encoders"]:
            lines.append("  nothing to embed")
        passed, refused = (
            [gate for gate, state in one["gates"].items() if state == wanted] for wanted in ("done", "refused")
        )
        lines.append(f"  gates passed: {', '.join(passed) or 'none asked'}")
        if refused:
            lines.append(f"  gates that refused: {', '.join(refused)}")
        lines.append(f"  serves: {one['serves'] or 'nothing'}")
    if figures["failed"]:
        lines.append(f"failed: {', '.join(figures['failed'])}")
    money = f", {figures['money']} {figures['currency']}" if figures["money"] else ""
    lines.append(f"{figures['seconds']} s of work{money}")
    return "\n".join(lines)
