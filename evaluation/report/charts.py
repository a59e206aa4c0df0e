"""The report's charts: plotly figures as plain JSON, and plotly.js packed small enough to travel with the page.

Colours of text and lines come from the page's style sheet, so that charts follow its light and dark modes; a family of
encoders has one colour throughout, a strategy one symbol. Names are escaped here, because plotly reads its labels as a
kind of HTML.
"""

import base64
import gzip
import json
from functools import cache
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from evaluation.statistics.recommendation import pareto_front

# Each at least 3:1 against the page's light and its dark surface; told apart by the colour-blind too.
FAMILIES = {
    "supervised": ("supervised", "#2b83c4"),
    "self_supervised": ("self-supervised", "#c9630f"),
    "contrastive": ("contrastive", "#9061d6"),
    "": ("family not known", "#7d838e"),
}
STRATEGIES = {"pretrained": "circle", "top": "diamond", "full": "square", "": "circle"}
QUIET = "#868b95"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MOST_LABEL = 48  # characters
ROW = 44  # pixels of a row with its name above it
STILL = {"fixedrange": True, "automargin": True, "zeroline": False}
WIDE = 20  # times: a wider range of costs gets a logarithmic axis

Row = dict[str, Any]


@cache
def library() -> str:
    """plotly.js, gzipped, in base64: 2 MB instead of 4.8."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def label(name: object, most: int = MOST_LABEL) -> str:
    """``name`` as text for plotly: no markup, on one line, not too long."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(name))
    return escape(text if len(text) <= most else text[: most - 1] + "…")


def family(entry: Row) -> str:
    name = entry["about"]["family"]
    return name if name in FAMILIES else ""


def retrieval(group: Row, metric: str) -> Row | None:
    """A dot with its interval for each encoder, best first; chance as a line."""
    rows = [
        {
            "name": f"{e['number']}  {e['label']}",
            "value": e["values"][metric],
            "bounds": e["intervals"].get(metric),
            "of": e,
        }
        for e in group["encoders"]
        if metric in e["values"]
    ]
    if not rows:
        return None
    figure, height = _dots(rows, "%{x:.3f}")
    if metric in group["chance"]:
        figure.add_vline(x=group["chance"][metric], line={"color": QUIET, "width": 1.5, "dash": "dot"})
    figure.update_layout(xaxis={"range": [0, 1.02], "tickformat": ".1f", "title": {"text": metric}, **STILL})
    told = "; ".join(f"{row['name']} {row['value']:.3f}" for row in rows)
    return _plain(figure, f"{metric} of each encoder with its 95 % interval: {told}", height)


def gains(each: list[Row], metric: str) -> Row | None:
    """What tuning changed, with its interval, around zero."""
    if not each:
        return None
    rows = [
        {
            "name": f"{gain['entry']['number']}  {gain['entry']['label']}",
            "value": gain["found"].value,
            "bounds": (gain["found"].low, gain["found"].high) if gain["found"].low == gain["found"].low else None,
            "of": gain["entry"],
        }
        for gain in each
    ]
    figure, height = _dots(rows, "%{x:+.3f}")
    figure.add_vline(x=0, line={"color": QUIET, "width": 1.5})
    most = max(abs(end) for row in rows for end in (row["value"], *(row["bounds"] or ()))) or 0.01
    title = {"text": f"change of {metric}: worse | better than its backbone"}
    figure.update_layout(xaxis={"range": [-1.1 * most, 1.1 * most], "tickformat": "+.2f", "title": title, **STILL})
    told = "; ".join(f"{row['name']} {row['value']:+.3f}" for row in rows)
    return _plain(figure, f"Change of {metric} by tuning, with its 95 % interval: {told}", height)


def categories(found: Row, metric: str) -> Row:
    """The worst and best categories of one encoder, with their intervals."""
    rows = [
        {
            "name": row["category"],
            "value": row["own"]["value"],
            "bounds": (row["own"]["low"], row["own"]["high"]) if row["own"]["low"] is not None else None,
            "of": found["encoder"],
        }
        for row in found["rows"]
    ]
    figure, height = _dots(rows, "%{x:.3f}")
    figure.update_layout(xaxis={"range": [0, 1.02], "tickformat": ".1f", "title": {"text": metric}, **STILL})
    told = "; ".join(f"{row['name']} {row['value']:.3f}" for row in rows)
    return _plain(figure, f"{metric} by category, the worst first: {told}", height)


