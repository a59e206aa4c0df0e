"""One self-contained HTML page for whoever decides what serves: what to use, figures, costs, photos, gates, quarantine.

Nothing in it loads from anywhere, and its content security policy says so to the browser too. Everything that
comes out of the tables is hostile text: Jinja2 escapes it, ``shown`` spells out what does not print.
"""

import secrets
from pathlib import Path
from typing import Any

import jinja2

from evaluation.pages import style as look
from evaluation.pages import text
from evaluation.report import charts as report_charts
from evaluation.report import classifiers, figures, paired, photos
from evaluation.report import costs as report_costs
from evaluation.report import runs as report_runs
from evaluation.report.advice import advice
from evaluation.report.figures import HEADLINE, METRICS
from vitrine import facts, files, lake
from vitrine.errors import unknown
from vitrine.lake import quote
from vitrine.settings import Settings

MOST_DATASETS_WITH_GALLERIES = 3
MOST_CATEGORIES = 8  # worst ones, and as many of the best
PARTS = Path(__file__).parent / "templates"
COSTS = ("seconds", "money", "bytes", "latency")

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
    photos.forget()
    served_first = sorted(known, key=lambda name: facts.serving(settings, name) is None)
    encoders = figures.registered(settings)
    chapters = []
    for at, name in enumerate(dict.fromkeys(datasets or served_first)):
        chapters.append(_chapter(settings, name, encoders, pictures=at < MOST_DATASETS_WITH_GALLERIES))
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
        loader=jinja2.FileSystemLoader([Path(__file__).parent, PARTS]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {**text.FILTERS, "family": report_charts.family}
    environment.globals |= {"ends": text.ends}
    charts = [chart for chapter in chapters for chart in chapter["charts"].values()]
    drawn = [{name: chart[name] for name in ("id", "data", "layout")} for chart in charts]
    return environment.get_template("report.html.j2").render(
        made_at=lake.now(),
        chapters=chapters,
        tiles=_tiles(chapters),
        charts=drawn,
        crosses=paired.cross_matrices({chapter["name"]: chapter["gains"] for chapter in chapters}),
        plotly=report_charts.library() if charts else "",
        style=look.style(PARTS / "style.css"),
        script=(PARTS / "script.js").read_text(encoding="utf-8"),
        nonce=secrets.token_urlsafe(16),
        metrics=METRICS,
        headline=HEADLINE,
        families=report_charts.FAMILIES,
        neighbours=photos.NEIGHBOURS,
        max_drop=settings.gates.max_drop,
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
        "encoders": len({e["encoder"] for chapter in chapters for e in chapter["embedded"] + chapter["evaluated"]}),
        "serving": sorted({c["serving"]["encoder"] for c in chapters if c["serving"]}),
        "served": sum(1 for chapter in chapters if chapter["serving"]),
        "night": max((night["ended"] for night in nights), default=None),
        "night_seconds": sum(runs.values()),
        "night_state": report_runs.worst(list(bad.values())),
        "bad": list(bad.values()),
    }


# ---- one data set ----


def _chapter(settings: Settings, dataset: str, encoders: dict[str, Row], pictures: bool) -> Row:
    """All that the page says about one data set."""
    here = f"dataset = {quote(dataset)}"
    count = "count(*) AS photos, count(DISTINCT product_id) AS products"
    serving = report_runs.serving(settings, dataset, encoders)
    served = serving["encoder_version"] if serving else None
    groups = figures.groups(settings, here, served, encoders)
    quarantine = report_runs.quarantine(settings, here)
    quarantine["rows"] = photos.with_photos(settings, quarantine["rows"]) if pictures else quarantine["rows"]
    chapter = {
        "name": dataset,
        **lake.rows(settings, f"SELECT {count} FROM catalog WHERE {here}")[0],
        "embedded": lake.rows(
            settings,
            "SELECT encoder, encoder_version, count(*) AS photos FROM embeddings "
            f"WHERE {here} GROUP BY encoder, encoder_version ORDER BY encoder, encoder_version",
        ),
        "catalog_version": facts.catalog_version(settings, dataset),
        "serving": serving,
        "groups": groups,
        "evaluated": [entry for group in groups for entry in group["encoders"]],
        "pictures": pictures,
        "night": report_runs.night(settings, here),
        "runs": report_runs.runs(settings, here),
        "quarantine": quarantine,
        "gates": report_runs.gates(settings, here),
        **_compared(settings, here, groups[0] if groups else None, encoders),
        "gallery": photos.galleries(settings, here, groups[0]) if groups and pictures else None,
    }
    return chapter | {"charts": _charts(chapter)}


def _compared(settings: Settings, here: str, main: Row | None, encoders: dict[str, Row]) -> Row:
    """What holds encoders against each other, by the main protocol."""
    if main is None:
        return {"advice": [], "gains": [], "costs": {}, "taggers": [], "categories": None}
    queries = paired.paired_queries(settings, here, main)
    costs = report_costs.costs(settings, here, main, encoders)
    taggers = classifiers.taggers(settings, here, main)
    return {
        "advice": advice(main, costs, queries, taggers, settings.gates.max_drop),
        "gains": paired.gains(main, queries),
        "costs": costs,
        "taggers": taggers,
        "categories": figures.by_category(settings, here, main, MOST_CATEGORIES),
    }


def _charts(chapter: Row) -> Row:
    """Every chart that there are figures for, by name, with the ``id`` of its place."""
    charts: Row = {"night": report_charts.night(chapter["night"]["rows"]) if chapter["night"] else None}
    if chapter["groups"]:
        main = chapter["groups"][0]
        charts["retrieval"] = report_charts.retrieval(main, HEADLINE)
        charts["gains"] = report_charts.gains(chapter["gains"], HEADLINE)
        for name in COSTS:
            charts[name] = _cost_chart(main, chapter["costs"], name)
    if chapter["categories"]:
        charts["categories"] = report_charts.categories(chapter["categories"], HEADLINE)
    for tagger in chapter["taggers"]:
        if tagger["details"]:
            charts[f"calibration-{tagger['relevant']}"] = report_charts.calibration(tagger["details"]["calibration"])
    return {
        name: {"id": f"chart-{name}-{chapter['name']}", "front": set(), **chart}
        for name, chart in charts.items()
        if chart
    }


def _cost_chart(main: Row, costs: dict[str, Row], name: str) -> Row | None:
    """mMP@5 against one kind of cost."""
    points: dict[str, Row | None]
    if name == "bytes":
        points = {
            v: {"value": c["bytes"], "low": c["bytes"], "high": c["bytes"]} if c["bytes"] else None
            for v, c in costs.items()
        }
    elif name == "latency":
        points = {v: c["latency"] and {**c["latency"], "value": c["latency"]["milliseconds"]} for v, c in costs.items()}
    else:
        points = {version: cost[name] for version, cost in costs.items()}
    currency = next((cost["currency"] for cost in costs.values() if cost["currency"]), "")
    units = {
        "seconds": "seconds per 1,000 photos",
        "money": f"{currency} per 1,000 photos",
        "bytes": "bytes a vector",
        "latency": "milliseconds a query",
    }
    return report_charts.against(main, points, HEADLINE, units[name])
