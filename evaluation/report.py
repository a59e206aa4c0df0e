"""One self-contained HTML page for whoever decides what serves: figures, costs, photos, quarantine, gates.

Nothing in it loads from anywhere, and its content security policy says so to the browser too. Everything that
comes out of the tables is hostile text: Jinja2 escapes it, ``shown`` spells out what does not print.
"""

import json
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jinja2

from evaluation import report_charts, report_photos
from evaluation.shown_text import shown
from vitrine import files, lake
from vitrine.errors import unknown
from vitrine.lake import quote
from vitrine.settings import Settings

METRICS = ("mMP@5", "mR@1", "R@10", "MAP@100", "MRR", "NDCG@100")
HEADLINE = METRICS[0]
MOST_DATASETS_WITH_GALLERIES = 3
MOST_ENCODERS = 12
MOST_RUNS = 40
MOST_QUARANTINED = 50
BAD_STATES = ("failed", "refused")
SIDES = {"all": "values", "shuffled_labels": "chance", "without_duplicates": "unlike"}

Row = dict[str, Any]


def write_report(settings: Settings, datasets: list[str] | None = None) -> Path:
    """Write ``<home>/reports/report.html`` about ``datasets`` (default: all) and return its path.

    A reader sees the old page or the new one, never a part of one.

    Raises:
        UserError: a data set that no table knows.
    """
    known = _known(settings)
    for name in datasets or []:
        if name not in known:
            raise unknown("data set", name, known)
    served_first = sorted(known, key=lambda name: lake.serving(settings, name) is None)
    chapters = []
    for at, name in enumerate(dict.fromkeys(datasets or served_first)):
        chapters.append(_chapter(settings, name, pictures=at < MOST_DATASETS_WITH_GALLERIES))
    page = _render(settings, chapters)
    path = settings.reports / "report.html"
    files.write_text(path, page)
    return path


def _known(settings: Settings) -> list[str]:
    tables = ("catalog", "promotions", "quarantine", "metrics")
    union = " UNION ".join(f"SELECT dataset FROM {table}" for table in tables)
    return [row["dataset"] for row in lake.rows(settings, f"{union} ORDER BY dataset")]


def _render(settings: Settings, chapters: list[Row]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"shown": shown, "moment": _moment, "figure": _figure, "seconds": _seconds}
    charts = [chart for chapter in chapters for chart in chapter["charts"].values()]
    return environment.get_template("report.html.j2").render(
        made_at=lake.now(),
        chapters=chapters,
        tiles=_tiles(chapters),
        charts=charts,
        plotly=report_charts.library() if charts else "",
        nonce=secrets.token_urlsafe(16),
        metrics=METRICS,
        headline=HEADLINE,
        neighbours=report_photos.NEIGHBOURS,
        data_docs=(settings.reports / "data_docs" / "index.html").is_file(),
    )


def _tiles(chapters: list[Row]) -> Row:
    """The headline: totals over the data sets."""
    nights = [chapter["night"] for chapter in chapters if chapter["night"]]
    bad = {row["run_id"]: row for night in nights for row in night["bad"]}
    runs = {row["run_id"]: row["seconds"] for night in nights for row in night["rows"]}
    return {
        "photos": sum(chapter["photos"] for chapter in chapters),
        "products": sum(chapter["products"] for chapter in chapters),
        "encoders": len({e["encoder"] for chapter in chapters for e in chapter["embedded"]}),
        "serving": sorted({c["serving"]["encoder"] for c in chapters if c["serving"]}),
        "served": sum(1 for chapter in chapters if chapter["serving"]),
        "night": max((night["ended"] for night in nights), default=None),
        "night_seconds": sum(runs.values()),
        "night_state": _worst(list(bad.values())),
        "bad": list(bad.values()),
    }