def _dots(rows: list[Row], told: str) -> tuple[go.Figure, int]:
    """One line a row, its name above its dot: so that names take no width on a phone."""
    figure = go.Figure()
    for key, (name, colour) in FAMILIES.items():
        mine = [at for at, row in enumerate(rows) if family(row["of"]) == key]
        if mine:
            figure.add_scatter(
                name=name,
                mode="markers",
                x=[rows[at]["value"] for at in mine],
                y=mine,
                error_x=_whiskers([rows[at] for at in mine]),
                marker={"size": 12, "color": colour, "symbol": [_symbol(rows[at]["of"]) for at in mine]},
                customdata=[label(rows[at]["name"]) for at in mine],
                hovertemplate=f"%{{customdata}}: {told}<extra></extra>",
                cliponaxis=False,
            )
    for at, row in enumerate(rows):
        figure.add_annotation(
            xref="paper",
            x=0,
            y=at,
            yshift=15,
            xanchor="left",
            showarrow=False,
            text=label(row["name"], 40),
            align="left",
        )
    figure.update_layout(
        yaxis={"range": [len(rows) - 0.5, -0.75], "visible": False, "fixedrange": True},
        showlegend=False,
        margin={"l": 12, "r": 12, "t": 8, "b": 44},
    )
    return figure, 96 + ROW * len(rows)


def _symbol(entry: Row) -> str:
    return STRATEGIES.get(entry["about"]["strategy"], "circle")


def _whiskers(rows: list[Row]) -> Row:
    """plotly's error bars from each row's ``value`` and ``bounds``; none where there are no bounds."""
    bounds = [row["bounds"] or (row["value"], row["value"]) for row in rows]
    up = [max(high - row["value"], 0.0) for row, (_, high) in zip(rows, bounds, strict=True)]
    down = [max(row["value"] - low, 0.0) for row, (low, _) in zip(rows, bounds, strict=True)]
    return {"symmetric": False, "array": up, "arrayminus": down, "thickness": 2, "width": 0}


def against(group: Row, points: dict[str, Row | None], metric: str, unit: str) -> Row | None:
    """``metric`` against a cost, ``points``: version to ``value``, ``low``, ``high``; with the Pareto front as a
    line. None where fewer than two encoders have both."""
    there = {version: point for version, point in points.items() if point}
    known = [e for e in group["encoders"] if e["encoder_version"] in there and metric in e["values"]]
    if len(known) < 2:
        return None
    figure = go.Figure()
    at = {e["encoder_version"]: (float(there[e["encoder_version"]]["value"]), e["values"][metric]) for e in known}
    front = pareto_front(at)
    line = {"color": QUIET, "width": 1.5, "shape": "hv", "dash": "dot"}
    xs, ys = ([at[version][axis] for version in front] for axis in (0, 1))
    figure.add_scatter(name="Pareto front", mode="lines", x=xs, y=ys, line=line, hoverinfo="skip")
    for key, (name, colour) in FAMILIES.items():
        mine = [e for e in known if family(e) == key]
        if mine:
            figure.add_trace(_points(mine, at, there, metric, unit, name, colour))
    costs = [cost for cost, _ in at.values()]
    wide = min(costs) > 0 and max(costs) / min(costs) > WIDE
    axis = {"type": "log", "dtick": 1} if wide else {"rangemode": "tozero"}
    figure.update_layout(
        xaxis={**STILL, **axis, "title": {"text": label(unit)}, "exponentformat": "none", "nticks": 5},
        yaxis={**STILL, "title": {"text": metric}, "tickformat": ".2f"},
        showlegend=False,
        margin={"l": 52, "r": 20, "t": 12, "b": 48},
    )
    told = "; ".join(
        f"{e['label']} {at[e['encoder_version']][0]:,.4g}, {metric} {e['values'][metric]:.3f}" for e in known
    )
    return _plain(figure, f"{metric} against {unit}: {told}", 330) | {"front": set(front)}


