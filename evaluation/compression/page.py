"""The page of a study of codecs: bytes against quality, with intervals, and every row."""

from html import escape
from pathlib import Path

from evaluation.compression.study import Study
from vitrine import files

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: #1d2026;
  background: #fff }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 } th, td { text-align: left; padding: .3rem .6rem;
  border-bottom: 1px solid #d5d8de; vertical-align: top }
@media (prefers-color-scheme: dark) { body { color: #e6e8ec; background: #16181d } th, td { border-color: #3a3f49 } }
"""


def draw(study: Study, max_drop: float, path: Path) -> None:
    """Write the page to ``path``: it opens without a network."""
    title = f"How short may vectors of {study.encoded.encoder} be for {study.encoded.dataset}?"
    best = study.cheapest()
    answer = (
        f"{best.codec.name}: {best.bytes} bytes in place of {4 * study.dim}"
        if best
        else "No codec is surely good enough"
    )
    names = ("codec", "bytes", *study.full, "change (95 % interval)", "verdict")
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in names)
    lines = [["in full, float32", str(4 * study.dim), *(f"{value:.4f}" for value in study.full.values()), "", ""]]
    for row in study.rows:
        change = f"{row.change.value:+.4f} ({row.change.low:+.4f} to {row.change.high:+.4f})"
        verdict = "good enough" if row.good_enough else row.why
        lines.append(
            [row.codec.name, str(row.bytes), *(f"{value:.4f}" for value in row.metrics.values()), change, verdict]
        )
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    files.write_text(
        path,
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(title)}</h1><p><b>{escape(answer)}.</b> {study.queries:,} queries, {study.index:,} photos in the "
        f"index; a codec may lose {max_drop:g}, and has to be shown to lose less.</p>{_chart(study, max_drop)}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></html>",
    )


def _chart(study: Study, max_drop: float) -> str:
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
    return str(figure.to_html(include_plotlyjs=True, full_html=False))
