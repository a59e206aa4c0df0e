"""The page of one advice: the answer, each option with its interval, curve and cost, and what was left out."""

from html import escape
from pathlib import Path

from evaluation.advice.answer import Advice, Option
from evaluation.advice.measure import SHARES
from vitrine import files

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: #1d2026;
  background: #fff }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 } th, td { text-align: left; padding: .3rem .6rem;
  border-bottom: 1px solid #d5d8de; vertical-align: top }
@media (prefers-color-scheme: dark) { body { color: #e6e8ec; background: #16181d } th, td { border-color: #3a3f49 } }
"""
_COLOURS = ("#2b83c4", "#c9630f", "#9061d6", "#3d8f5f", "#b0447c", "#7a7f2a")


def draw(advice: Advice, path: Path) -> None:
    """Write the page to ``path``: it opens without a network."""
    title = f"Which encoder for {advice.dataset}?"
    first, *others = advice.lines()
    sentences = "".join(f"<p>{escape(line)}</p>" for line in others)
    names = ("encoder", "expected on the catalog", "on the sample", "photos/s", "first night, s", "verdict", "why")
    head = "".join(f"<th scope=col>{name}</th>" for name in names)
    rows = "".join(map(_row, advice.options))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if advice.options else ""
    files.write_text(
        path,
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(title)}</h1><p><b>{escape(first)}</b></p>{sentences}{_chart(advice)}{table}"
        f"<p>{escape(advice.metric)}; intervals are of 90 %; {advice.catalog_photos:,} photos of "
        f"{advice.catalog_products:,} products in the catalog, {advice.known_share:.0%} of what is asked taken to be "
        f"of products that tuning learned from; a margin of {advice.margin:g}.</p></html>",
    )


def _row(option: Option) -> str:
    use = option.use
    cells = (
        option.name,
        f"{option.value:.3f} ({option.low:.3f} to {option.high:.3f})",
        f"{option.measured:.3f} ({option.photos:,} photos)",
        "-" if use.photos_per_second is None else f"{use.photos_per_second:,.1f}",
        "-" if use.first_night_seconds is None else f"{use.first_night_seconds:,.0f}",
        option.verdict,
        option.why,
    )
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _chart(advice: Advice) -> str:
    """Each option's curve over the share of its sample's products."""
    drawn = [option for option in advice.options if len(option.curve) == len(SHARES)]
    if not drawn:
        return ""
    from plotly import graph_objects

    figure = graph_objects.Figure()
    for number, option in enumerate(drawn):
        shares = [share * option.products for share in SHARES]
        colour = _COLOURS[number % len(_COLOURS)]
        figure.add_scatter(x=shares, y=option.curve, name=option.name, mode="lines+markers", marker={"color": colour})
    figure.update_xaxes(title="products asked, and learned from", type="log")
    figure.update_yaxes(title=advice.metric)
    figure.update_layout(template="plotly_white", height=420, margin={"t": 20})
    return str(figure.to_html(include_plotlyjs=True, full_html=False))
