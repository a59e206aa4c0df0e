"""The report's charts: plotly figures as plain JSON, and plotly.js packed small enough to travel with the page.

Colours of text and lines come from the page's style sheet, so that charts follow its light and dark modes.
Names are escaped here, because plotly reads its labels as a kind of HTML.
"""

import base64
import gzip
import json
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

# Each at least 3:1 against the page's light and its dark surface.
PALETTE = ("#1a8f82", "#c65b1e", "#6d70d8", "#a8770a", "#b8478f", "#3f86c9", "#5d8f2c", "#a0614a")
CHANCE_COLOUR = "#868b95"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "pentagon")
MOST_BARS = 8  # encoders in one chart
MOST_LABEL = 48  # characters

Row = dict[str, Any]


def library() -> str:
    """plotly.js, gzipped, in base64: 2 MB instead of 4.8."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def label(name: object) -> str:
    """``name`` as text for plotly: no markup, on one line, not too long."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(name))
    return escape(text if len(text) <= MOST_LABEL else text[: MOST_LABEL - 1] + "…")


def metrics(group: Row, names: tuple[str, ...]) -> Row | None:
    """Bars of every metric with its interval, one colour an encoder, chance hollow."""
    figure = go.Figure()
    for encoder, colour in zip(group["encoders"][:MOST_BARS], PALETTE, strict=False):
        twins = sum(other["encoder"] == encoder["encoder"] for other in group["encoders"]) > 1
        name = encoder["encoder"] + (f" {encoder['encoder_version'][:8]}" if twins else "")
        figure.add_bar(
            name=label(name),
            x=names,
            y=[encoder["values"].get(metric) for metric in names],
            error_y=_whiskers(encoder, names),
            marker_color=colour,
            hovertemplate="%{x}: %{y:.3f}",
        )
    if group["chance"]:
        figure.add_bar(
            name="chance",
            x=names,
            y=[group["chance"].get(metric) for metric in names],
            marker={"color": "rgba(0,0,0,0)", "line": {"color": CHANCE_COLOUR, "width": 2}},
            hovertemplate="%{x}: %{y:.3f}",
        )
    figure.update_layout(
        barmode="group",
        bargap=0.28,
        bargroupgap=0.08,
        yaxis={"range": [0, 1], "tickformat": ".1f", "fixedrange": True},
        xaxis={"fixedrange": True, "automargin": True},
    )
    return _plain(figure, f"Bar chart of {len(group['encoders'])} encoders and chance; the table has the figures", 340)


def _whiskers(encoder: Row, names: tuple[str, ...]) -> Row:
    """plotly's error bars from each value's interval; none where there is no interval."""
    up, down = [], []
    for metric in names:
        value = encoder["values"].get(metric)
        low, high = encoder["intervals"].get(metric, (value, value))
        up.append(None if value is None else max(high - value, 0.0))
        down.append(None if value is None else max(value - low, 0.0))
    return {"symmetric": False, "array": up, "arrayminus": down, "thickness": 1.5, "width": 3}


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
        marker_color=PALETTE[0],
        hoverinfo="skip",
    )
    longest = max(seconds.values()) or 1.0
    figure.update_layout(
        showlegend=False,
        bargap=0.35,
        yaxis={"autorange": "reversed", "fixedrange": True, "automargin": True},
        xaxis={"range": [0, longest * 1.22], "title": {"text": "seconds"}, "fixedrange": True},
    )
    told = ", ".join(f"{verb} {value:.1f}" for verb, value in seconds.items())
    return _plain(figure, f"Bar chart of seconds by step: {told}", 80 + 34 * len(seconds))


def costs(group: Row, seconds: dict[str, float], metric: str) -> Row | None:
    """``metric`` against seconds per 1,000 photos embedded; None where fewer than two encoders have both."""
    known = [e for e in group["encoders"] if e["encoder"] in seconds and metric in e["values"]][:MOST_BARS]
    if len({encoder["encoder"] for encoder in known}) < 2:
        return None
    figure = go.Figure()
    for encoder, colour, symbol in zip(known, PALETTE, SYMBOLS, strict=False):
        figure.add_scatter(
            name=label(encoder["encoder"]),
            x=[seconds[encoder["encoder"]]],
            y=[encoder["values"][metric]],
            error_y=_whiskers(encoder, (metric,)),
            mode="markers",
            marker={"size": 16, "color": colour, "symbol": symbol},
            hovertemplate="%{x:.1f} s per 1,000 photos, " + label(metric) + " %{y:.3f}",
        )
    figure.update_layout(
        xaxis={
            "title": {"text": "seconds per 1,000 photos"},
            "range": [0, 1.15 * max(seconds[encoder["encoder"]] for encoder in known)],
            "fixedrange": True,
        },
        yaxis={"title": {"text": metric}, "range": [0, 1], "tickformat": ".1f", "fixedrange": True},
    )
    told = "; ".join(f"{e['encoder']} {seconds[e['encoder']]:.1f} s, {metric} {e['values'][metric]:.3f}" for e in known)
    return _plain(figure, f"Accuracy against seconds per 1,000 photos: {told}", 340)


def _plain(figure: go.Figure, alt: str, height: int) -> Row:
    """The figure as JSON for the page, with what all charts share."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 48, "r": 24, "t": 16, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 13},
        xaxis={"title": {"font": {"size": 13}}},
        yaxis={"title": {"font": {"size": 13}}},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    plain = json.loads(figure.to_json())
    return {"data": plain["data"], "layout": plain["layout"], "alt": alt, "height": height}
