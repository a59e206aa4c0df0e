"""What ran, for the report: the newest night, runs, gates, what serves, and the quarantine."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from vitrine import facts, lake
from vitrine.settings import Settings

MOST_RUNS = 40
MOST_QUARANTINED = 50
MOST_GATES = 36
BAD_STATES = ("failed", "refused")

Row = dict[str, Any]


def serving(settings: Settings, dataset: str, known: dict[str, Row]) -> Row | None:
    """The newest promotion, with ``about``: the row of ``encoders``; and ``forced_over``: what its gates had said."""
    row = facts.serving(settings, dataset)
    if row is None:
        return None
    gates = json.loads(row["gates"] or "{}")
    return {**row, "about": known.get(row["encoder_version"]), "forced_over": gates if row["forced"] else {}}


def _with_figures(row: Row) -> Row:
    figures = json.loads(row["figures"] or "{}")
    names = ("images", "embedded", "queries", "upserted", "rows", "written")
    done = next((figures[n] for n in names if isinstance(figures.get(n), int | float)), 0)
    rate = figures.get("images_per_second") or (done / row["seconds"] if row["seconds"] > 0 else 0)
    told = {
        name.replace("_", " "): value
        for name, value in figures.items()
        if isinstance(value, int | float) and name not in ("seconds", "images_per_second", "success")
    }
    return {**row, "figures": figures, "rate": rate or None, "told": dict(list(told.items())[:6])}


def runs(settings: Settings, here: str) -> list[Row]:
    """The newest runs, newest first."""
    found = lake.rows(
        settings,
        f"SELECT * FROM runs WHERE {here} OR dataset IS NULL ORDER BY started_at DESC, run_id LIMIT {MOST_RUNS}",
    )
    return [_with_figures(row) for row in found]


def night(settings: Settings, here: str) -> Row | None:
    """The runs since the newest ingest (without one: of the newest day), in order, and how they ended.

    A step that was run again counts as it ended last.
    """
    scope = f"({here} OR dataset IS NULL)"
    bounds = lake.rows(
        settings,
        "SELECT max(CASE WHEN verb = 'ingest' THEN started_at END) AS ingest, max(started_at) AS newest "
        f"FROM runs WHERE {scope}",
    )[0]
    if bounds["newest"] is None:
        return None
    since = bounds["ingest"] or bounds["newest"].replace(hour=0, minute=0, second=0, microsecond=0)
    found = lake.rows(
        settings,
        f"SELECT * FROM runs WHERE {scope} AND started_at >= {_timestamp(since)} "
        "ORDER BY started_at, run_id LIMIT 1000",
    )
    rows = [_with_figures(row) for row in found]
    last = {(r["verb"], r["dataset"], r["encoder"], r["figures"].get("gate")): r for r in rows}
    bad = [r for r in last.values() if r["state"] in BAD_STATES]
    ended = max(r["started_at"] + timedelta(seconds=r["seconds"]) for r in rows)
    return {"since": since, "ended": ended, "state": worst(bad), "bad": bad, "rows": rows}


def worst(bad: list[Row]) -> str:
    """The state of what ended in these."""
    return next((state for state in BAD_STATES if any(r["state"] == state for r in bad)), "done")


def _timestamp(value: datetime) -> str:
    return f"to_timestamp_micros({int((value - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))})"


def quarantine(settings: Settings, here: str) -> Row:
    """``rows``, last seen first; ``counts`` by reason; how many there are in all."""
    counts = "SELECT code, count(DISTINCT image_id) AS photos FROM quarantine"
    newest = f"SELECT * FROM quarantine WHERE {here} ORDER BY last_seen DESC, image_id, stage, encoder"
    by_reason = lake.rows(settings, f"{counts} WHERE {here} GROUP BY code ORDER BY photos DESC, code LIMIT 30")
    totals = "SELECT count(*) AS total, count(DISTINCT image_id) AS photos FROM quarantine"
    return {
        "counts": by_reason,
        "rows": lake.rows(settings, f"{newest} LIMIT {MOST_QUARANTINED}"),
        **lake.rows(settings, f"{totals} WHERE {here}")[0],
    }


def gates(settings: Settings, here: str) -> list[Row]:
    """The newest run of each gate and encoder, with its ``checks``: ``expectation``, ``success``, ``figures``."""
    found = lake.rows(
        settings,
        f"SELECT * FROM runs WHERE {here} AND verb = 'gate' ORDER BY started_at DESC, run_id LIMIT 200",
    )
    newest: dict[tuple[object, object], Row] = {}
    for row in map(_with_figures, found):
        newest.setdefault((row["figures"].get("gate"), row["encoder"]), row)
    return [row | {"checks": _checks(row["figures"])} for row in list(newest.values())[:MOST_GATES]]


def _checks(figures: Row) -> list[Row]:
    """All that was asked; of a run that kept its failures alone, those."""
    if figures.get("checks"):
        return list(figures["checks"])
    return [{"success": False, "figures": {}, **failed} for failed in figures.get("failed", [])]