def _points(mine: list[Row], at: Row, points: Row, metric: str, unit: str, name: str, colour: str) -> go.Scatter:
    """The encoders of one family, each with its number in its mark."""
    versions = [e["encoder_version"] for e in mine]
    x_rows = [{"value": at[v][0], "bounds": (points[v]["low"], points[v]["high"])} for v in versions]
    y_rows = [{"value": e["values"][metric], "bounds": e["intervals"].get(metric)} for e in mine]
    return go.Scatter(
        name=name,
        mode="markers+text",
        x=[at[v][0] for v in versions],
        y=[at[v][1] for v in versions],
        error_x=_whiskers(x_rows) | {"thickness": 1},
        error_y=_whiskers(y_rows) | {"thickness": 1},
        text=[str(e["number"]) for e in mine],
        textfont={"size": 11, "color": "#ffffff"},
        marker={"size": 19, "color": colour, "symbol": [_symbol(e) for e in mine]},
        customdata=[label(e["label"]) for e in mine],
        hovertemplate=f"%{{customdata}}<br>{label(unit)} %{{x:,.4g}}<br>{label(metric)} %{{y:.3f}}<extra></extra>",
        cliponaxis=False,
    )


def calibration(bins: list[Row]) -> Row | None:
    """How often what was said with a confidence was right; on the diagonal confidence can be taken at its word."""
    if not bins:
        return None
    figure = go.Figure()
    diagonal = {"color": QUIET, "width": 1.5, "dash": "dot"}
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=diagonal, hoverinfo="skip")
    most = max(each["photos"] for each in bins)
    figure.add_scatter(
        x=[each["confidence"] for each in bins],
        y=[each["accuracy"] for each in bins],
        mode="markers",
        marker={"size": [8 + 16 * (each["photos"] / most) ** 0.5 for each in bins], "color": FAMILIES["supervised"][1]},
        customdata=[each["photos"] for each in bins],
        hovertemplate="confidence %{x:.2f}, right %{y:.2f}<br>%{customdata:,} photos<extra></extra>",
        cliponaxis=False,
    )
    figure.update_layout(
        showlegend=False,
        xaxis={**STILL, "range": [0, 1.02], "title": {"text": "confidence"}},
        yaxis={**STILL, "range": [0, 1.02], "title": {"text": "share that was right"}},
        margin={"l": 52, "r": 16, "t": 8, "b": 44},
    )
    told = "; ".join(f"{e['confidence']:.2f} said, {e['accuracy']:.2f} right of {e['photos']}" for e in bins)
    return _plain(figure, f"Reliability diagram: {told}", 330)


def night(runs: list[Row]) -> Row | None:
    """Seconds by verb, in the order of the night."""
    seconds: dict[str, float] = {}
    for run in runs:
        seconds[label(run["verb"])] = seconds.get(label(run["verb"]), 0.0) + run["seconds"]
    if not seconds:
        return None
    figure = go.Figure()
    figure.add_bar(
        orientation="h",
        y=list(seconds),
        x=list(seconds.values()),
        text=[f"{value:,.1f} s" for value in seconds.values()],
        textposition="outside",
        cliponaxis=False,
        marker_color=QUIET,
        hoverinfo="skip",
    )
    longest = max(seconds.values()) or 1.0
    figure.update_layout(
        showlegend=False,
        bargap=0.4,
        yaxis={"autorange": "reversed", "fixedrange": True, "automargin": True},
        xaxis={"range": [0, longest * 1.3], "visible": False, "fixedrange": True},
        margin={"l": 12, "r": 12, "t": 4, "b": 8},
    )
    told = ", ".join(f"{verb} {value:.1f}" for verb, value in seconds.items())
    return _plain(figure, f"Bar chart of seconds by step: {told}", 24 + 30 * len(seconds))


def _plain(figure: go.Figure, alt: str, height: int) -> Row:
    """The figure as JSON for the page, with what all charts share."""
    figure.update_layout(
        template="none",
        height=height,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 13},
        xaxis={"title": {"font": {"size": 13}}, "gridcolor": "rgba(128,128,128,.22)"},
        yaxis={"title": {"font": {"size": 13}}, "gridcolor": "rgba(128,128,128,.22)"},
        hoverlabel={"font": {"family": FONT}},
    )
    plain = json.loads(figure.to_json())
    return {"data": plain["data"], "layout": plain["layout"], "alt": alt, "height": height}
