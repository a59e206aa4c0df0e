"""The report's figures: what ``metrics`` says of a data set now, encoder by encoder, protocol by protocol."""

import json
from datetime import UTC, datetime
from typing import Any

from evaluation.retrieval.slices import MACRO_CATEGORY, MACRO_PRODUCT, SHUFFLED, WITHOUT_DUPLICATES, category_slice
from vitrine import lake
from vitrine.lake import quote
from vitrine.settings import Settings

METRICS = ("mMP@5", "mR@1", "R@10", "MAP@100", "MRR", "NDCG@100")
HEADLINE = METRICS[0]
ALL = "all"
SLICES = (ALL, MACRO_PRODUCT, MACRO_CATEGORY, WITHOUT_DUPLICATES, SHUFFLED)
MOST_ENCODERS = 16
PROTOCOL = ("query_split", "index_split", "relevant")
UNKNOWN = {"family": "", "strategy": "", "base_version": None, "source_dataset": None, "dim": None, "backbone": ""}

Row = dict[str, Any]


def registered(settings: Settings) -> dict[str, Row]:
    """The rows of ``encoders`` by version; ``tuning``: what making it cost, where it was tuned."""
    found = lake.rows(settings, "SELECT * FROM encoders")
    return {row["encoder_version"]: row | {"tuning": json.loads(row["cost"] or "{}")} for row in found}


def groups(settings: Settings, here: str, served: str | None, known: dict[str, Row]) -> list[Row]:
    """The current figures, one group a protocol (queries -> index, what counts as relevant), the main one first.

    Each group has ``encoders``, best first: the newest version of each encoder, the version that serves, and the
    backbones of tuned ones. Each has ``values`` and ``intervals`` by metric, ``slices``: slice to metric to
    ``value``, ``low``, ``high``, ``queries``; ``number``, by which charts and tables name it, and ``about`` it. All
    are from the version's newest catalog version.
    """
    key = "encoder_version, query_split, index_split, relevant, slice, seed, metric"
    newest = f"row_number() OVER (PARTITION BY {key} ORDER BY computed_at DESC, run_id) AS nth"
    names, slices = ", ".join(map(quote, METRICS)), ", ".join(map(quote, SLICES))
    where = f"{here} AND classifier = '' AND metric IN ({names}) AND slice IN ({slices})"
    found = lake.rows(
        settings,
        f"SELECT * FROM (SELECT *, {newest} FROM metrics WHERE {where}) AS m WHERE nth = 1 "
        f"ORDER BY computed_at DESC, {key} LIMIT 20000",
    )
    entries: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in found:  # newest first
        of_version = entries.setdefault(tuple(row[name] for name in PROTOCOL), {})
        entry = of_version.setdefault(row["encoder_version"], row | {"slices": {}})
        if row["catalog_version"] == entry["catalog_version"]:
            figures = {name: row.get(name) for name in ("value", "low", "high", "queries")}  # old tables lack some
            entry["slices"].setdefault(row["slice"], {}).setdefault(row["metric"], figures)
            if row["slice"] == ALL:
                entry |= {name: row[name] for name in ("queries", "queries_left_out", "index_size")}
    result = [_group(protocol, list(each.values()), served, known) for protocol, each in entries.items()]
    result = [group for group in result if group["encoders"]]
    return sorted(result, key=lambda group: (group["relevant"] != "product_id", -group["newest"].timestamp()))