# ---- text ----


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _figure(value: object) -> str:
    """A figure of a gate or a run, as short as it can be told."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return shown(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


# ---- one data set ----


def _chapter(settings: Settings, dataset: str, pictures: bool) -> Row:
    """All that the page says about one data set."""
    here = f"dataset = {quote(dataset)}"
    count = "count(*) AS photos, count(DISTINCT product_id) AS products"
    serving = _serving(settings, dataset)
    groups = _metrics(settings, here, serving)
    night = _night(settings, here)
    costs = _embedding_costs(settings, here)
    main = groups[0] if groups else None
    charts = {
        "metrics": report_charts.metrics(main, METRICS) if main else None,
        "night": report_charts.night(night["rows"]) if night else None,
        "costs": report_charts.costs(main, costs, HEADLINE) if main else None,
    }
    if serving and main:
        serving["scores"] = next((e for e in main["encoders"] if e["serves"]), None)
    return {
        "name": dataset,
        **lake.rows(settings, f"SELECT {count} FROM catalog WHERE {here}")[0],
        "embedded": lake.rows(
            settings,
            "SELECT encoder, encoder_version, count(*) AS photos FROM embeddings "
            f"WHERE {here} GROUP BY encoder, encoder_version ORDER BY encoder, encoder_version",
        ),
        "serving": serving,
        "groups": groups,
        "pictures": pictures,
        "night": night,
        "runs": _runs(settings, here),
        "galleries": report_photos.galleries(settings, here, main) if main and pictures else [],
        "quarantine": _quarantine(settings, here),
        "gates": _gates(settings, here),
        "charts": {name: {"id": f"chart-{name}-{dataset}", **chart} for name, chart in charts.items() if chart},
    }


def _serving(settings: Settings, dataset: str) -> Row | None:
    row = lake.serving(settings, dataset)
    if row is None:
        return None
    version = quote(row["encoder_version"])
    about = lake.rows(settings, f"SELECT * FROM encoders WHERE encoder_version = {version} LIMIT 1")
    return {**row, "about": about[0] if about else None, "scores": None}


def _metrics(settings: Settings, here: str, serving: Row | None) -> list[Row]:
    """The current figures, one group a protocol (queries -> index, what counts as relevant), the main one first.

    Each group has ``encoders``, best first: the newest version of each encoder and the version that serves, each
    with ``values``, their ``intervals``, ``chance`` (shuffled labels) and ``unlike`` (without exact duplicates of the
    query) by metric, all from the version's newest catalog version.
    """
    key = "encoder_version, query_split, index_split, relevant, slice, seed, metric"
    newest = f"row_number() OVER (PARTITION BY {key} ORDER BY computed_at DESC, run_id) AS nth"
    names, slices = ", ".join(map(quote, METRICS)), ", ".join(map(quote, SIDES))
    where = f"{here} AND classifier = '' AND metric IN ({names}) AND slice IN ({slices})"
    found = lake.rows(
        settings,
        f"SELECT * FROM (SELECT *, {newest} FROM metrics WHERE {where}) AS m WHERE nth = 1 "
        f"ORDER BY computed_at DESC, {key} LIMIT 20000",
    )
    groups: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in found:  # newest first
        group = groups.setdefault((row["query_split"], row["index_split"], row["relevant"]), {})
        entry = group.setdefault(row["encoder_version"], row | {side: {} for side in ("intervals", *SIDES.values())})
        if row["catalog_version"] == entry["catalog_version"]:
            side = SIDES[row["slice"]]
            entry[side].setdefault(row["metric"], row["value"])
            if side == "values":
                entry |= {name: row[name] for name in ("queries", "queries_left_out", "index_size")}
                if row.get("low") is not None:  # a table that an earlier version made may lack the column
                    entry["intervals"].setdefault(row["metric"], (row["low"], row["high"]))
    serves = serving["encoder_version"] if serving else None
    result = [_group(protocol, list(entries.values()), serves) for protocol, entries in groups.items()]
    result = [group for group in result if group["encoders"]]
    return sorted(result, key=lambda g: (g["relevant"] != "product_id", -g["newest"].timestamp()))


def _group(protocol: tuple[str, ...], entries: list[Row], serves: str | None) -> Row:
    kept: list[Row] = []
    for entry in entries:  # newest first
        entry["serves"] = entry["encoder_version"] == serves
        first = all(entry["encoder"] != other["encoder"] for other in kept)
        if entry["values"] and (first or entry["serves"]):
            kept.append(entry)
    current = kept[0]["catalog_version"] if kept else None
    for entry in kept:
        entry["older_catalog"] = entry["catalog_version"] != current
    ranked = sorted(kept, key=lambda e: (-e["values"].get(HEADLINE, -1.0), e["encoder"], e["encoder_version"]))
    ranked = [e for at, e in enumerate(ranked) if e["serves"] or at < MOST_ENCODERS]
    chances = {m: [e["chance"][m] for e in ranked if m in e["chance"]] for m in METRICS}
    return {
        **dict(zip(("query_split", "index_split", "relevant"), protocol, strict=True)),
        "encoders": ranked,
        "left_off": len(kept) - len(ranked),
        "best": {m: max((e["values"].get(m, 0.0) for e in ranked), default=0.0) for m in METRICS},
        "chance": {m: sum(c) / len(c) for m, c in chances.items() if c},
        "newest": max((e["computed_at"] for e in kept), default=datetime.min.replace(tzinfo=UTC)),
    }


# ---- what ran, and what it cost ----


def _with_figures(row: Row) -> Row:
    figures = lake.figures(row["figures"])
    names = ("images", "embedded", "queries", "upserted", "rows", "written")
    done = next((figures[n] for n in names if isinstance(figures.get(n), int | float)), 0)
    rate = figures.get("images_per_second") or (done / row["seconds"] if row["seconds"] > 0 else 0)
    told = {
        name.replace("_", " "): value
        for name, value in figures.items()
        if isinstance(value, int | float) and name not in ("seconds", "images_per_second", "success")
    }
    return {**row, "figures": figures, "rate": rate or None, "told": dict(list(told.items())[:6])}


def _runs(settings: Settings, here: str) -> list[Row]:
    found = lake.rows(
        settings,
        f"SELECT * FROM runs WHERE {here} OR dataset IS NULL ORDER BY started_at DESC, run_id LIMIT {MOST_RUNS}",
    )
    return [_with_figures(row) for row in found]


def _night(settings: Settings, here: str) -> Row | None:
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
    return {"since": since, "ended": ended, "state": _worst(bad), "bad": bad, "rows": rows}


def _worst(bad: list[Row]) -> str:
    return next((state for state in BAD_STATES if any(r["state"] == state for r in bad)), "done")


def _timestamp(value: datetime) -> str:
    return f"to_timestamp_micros({int((value - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))})"


def _embedding_costs(settings: Settings, here: str) -> dict[str, float]:
    """Seconds per 1,000 photos by encoder, from its longest embedding run: nights with little to do say little."""
    longest = "row_number() OVER (PARTITION BY encoder ORDER BY seconds DESC, run_id) AS nth"
    where = f"({here} OR dataset IS NULL) AND verb = 'embed' AND state = 'done' AND encoder IS NOT NULL"
    found = lake.rows(
        settings, f"SELECT * FROM (SELECT *, {longest} FROM runs WHERE {where}) AS r WHERE nth = 1 LIMIT 100"
    )
    rated = [_with_figures(row) for row in found]
    return {row["encoder"]: 1000 / row["rate"] for row in rated if row["rate"]}


def _quarantine(settings: Settings, here: str) -> Row:
    counts = "SELECT code, count(DISTINCT image_id) AS photos FROM quarantine"
    newest = f"SELECT * FROM quarantine WHERE {here} ORDER BY last_seen DESC, image_id, stage, encoder"
    by_reason = lake.rows(settings, f"{counts} WHERE {here} GROUP BY code ORDER BY photos DESC, code LIMIT 30")
    totals = "SELECT count(*) AS total, count(DISTINCT image_id) AS photos FROM quarantine"
    return {
        "counts": by_reason,
        "rows": lake.rows(settings, f"{newest} LIMIT {MOST_QUARANTINED}"),
        **lake.rows(settings, f"{totals} WHERE {here}")[0],
    }


def _gates(settings: Settings, here: str) -> list[Row]:
    """The newest run of each gate and encoder."""
    found = lake.rows(
        settings,
        f"SELECT * FROM runs WHERE {here} AND verb = 'gate' ORDER BY started_at DESC, run_id LIMIT 200",
    )
    newest: dict[tuple[object, object], Row] = {}
    for row in map(_with_figures, found):
        newest.setdefault((row["figures"].get("gate"), row["encoder"]), row)
    return list(newest.values())[: 3 * MOST_ENCODERS]
