"""The page of a study of codecs: bytes against quality, with intervals, and every row."""

from html import escape
from pathlib import Path
from typing import Any

from evaluation.compression.study import Row, Study
from vitrine import plain_page


def draw(study: Study, max_drop: float, path: Path) -> None:
    """Write the page to ``path``: it opens without a network."""
    best = study.cheapest()
    answer = (
        f"{best.codec.name}: {best.bytes} bytes in place of {4 * study.dim}"
        if best
        else "No codec is surely good enough"
    )
    about = (
        f"{study.queries:,} queries, {study.index:,} photos in the index; a codec may lose {max_drop:g}, and has to be "
        "shown to lose less."
    )
    head = ("codec", "bytes", *study.full, "change (95 % interval)", "verdict")
    in_full = ["in full, float32", str(4 * study.dim), *_values(study.full), "", ""]
    rows = [in_full, *(_line(row) for row in study.rows)]
    title = f"How short may vectors of {study.encoded.encoder} be for {study.encoded.dataset}?"
    plain_page.write(path, title, answer, [about], _chart(study, max_drop), head, rows)


def _line(row: Row) -> list[str]:
    change = f"{row.change.value:+.4f} ({row.change.low:+.4f} to {row.change.high:+.4f})"
    return [
        row.codec.name,
        str(row.bytes),
        *_values(row.metrics),
        change,
        "good enough" if row.good_enough else row.why,
    ]


def _values(metrics: dict[str, float]) -> list[str]:
    return [f"{value:.4f}" for value in metrics.values()]


def _chart(study: Study, max_drop: float) -> Any:
    from plotly import graph_objects

    figure = graph_objects.Figure()
    for good, colour, name in ((True, "#2b83c4", "good enough"), (False, "#c9630f", "not, or not surely")):
        rows = [row for row in study.rows if row.good_enough is good]
        figure.add_scatter(
            x=[row.bytes for row in rows],
            y=[row.change.value for row in rows],
            error_y={
                "array": [row.change.high - row.change.value for row in rows],
                "arrayminus": [row.change.value - row.change.low for row in rows],
            },
            text=[escape(row.codec.name) for row in rows],
            mode="markers",
            marker={"color": colour},
            name=name,
        )
    figure.add_hline(y=-max_drop, line={"dash": "dot", "width": 1})
    figure.update_xaxes(title="bytes a vector", type="log")
    figure.update_yaxes(title="change of the gate's metric", tickformat="+.3f")
    figure.update_layout(template="plotly_white", height=460, margin={"t": 20})
    return figure
