"""What a night came to, from the rows that its verbs left in ``runs``."""

import json
from datetime import datetime
from typing import Any

from vitrine import facts, lake
from vitrine.settings import Settings

COUNTS = ("embedded", "unchanged", "updated", "deleted", "quarantined")


def summary(settings: Settings, since: datetime) -> dict[str, Any]:
    """Everything that began at ``since`` (UTC) or later.

    Returns:
        ``datasets``, a dict each: ``COUNTS`` by encoder, photos in the catalog, gates and how they ended, what serves;
        ``changed``, whether there was more to do than to look; ``failed``, the verbs that did not end well;
        ``seconds`` of all verbs, ``money`` and its ``currency``; ``text``, the same in a few lines.
    """
    when = f"timestamp '{since:%Y-%m-%d %H:%M:%S.%f}+00:00'"
    runs = lake.rows(settings, f"SELECT * FROM runs WHERE started_at >= {when} ORDER BY started_at")
    for run in runs:
        run["figures"] = json.loads(run["figures"] or "{}")
    names = dict.fromkeys(run["dataset"] for run in runs if run["dataset"])
    found: dict[str, Any] = {
        "since": since.isoformat(),
        "datasets": [_dataset(settings, name, [run for run in runs if run["dataset"] == name]) for name in names],
        "changed": any(run["verb"] != "ingest" and run["figures"].get("gate") != "catalog" for run in runs),
        "failed": [_called(run) for run in runs if run["state"] == "failed"],
        "seconds": round(sum(run["seconds"] for run in runs), 1),
        "money": round(sum(run["figures"].get("money", 0.0) for run in runs), 4),
        "currency": settings.prices.currency,
    }
    return found | {"text": _text(found)}


def _dataset(settings: Settings, name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """A retried verb counts as its last run: what an earlier one did stands in the tables already."""
    ingest: dict[str, Any] = next((run["figures"] for run in reversed(runs) if run["verb"] == "ingest"), {})
    embeds = {run["encoder"]: run["figures"] for run in runs if run["verb"] == "embed" and run["state"] == "done"}
    gates = {(run["encoder"], run["figures"].get("gate")): run["state"] for run in runs if run["verb"] == "gate"}
    serves = facts.serving(settings, name)
    return {
        "dataset": name,
        "photos": ingest.get("images"),
        "unreadable": ingest.get("quarantined"),
        "encoders": {
            encoder: {count: figures.get(count, 0) for count in COUNTS} for encoder, figures in embeds.items()
        },
        "gates": {" ".join(filter(None, [gate, encoder])): state for (encoder, gate), state in gates.items()},
        "serves": f"{serves['encoder']} ({serves['encoder_version']})" if serves else None,
    }


def _called(run: dict[str, Any]) -> str:
    return " ".join(filter(None, [run["verb"], run["dataset"], run["encoder"]]))


def _text(found: dict[str, Any]) -> str:
    lines = []
    for one in found["datasets"]:
        lines.append(f"{one['dataset']}: {one['photos']} photos, {one['unreadable'] or 0} unreadable")
        for encoder, counts in one["encoders"].items():
            lines.append(f"  {encoder}: {', '.join(f'{count} {name}' for name, count in counts.items() if count)}")
        if not one["encoders"]:
            lines.append("  nothing to embed")
        ended = {state: [gate for gate, said in one["gates"].items() if said == state] for state in ("done", "refused")}
        lines.append(f"  gates passed: {', '.join(ended['done']) or 'none asked'}")
        if ended["refused"]:
            lines.append(f"  gates that refused: {', '.join(ended['refused'])}")
        lines.append(f"  serves: {one['serves'] or 'nothing'}")
    if found["failed"]:
        lines.append(f"failed: {', '.join(found['failed'])}")
    money = f", {found['money']} {found['currency']}" if found["money"] else ""
    lines.append(f"{found['seconds']} s of work{money}")
    return "\n".join(lines)
