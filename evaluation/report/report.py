"""One self-contained HTML page for whoever decides what serves: what to use, figures, costs, photos, gates, quarantine.

Nothing in it loads from anywhere, and its content security policy says so to the browser too. Everything that
comes out of the tables is hostile text: Jinja2 escapes it, ``shown`` spells out what does not print.
"""

import secrets
from pathlib import Path

import jinja2

from evaluation.pages import text
from evaluation.pages.style import style_sheet
from evaluation.report import charts, classifiers, codecs, costs, figures, history, paired, photos, tags
from evaluation.report.advice import advice
from evaluation.report.figures import HEADLINE, METRICS, Group, Row
from evaluation.retrieval.slices import macro_slice
from vitrine import facts, files, lake, nights
from vitrine.errors import unknown
from vitrine.lake import matches
from vitrine.settings import Settings
from vitrine.tag_review import OUTCOMES

MOST_DATASETS_WITH_GALLERIES = 3
MOST_CATEGORIES = 8  # worst ones, and as many of the best
PARTS = Path(__file__).parent / "templates"


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
    union = " UNION ".join(f"SELECT dataset FROM {table}" for table in ("promotions", "metrics"))
    return sorted({*facts.ingested(settings), *(row["dataset"] for row in lake.rows(settings, union))})


def _render(settings: Settings, chapters: list[Row]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PARTS),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {**text.FILTERS, "family": charts.family, "counts": history.counts}
    environment.globals |= {"ends": text.ends}
    drawn = [
        {name: chart[name] for name in ("id", "data", "layout")}
        for chapter in chapters
        for chart in chapter["charts"].values()
    ]
    return environment.get_template("report.html.j2").render(
        made_at=lake.now(),
        chapters=chapters,
        tiles=_tiles(chapters),
        charts=drawn,
        crosses=paired.cross_matrices({chapter["name"]: chapter["gains"] for chapter in chapters}),
        plotly=charts.library() if drawn else "",
        style=style_sheet(PARTS / "style.css"),
        script=(PARTS / "script.js").read_text(encoding="utf-8"),
        nonce=secrets.token_urlsafe(16),
        metrics=METRICS,
        macros=[(macro_slice(name), f"Mean over values of {name}") for name in settings.evaluate.slices],
        headline=HEADLINE,
        families=charts.FAMILIES,
        tag_figures=tags.FIGURES,
        tag_photos=tags.SHOWN,
        tag_outcomes=OUTCOMES,
        neighbours=photos.NEIGHBOURS,
        max_drop=settings.gates.max_drop,
        data_docs=(settings.reports / "data_docs" / "index.html").is_file(),
    )


def _tiles(chapters: list[Row]) -> Row:
    """The headline: totals over the data sets."""
    newest = [chapter["night"] for chapter in chapters if chapter["night"]]
    bad = list({run.run_id: run for night in newest for run in night.bad}.values())
    seconds = {run.run_id: run.seconds for night in newest for run in night.runs}
    return {
        "photos": sum(chapter["photos"] for chapter in chapters),
        "products": sum(chapter["products"] for chapter in chapters),
        "encoders": len(set().union(*(chapter["names"] for chapter in chapters))),
        "serving": sorted({chapter["serving"]["encoder"] for chapter in chapters if chapter["serving"]}),
        "served": sum(1 for chapter in chapters if chapter["serving"]),
        "night": max((night.ended_at for night in newest), default=None),
        "night_seconds": sum(seconds.values()),
        "night_state": nights.worst(bad),
        "bad": bad,
    }


# ---- one data set ----


def _chapter(settings: Settings, dataset: str, encoders: dict[str, Row], pictures: bool) -> Row:
    """All that the page says about one data set."""
    here = matches(dataset=dataset)
    count = "count(*) AS photos, count(DISTINCT product_id) AS products"
    embedded = lake.rows(
        settings,
        "SELECT encoder, encoder_version, count(*) AS photos FROM embeddings "
        f"WHERE {here} GROUP BY encoder, encoder_version ORDER BY encoder, encoder_version",
    )
    serving = history.serving(settings, dataset, encoders)
    groups = figures.groups(settings, dataset, serving["encoder_version"] if serving else None, encoders)
    quarantine = history.quarantine(settings, dataset)
    quarantine["rows"] = photos.with_photos(settings, quarantine["rows"]) if pictures else quarantine["rows"]
    chapter = {
        "name": dataset,
        **lake.rows(settings, f"SELECT {count} FROM catalog WHERE {here}")[0],
        "embedded": embedded,
        "names": {row["encoder"] for row in embedded} | {entry.encoder for group in groups for entry in group.encoders},
        "catalog_version": facts.catalog_version(settings, dataset),
        "serving": serving,
        "groups": groups,
        "pictures": pictures,
        "night": nights.newest(settings, dataset),
        "runs": history.newest_runs(settings, dataset),
        "quarantine": quarantine,
        "gates": history.newest_gates(settings, dataset),
        **_compared(settings, groups[0] if groups else None, encoders),
        "compressed": codecs.compressed(settings, dataset, encoders),
        "tags": tags.sections(settings, dataset, pictures),
        "gallery": photos.galleries(settings, groups[0]) if groups and pictures else None,
    }
    return chapter | {"charts": _charts(chapter)}


def _compared(settings: Settings, main: Group | None, encoders: dict[str, Row]) -> Row:
    """What holds encoders against each other, by the main protocol."""
    if main is None:
        return {"advice": [], "gains": [], "costs": {}, "taggers": [], "categories": []}
    queries = paired.paired_queries(settings, main)
    cost_of = costs.by_version(settings, main, encoders)
    taggers = classifiers.taggers(settings, main)
    return {
        "advice": advice(main, cost_of, queries, taggers, settings.gates.max_drop),
        "gains": paired.gains(main, queries),
        "costs": cost_of,
        "taggers": taggers,
        "categories": figures.by_labels(settings, main, MOST_CATEGORIES),
    }


def _charts(chapter: Row) -> Row:
    """Every chart that there are figures for, by name, with the ``id`` of its place."""
    drawn: Row = {"night": charts.night(chapter["night"].runs) if chapter["night"] else None}
    if chapter["groups"]:
        main = chapter["groups"][0]
        drawn["retrieval"] = charts.retrieval(main, HEADLINE)
        drawn["gains"] = charts.gains(chapter["gains"], HEADLINE)
        currency = next((cost.currency for cost in chapter["costs"].values() if cost.currency), "")
        units = {
            "seconds": "seconds per 1,000 photos",
            "money": f"{currency} per 1,000 photos",
            "bytes": "bytes a vector",
            "latency": "milliseconds a query",
        }
        for kind, unit in units.items():
            drawn[kind] = charts.against(main, chapter["costs"], kind, HEADLINE, unit)
    for number, of_encoder in enumerate(chapter["compressed"], 1):
        drawn[f"codecs-{number}"] = charts.codecs(of_encoder, HEADLINE)
    for one in chapter["categories"]:
        drawn[f"by-{one['label']}"] = charts.categories(one, HEADLINE)
    for tagger in chapter["taggers"]:
        if tagger["details"]:
            drawn[f"calibration-{tagger['relevant']}"] = charts.calibration(tagger["details"].calibration)
    for tag in chapter["tags"]:
        drawn[f"tags-{tag['label']}"] = charts.calibration(tag["calibration"])
    return {
        name: {"id": f"chart-{name}-{chapter['name']}", "front": set(), **chart}
        for name, chart in drawn.items()
        if chart
    }
