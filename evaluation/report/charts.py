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
from math import isnan
from typing import NamedTuple

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from evaluation.report.codecs import Compressed
from evaluation.report.costs import Cost, Point
from evaluation.report.figures import Bounds, Entry, Group, Row
from evaluation.report.paired import Gain
from evaluation.statistics.recommendation import pareto_front
from vitrine.runs import RecordedRun

# Each at least 3:1 against the page's light and its dark surface; told apart by the colour-blind too.
FAMILIES = {
    "supervised": ("supervised", "#2b83c4"),
    "self_supervised": ("self-supervised", "#c9630f"),
    "contrastive": ("contrastive", "#9061d6"),
    "": ("family not known", "#7d838e"),
}
STRATEGIES = {
    **{"pretrained": "circle", "linear": "triangle-up", "top": "diamond", "full": "square"},
    **{"from_head": "star-square", "partial": "diamond-wide", "low_rank": "hexagram", "codec": "hexagon"},
    **{"distil": "cross", "int8": "pentagon"},
    "": "circle",
}
QUIET = "#868b95"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MOST_LABEL = 48  # characters
ROW = 44  # pixels of a row with its name above it
STILL = {"fixedrange": True, "automargin": True, "zeroline": False}
ABOVE = {"xref": "paper", "xanchor": "left", "align": "left", "showarrow": False}
WIDE = 20  # times: a wider range of costs gets a logarithmic axis


class Dot(NamedTuple):
    """One encoder's figure in a chart."""

    name: str
    value: float
    bounds: Bounds | None
    entry: Entry


@cache
def library() -> str:
    """plotly.js, gzipped, in base64: 2 MB instead of 4.8."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def label(name: object, most: int = MOST_LABEL) -> str:
    """``name`` as text for plotly: no markup, on one line, not too long."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(name))
    return escape(text if len(text) <= most else text[: most - 1] + "…")


def family(entry: Entry) -> str:
    name = entry.about["family"]
    return name if name in FAMILIES else ""


def retrieval(group: Group, metric: str) -> Row | None:
    """A dot with its interval for each encoder, best first; chance as a line."""
    dots = [
        Dot(_numbered(entry), entry.values[metric], entry.intervals.get(metric), entry)
        for entry in group.encoders
        if metric in entry.values
    ]
    if not dots:
        return None
    figure, height = _dots(dots, "%{x:.3f}")
    if metric in group.chance:
        figure.add_vline(x=group.chance[metric], line={"color": QUIET, "width": 1.5, "dash": "dot"})
    figure.update_layout(xaxis={"range": [0, 1.02], "tickformat": ".1f", "title": {"text": metric}, **STILL})
    return _plain(figure, f"{metric} of each encoder with its 95 % interval: {_spoken(dots)}", height)


def _numbered(entry: Entry) -> str:
    return f"{entry.number}  {entry.label}"


def _spoken(dots: list[Dot], form: str = ".3f") -> str:
    """The figures in words, for those who do not see the chart."""
    return "; ".join(f"{dot.name} {dot.value:{form}}" for dot in dots)


def gains(each: list[Gain], metric: str) -> Row | None:
    """What tuning changed, with its interval, around zero."""
    if not each:
        return None
    dots = []
    for gain in each:
        value, low, high = gain.change.value, gain.change.low, gain.change.high
        dots.append(Dot(_numbered(gain.entry), value, None if isnan(low) else (low, high), gain.entry))
    figure, height = _dots(dots, "%{x:+.3f}")
    figure.add_vline(x=0, line={"color": QUIET, "width": 1.5})
    most = max(abs(end) for dot in dots for end in (dot.value, *(dot.bounds or ()))) or 0.01
    title = {"text": f"change of {metric}: worse | better than its backbone"}
    figure.update_layout(xaxis={"range": [-1.1 * most, 1.1 * most], "tickformat": "+.2f", "title": title, **STILL})
    spoken = _spoken(dots, "+.3f")
    return _plain(figure, f"Change of {metric} by tuning, with its 95 % interval: {spoken}", height)


def categories(of_encoder: Row, metric: str) -> Row:
    """The worst and best categories of one encoder, as ``figures.by_label`` has them, with their intervals."""
    dots = []
    for row in of_encoder["rows"]:
        own = row["own"]
        bounds = None if own["low"] is None else (own["low"], own["high"])
        dots.append(Dot(row["category"], own["value"], bounds, of_encoder["encoder"]))
    figure, height = _dots(dots, "%{x:.3f}")
    figure.update_layout(xaxis={"range": [0, 1.02], "tickformat": ".1f", "title": {"text": metric}, **STILL})
    return _plain(figure, f"{metric} by {of_encoder['label']}, the worst first: {_spoken(dots)}", height)


