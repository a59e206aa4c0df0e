"""The page of one advice: the answer, each option with its interval, curve and cost, and what was left out."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from evaluation.advice.answer import Advice, Option
from evaluation.advice.measure import SHARES
from vitrine import plain_page

_COLOURS = ("#2b83c4", "#c9630f", "#9061d6", "#3d8f5f", "#b0447c", "#7a7f2a")


def draw(advice: Advice, path: Path, galleries: Sequence[plain_page.Gallery] = ()) -> None:
    """Write the page to ``path``: it opens without a network."""
    first, *others = advice.lines()
    about = [
        *others,
        f"{advice.metric}; intervals are of 90 %; {advice.catalog_photos:,} photos of {advice.catalog_products:,} "
        f"products in the catalog, {advice.known_share:.0%} of what is asked taken to be of products that tuning "
        f"learned from; a margin of {advice.margin:g}. LogME and the regularised H-score, of the vectors as they are, "
        "decide nothing.",
    ]
    head: tuple[str, ...] = ("encoder", "expected on the catalog", "on the sample", "photos/s", "first night, s")
    head += ("MB served", "LogME", "H-score", "verdict", "why")
    title = f"Which encoder for {advice.dataset}?"
    plain_page.write(
        path, title, first.rstrip("."), about, _chart(advice), head, list(map(_row, advice.options)), galleries
    )


def _row(option: Option) -> list[str]:
    use = option.use
    return [
        option.name,
        f"{option.value:.3f} ({option.low:.3f} to {option.high:.3f})",
        "probed" if option.measured is None else f"{option.measured:.3f} ({option.photos:,} photos)",
        "-" if use.photos_per_second is None else f"{use.photos_per_second:,.1f}",
        "-" if use.first_night_seconds is None else f"{use.first_night_seconds:,.0f}",
        "-" if use.serving_bytes is None else f"{use.serving_bytes / 1e6:,.1f}",
        "-" if option.logme is None else f"{option.logme:.3f}",
        "-" if option.h_score is None else f"{option.h_score:.1f}",
        option.verdict,
        option.why,
    ]


def _chart(advice: Advice) -> Any:
    """Each option's curve over its sample's products, and what is expected of the whole catalog."""
    from plotly import graph_objects

    figure = graph_objects.Figure()
    for number, option in enumerate(advice.options):
        about = {
            "name": escape(option.name),
            "legendgroup": option.name,
            "marker": {"color": _COLOURS[number % len(_COLOURS)]},
        }
        shares = [share * option.products for share in SHARES[len(SHARES) - len(option.curve) :]]
        figure.add_scatter(x=shares, y=option.curve, mode="lines+markers", **about)
        bounds = {"array": [option.high - option.value], "arrayminus": [option.value - option.low]}
        figure.add_scatter(
            x=[advice.catalog_products],
            y=[option.value],
            error_y=bounds,
            mode="markers",
            marker_symbol="diamond",
            showlegend=False,
            **about,
        )
    figure.update_xaxes(title="products asked, and learned from; diamonds: expected of all", type="log")
    figure.update_yaxes(title=advice.metric)
    figure.update_layout(template="plotly_white", height=420, margin={"t": 20})
    return figure
