"""The page of a study of codecs: bytes against quality, with intervals, and every row."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from evaluation.compression.codec_rows import IN_FULL
from evaluation.compression.speed import LISTS_ASKED, Speed
from evaluation.compression.study import Row, Study, month
from evaluation.statistics.bootstrap import PairedDifference
from vitrine import plain_page
from vitrine.setting_sections import Prices


def draw(
    study: Study,
    max_drop: float,
    prices: Prices,
    photos: int,
    stores: str,
    path: Path,
    galleries: Sequence[plain_page.Gallery] = (),
) -> None:
    """Write the page to ``path``: it opens without a network. ``photos``: how many vectors are paid for; ``stores``: a
    sentence on what they take where they serve; ``galleries``: pictures under the table."""
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
    searched = (
        "Search is for the 10 nearest, by Faiss on this machine: the median of one query on one thread, and many at "
        f"once on all. A month is of {photos:,} vectors, by [prices]: in memory what the first pass goes through, all "
        "of it on disk."
    )
    in_lists = (
        "In lists: an approximate search over the same codes, by Faiss's IVF of about as many lists as the root of the "
        f"number of vectors, of which a query asks the {LISTS_ASKED} nearest. Its recall@10 is the share of what the "
        "exact search finds. The metrics are of exact search."
    )
    head = ["codec", "bytes", *study.full, "change (95 % interval)"]
    head += [f"change on {study.new_queries:,} queries of new products"] if study.new_queries else []
    head += ["ms a query", "queries a second", "s to build"]
    head += ["in lists: ms a query", "queries a second", "s to build", "recall@10"]
    head += [f"a month, {prices.currency}", "verdict"]
    in_full = [IN_FULL, str(4 * study.dim), *_values(study.full), "", *([""] if study.new_queries else [])]
    in_full += [*_speed(study.full_speed), f"{month(prices, photos, 4 * study.dim, 4 * study.dim):.4g}", ""]
    rows = [in_full, *(_line(row, prices, photos) for row in study.rows)]
    title = f"How short may vectors of {study.encoded.encoder} be for {study.encoded.dataset}?"
    plain_page.write(
        path, title, answer, [about, searched, in_lists, stores], _chart(study, max_drop), head, rows, galleries
    )


def _line(row: Row, prices: Prices, photos: int) -> list[str]:
    again = row.codec.again
    return [
        row.codec.name,
        f"{row.codec.searched_bytes} + {again.bytes}" if again else str(row.bytes),
        *_values(row.metrics),
        *(_change(each) for each in (row.change, row.on_new) if each),
        *_speed(row.speed),
        f"{row.money(prices, photos):.4g}",
        "good enough" if row.good_enough else row.why,
    ]


def _change(change: PairedDifference) -> str:
    return f"{change.value:+.4f} ({change.low:+.4f} to {change.high:+.4f})"


def _speed(speed: Speed) -> list[str]:
    exact = speed.latency_ms, speed.queries_per_second, speed.build_seconds
    in_lists = speed.lists_latency_ms, speed.lists_queries_per_second, speed.lists_build_seconds
    shown = [(f"{latency:.3g}", f"{rate:,.0f}", f"{build:.3g}") for latency, rate, build in (exact, in_lists)]
    return [*shown[0], *shown[1], f"{speed.lists_recall:.3f}"]


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