def _dots(dots: list[Dot], value: str) -> tuple[go.Figure, int]:
    """One line a dot, its name above it, so that names take no width on a phone; and the chart's height.

    ``value`` is how plotly writes a dot's own.
    """
    figure = go.Figure()
    for key, (name, colour) in FAMILIES.items():
        mine = [at for at, dot in enumerate(dots) if family(dot.entry) == key]
        if mine:
            figure.add_scatter(
                name=name,
                mode="markers",
                x=[dots[at].value for at in mine],
                y=mine,
                error_x=_whiskers([(dots[at].value, dots[at].bounds) for at in mine]),
                marker={"size": 12, "color": colour, "symbol": [_symbol(dots[at].entry) for at in mine]},
                customdata=[label(dots[at].name) for at in mine],
                hovertemplate=f"%{{customdata}}: {value}<extra></extra>",
                cliponaxis=False,
            )
    for at, dot in enumerate(dots):
        figure.add_annotation(x=0, y=at, yshift=15, text=label(dot.name, 40), **ABOVE)
    figure.update_layout(
        yaxis={"range": [len(dots) - 0.5, -0.75], "visible": False, "fixedrange": True},
        margin={"l": 12, "r": 12, "t": 8, "b": 44},
    )
    return figure, 96 + ROW * len(dots)


def _symbol(entry: Entry) -> str:
    return STRATEGIES.get(entry.about["strategy"], "circle")


def _whiskers(each: list[tuple[float, Bounds | None]]) -> Row:
    """plotly's error bars from values and their bounds; none where there are no bounds."""
    known = [(value, bounds or (value, value)) for value, bounds in each]
    up = [max(high - value, 0.0) for value, (_, high) in known]
    down = [max(value - low, 0.0) for value, (low, _) in known]
    return {"symmetric": False, "array": up, "arrayminus": down, "thickness": 2, "width": 0}


def against(group: Group, costs: dict[str, Cost], kind: str, metric: str, unit: str) -> Row | None:
    """``metric`` against one ``kind`` of cost, with the Pareto front as a line, and the versions on it as ``front``.

    None where fewer than two encoders have both.
    """
    points = {version: point for version, cost in costs.items() if (point := cost.point(kind))}
    known = [entry for entry in group.encoders if entry.encoder_version in points and metric in entry.values]
    if len(known) < 2:
        return None
    figure = go.Figure()
    at = {e.encoder_version: (float(points[e.encoder_version].value), e.values[metric]) for e in known}
    front = pareto_front(at)
    line = {"color": QUIET, "width": 1.5, "shape": "hv", "dash": "dot"}
    xs, ys = ([at[version][axis] for version in front] for axis in (0, 1))
    figure.add_scatter(name="Pareto front", mode="lines", x=xs, y=ys, line=line, hoverinfo="skip")
    for key, (name, colour) in FAMILIES.items():
        mine = [entry for entry in known if family(entry) == key]
        if mine:
            figure.add_trace(_points(mine, points, metric, unit, name, colour))
    values = [cost for cost, _ in at.values()]
    wide = min(values) > 0 and max(values) / min(values) > WIDE
    axis = {"type": "log", "dtick": 1} if wide else {"rangemode": "tozero"}
    figure.update_layout(
        xaxis={**STILL, **axis, "title": {"text": label(unit)}, "exponentformat": "none", "nticks": 5},
        yaxis={**STILL, "title": {"text": metric}, "tickformat": ".2f"},
        margin={"l": 52, "r": 20, "t": 12, "b": 48},
    )
    spoken = "; ".join(f"{e.label} {at[e.encoder_version][0]:,.4g}, {metric} {e.values[metric]:.3f}" for e in known)
    return _plain(figure, f"{metric} against {unit}: {spoken}", 330) | {"front": set(front)}


