"""What each encoder version costs: seconds and money a thousand photos, tuning, bytes a vector, time of a query."""

import json
from statistics import median
from typing import Any

from vitrine import lake
from vitrine.lake import quote
from vitrine.settings import Settings

WHOLE = 0.5
"""An embedding run counts where it computed this share of the photos of the version's largest: a night with little to
do says what starting costs."""
BYTES = 4  # of a dimension, float32

Row = dict[str, Any]


def costs(settings: Settings, here: str, group: Row, known: dict[str, Row]) -> dict[str, Row]:
    """By encoder version, for each encoder of ``group``, what is known of it.

    - ``seconds``, ``money``: a thousand photos, each None or ``value`` (the median of the runs that count), ``low``,
      ``high`` (their least and most); with ``runs``, and ``photos`` of the largest. A head's are its own and its
      backbone's: photos have to be embedded by that first.
    - ``tuning``: ``seconds`` and ``money`` of making it, once.
    - ``bytes`` a vector; ``latency``: as ``evaluation.retrieval.search_latency`` found it.
    - ``currency``.
    """
    rates = _rates(settings, here)
    latencies = _latencies(settings, here)
    result = {}
    for entry in group["encoders"]:
        version, about = entry["encoder_version"], entry["about"]
        parts = [rates.get(version)]
        if about["strategy"] == "top":
            parts.append(rates.get(about["base_version"]))
        tuning = known.get(version, {}).get("tuning") or {}
        result[version] = {
            "seconds": _sum(parts, "seconds"),
            "money": _sum(parts, "money"),
            "runs": parts[0]["runs"] if parts[0] else 0,
            "photos": parts[0]["photos"] if parts[0] else 0,
            "with_base": len(parts) > 1,
            "tuning": tuning,
            "currency": next((part["currency"] for part in parts if part), tuning.get("currency", "")),
            "bytes": BYTES * about["dim"] if about["dim"] else None,
            "latency": latencies.get(version),
        }
    return result


def deciding(found: dict[str, Row]) -> str:
    """What encoders are compared by: money where all that have seconds have a price too, else seconds."""
    timed = [cost for cost in found.values() if cost["seconds"]]
    return "money" if timed and all(cost["money"] for cost in timed) else "seconds"


def _rates(settings: Settings, here: str) -> dict[str, Row]:
    """Of every version that embedded: of this data set's runs, else of any."""
    found = lake.rows(
        settings,
        f"SELECT *, coalesce({here}, false) AS own FROM runs WHERE verb = 'embed' AND state = 'done' "
        "AND encoder_version IS NOT NULL ORDER BY started_at DESC, run_id LIMIT 5000",
    )
    runs: dict[tuple[str, bool], list[Row]] = {}
    for row in found:
        figures = json.loads(row["figures"] or "{}")
        if figures.get("computed"):
            runs.setdefault((row["encoder_version"], row["own"]), []).append(figures | {"seconds": row["seconds"]})
    return {version: _rate(runs.get((version, True)) or runs[(version, False)]) for version, _ in runs}


def _rate(runs: list[Row]) -> Row:
    most = max(run["computed"] for run in runs)
    whole = [run for run in runs if run["computed"] >= WHOLE * most]
    money = [1000 * run["money"] / run["computed"] for run in whole if run.get("money")]
    return {
        "seconds": _spread([1000 * run["seconds"] / run["computed"] for run in whole]),
        "money": _spread(money) if len(money) == len(whole) else None,
        "runs": len(whole),
        "photos": most,
        "currency": whole[0].get("currency", ""),
    }


def _spread(values: list[float]) -> Row:
    return {"value": median(values), "low": min(values), "high": max(values)}


def _sum(parts: list[Row | None], name: str) -> Row | None:
    """The parts' figures together; None where one is missing."""
    known = [part[name] for part in parts if part and part[name]]
    if len(known) < len(parts):
        return None
    return {key: sum(part[key] for part in known) for key in ("value", "low", "high")}


def _latencies(settings: Settings, here: str) -> dict[str, Row]:
    """Of each version, the newest that was measured."""
    found = lake.rows(
        settings,
        f"SELECT encoder_version, figures FROM runs WHERE {here} AND verb = 'evaluate' AND state = 'done' "
        f"AND figures LIKE {quote('%' + chr(34) + 'latency' + chr(34) + '%')} ORDER BY started_at DESC LIMIT 1000",
    )
    result: dict[str, Row] = {}
    for row in found:
        if latency := json.loads(row["figures"] or "{}").get("latency"):
            result.setdefault(row["encoder_version"], latency)
    return result
