"""What happened to a data set, for the report: what serves, the newest runs and gates, the quarantine."""

import json
from typing import Any

from vitrine import facts, lake, runs
from vitrine.lake import matches
from vitrine.runs import GateFigures, RecordedRun
from vitrine.settings import Settings

MOST_RUNS = 40
MOST_QUARANTINED = 50
MOST_GATES = 36
MOST_COUNTS = 6

Row = dict[str, Any]


def serving(settings: Settings, dataset: str, known: dict[str, Row]) -> Row | None:
    """The newest promotion, with ``about``: the row of ``encoders``; and ``forced_over``: what its gates had said."""
    row = facts.serving(settings, dataset)
    if row is None:
        return None
    gates = json.loads(row["gates"] or "{}")
    return {**row, "about": known.get(row["encoder_version"]), "forced_over": gates if row["forced"] else {}}


def newest_runs(settings: Settings, dataset: str) -> list[RecordedRun]:
    """Those of ``dataset`` and of no data set, newest first."""
    return runs.read(settings, f"{matches(dataset=dataset)} OR dataset IS NULL", newest=MOST_RUNS)


def counts(run: RecordedRun) -> Row:
    """The first numbers that a run left in its figures, by name: what it did."""
    numbers = {
        name.replace("_", " "): value
        for name, value in run.figures.items()
        if isinstance(value, int | float) and name not in ("seconds", "images_per_second", "success")
    }
    return dict(list(numbers.items())[:MOST_COUNTS])


def newest_gates(settings: Settings, dataset: str) -> list[tuple[RecordedRun, GateFigures]]:
    """The newest run of each gate and encoder, and what it said."""
    newest: dict[tuple[str, str | None], RecordedRun] = {}
    for run in runs.read(settings, matches(verb="gate", dataset=dataset), newest=200):
        newest.setdefault((run.gate, run.encoder), run)
    return [(run, run.read(GateFigures)) for run in list(newest.values())[:MOST_GATES]]


def quarantine(settings: Settings, dataset: str) -> Row:
    """``rows``, last seen first; ``counts`` by reason; how many there are in all."""
    here = matches(dataset=dataset)
    by_reason = (
        f"SELECT code, count(DISTINCT image_id) AS photos FROM quarantine WHERE {here} "
        "GROUP BY code ORDER BY photos DESC, code LIMIT 30"
    )
    last_seen = (
        f"SELECT * FROM quarantine WHERE {here} ORDER BY last_seen DESC, image_id, stage, encoder "
        f"LIMIT {MOST_QUARANTINED}"
    )
    totals = f"SELECT count(*) AS total, count(DISTINCT image_id) AS photos FROM quarantine WHERE {here}"
    return {
        "counts": lake.rows(settings, by_reason),
        "rows": lake.rows(settings, last_seen),
        **lake.rows(settings, totals)[0],
    }