def _points(mine: list[Entry], points: dict[str, Point], metric: str, unit: str, name: str, colour: str) -> go.Scatter:
    """The encoders of one family, each with its number in its mark."""
    costs = [points[entry.encoder_version] for entry in mine]
    return go.Scatter(
        name=name,
        mode="markers+text",
        x=[float(cost.value) for cost in costs],
        y=[entry.values[metric] for entry in mine],
        error_x=_whiskers([(float(cost.value), (cost.low, cost.high)) for cost in costs]) | {"thickness": 1},
        error_y=_whiskers([(entry.values[metric], entry.intervals.get(metric)) for entry in mine]) | {"thickness": 1},
        text=[str(entry.number) for entry in mine],
        textfont={"size": 11, "color": "#ffffff"},
        marker={"size": 19, "color": colour, "symbol": [_symbol(entry) for entry in mine]},
        customdata=[label(entry.label) for entry in mine],
        hovertemplate=f"%{{customdata}}<br>{label(unit)} %{{x:,.4g}}<br>{label(metric)} %{{y:.3f}}<extra></extra>",
        cliponaxis=False,
    )


def codecs(of_encoder: Compressed, metric: str) -> Row:
    """``metric`` against bytes a vector of every codec, with its interval, and the Pareto front as a line."""
    figure = go.Figure()
    line = {"color": QUIET, "width": 1.5, "shape": "hv", "dash": "dot"}
    front = sorted(of_encoder.front, key=lambda each: each.bytes)
    xs, ys = [each.bytes for each in front], [each.figure.value for each in front]
    figure.add_scatter(name="Pareto front", mode="lines", x=xs, y=ys, line=line, hoverinfo="skip")
    bounds = [
        (one.value, None if one.low is None or one.high is None else (one.low, one.high))
        for one in (each.figure for each in of_encoder.codecs)
    ]
    colour = FAMILIES.get(of_encoder.family, FAMILIES[""])[1]
    figure.add_scatter(
        mode="markers",
        x=[each.bytes for each in of_encoder.codecs],
        y=[value for value, _ in bounds],
        error_y=_whiskers(bounds) | {"thickness": 1},
        marker={"size": 11, "color": [colour if each.on_front else QUIET for each in of_encoder.codecs]},
        customdata=[label(each.name) for each in of_encoder.codecs],
        hovertemplate=f"%{{customdata}}<br>%{{x:,}} bytes<br>{label(metric)} %{{y:.3f}}<extra></extra>",
        cliponaxis=False,
    )
    figure.update_layout(
        xaxis={**STILL, "type": "log", "dtick": 1, "title": {"text": "bytes a vector"}, "exponentformat": "none"},
        yaxis={**STILL, "title": {"text": metric}, "tickformat": ".2f"},
        margin={"l": 52, "r": 20, "t": 12, "b": 48},
    )
    spoken = "; ".join(f"{each.name}, {each.bytes} bytes, {each.figure.value:.3f}" for each in front)
    return _plain(figure, f"{metric} against bytes a vector by {of_encoder.encoder}; on the front: {spoken}", 330)


def calibration(bins: list[Row]) -> Row | None:
    """How often what was predicted with a confidence was right; on the diagonal the two are equal.

    ``bins``: ``calibration`` of ``runs.ClassifierDetails``.
    """
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
        xaxis={**STILL, "range": [0, 1.02], "title": {"text": "confidence"}},
        yaxis={**STILL, "range": [0, 1.02], "title": {"text": "share that was right"}},
        margin={"l": 52, "r": 16, "t": 8, "b": 44},
    )
    spoken = "; ".join(f"{e['confidence']:.2f} said, {e['accuracy']:.2f} right of {e['photos']}" for e in bins)
    return _plain(figure, f"Reliability diagram: {spoken}", 330)


def night(runs: list[RecordedRun]) -> Row | None:
    """Seconds by verb, in the order of the night."""
    seconds: dict[str, float] = {}
    for run in runs:
        verb = label(run.verb)
        seconds[verb] = seconds.get(verb, 0.0) + run.seconds
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
        bargap=0.4,
        yaxis={"autorange": "reversed", "fixedrange": True, "automargin": True},
        xaxis={"range": [0, longest * 1.3], "visible": False, "fixedrange": True},
        margin={"l": 12, "r": 12, "t": 4, "b": 8},
    )
    spoken = ", ".join(f"{verb} {value:.1f}" for verb, value in seconds.items())
    return _plain(figure, f"Bar chart of seconds by step: {spoken}", 24 + 30 * len(seconds))


def _plain(figure: go.Figure, alt: str, height: int) -> Row:
    """The figure as JSON for the page, with what all charts share."""
    figure.update_layout(
        template="none",
        showlegend=False,
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