def _group(protocol: tuple[str, ...], entries: list[Row], served: str | None, known: dict[str, Row]) -> Row:
    kept = _kept([_entry(entry, served, known) for entry in entries if ALL in entry["slices"]])
    current = kept[0]["catalog_version"] if kept else None
    for entry in kept:
        entry["older_catalog"] = entry["catalog_version"] != current
        twins = sum(other["encoder"] == entry["encoder"] for other in kept) > 1
        entry["label"] = entry["encoder"] + (f" {entry['encoder_version'][:8]}" if twins else "")
    ranked = sorted(kept, key=lambda e: (-e["values"].get(HEADLINE, -1.0), e["encoder"], e["encoder_version"]))
    ranked = [e for at, e in enumerate(ranked) if e["serves"] or at < MOST_ENCODERS]
    for number, entry in enumerate(ranked, 1):
        entry["number"] = number
    chances = {
        m: [e["slices"][SHUFFLED][m]["value"] for e in ranked if m in e["slices"].get(SHUFFLED, {})] for m in METRICS
    }
    return {
        **dict(zip(PROTOCOL, protocol, strict=True)),
        "catalog_version": current,
        "encoders": ranked,
        "left_off": len(kept) - len(ranked),
        "best": {m: max((e["values"].get(m, 0.0) for e in ranked), default=0.0) for m in METRICS},
        "chance": {m: sum(c) / len(c) for m, c in chances.items() if c},
        "newest": max((e["computed_at"] for e in kept), default=datetime.min.replace(tzinfo=UTC)),
    }


def _entry(entry: Row, served: str | None, known: dict[str, Row]) -> Row:
    figures = entry["slices"][ALL]
    bounds = {metric: (one["low"], one["high"]) for metric, one in figures.items() if one["low"] is not None}
    return entry | {
        "serves": entry["encoder_version"] == served,
        "values": {metric: one["value"] for metric, one in figures.items()},
        "intervals": bounds,
        "about": known.get(entry["encoder_version"], UNKNOWN),
    }


def _kept(entries: list[Row]) -> list[Row]:
    """Of ``entries``, newest first: the newest of each encoder, what serves, and the backbones of those."""
    names: set[str] = set()
    chosen = []
    for entry in entries:
        if entry["serves"] or entry["encoder"] not in names:
            chosen.append(entry)
        names.add(entry["encoder"])
    bases = {entry["about"]["base_version"] for entry in chosen}
    return [entry for entry in entries if entry in chosen or entry["encoder_version"] in bases]


def leader(group: Row) -> Row:
    """What serves, else the best: the encoder that the page looks at closely."""
    return next((entry for entry in group["encoders"] if entry["serves"]), group["encoders"][0])


def other_than(group: Row, entry: Row) -> Row | None:
    """The best of the others, on the same catalog."""
    same = [e for e in group["encoders"] if e is not entry and e["catalog_version"] == entry["catalog_version"]]
    return same[0] if same else None


def by_category(settings: Settings, here: str, group: Row, most: int) -> Row | None:
    """The ``most`` worst and best categories by the encoder that the page looks at; None where there are not two.

    Each row has ``category``, ``queries``, the encoder's ``own`` figure and, over all encoders of the same catalog,
    the ``best`` and ``worst``: ``value``, ``low``, ``high``, ``entry``.
    """
    chosen = leader(group)
    entries = {e["encoder_version"]: e for e in group["encoders"] if e["catalog_version"] == chosen["catalog_version"]}
    keys = {name: group[name] for name in PROTOCOL} | {"catalog_version": chosen["catalog_version"]}
    where = " AND ".join([here, *(f"{name} = {quote(value)}" for name, value in keys.items())])
    found = lake.rows(
        settings,
        f"SELECT * FROM metrics WHERE {where} AND classifier = '' AND metric = {quote(HEADLINE)} "
        f"AND slice LIKE 'category=%' AND encoder_version IN ({', '.join(map(quote, entries))})",
    )
    figures: dict[str, list[Row]] = {}
    for row in found:
        one = {name: row.get(name) for name in ("value", "low", "high", "queries")}
        one |= {"entry": entries[row["encoder_version"]]}
        figures.setdefault(row["slice"].removeprefix(category_slice("")), []).append(one)
    rows: list[Row] = []
    for category, each in figures.items():
        own = [one for one in each if one["entry"] is chosen]
        if own:
            ranked = sorted(each, key=lambda one: (-one["value"], one["entry"]["number"]))
            rows.append({"category": category, "own": own[0], "best": ranked[0], "worst": ranked[-1]})
    if len(rows) < 2:
        return None
    rows.sort(key=lambda row: (row["own"]["value"], -row["own"]["queries"], row["category"]))
    shown = rows if len(rows) <= 2 * most else [*rows[:most], *rows[-most:]]
    return {"encoder": chosen, "rows": shown, "total": len(rows), "several": len(entries) > 1}
