"""The page of one climb: each rung's probes, forecast and finding, what it cost, and why it was taken or not."""

from html import escape
from pathlib import Path

from training.ladder.climb import Climb, Decision
from vitrine import files

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1d2026;
  background: #fff }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 } th, td { text-align: left; padding: .4rem .6rem;
  border-bottom: 1px solid #d5d8de; vertical-align: top } td.number { text-align: right; white-space: nowrap }
@media (prefers-color-scheme: dark) { body { color: #e6e8ec; background: #16181d } th, td { border-color: #3a3f49 } }
"""


def draw(climb: Climb, encoder: str, dataset: str, gain: float, path: Path) -> None:
    """Write the page to ``path``: it opens without a network."""
    title = f"Which tuning of {encoder} is worth its cost for {dataset}?"
    rows = "".join(map(_row, climb.decisions))
    answer = f"Taken: {climb.taken[-1].name}" if climb.taken else f"Taken: none; {encoder} as it is"
    head = ("strategy", "what became of it", "forecast gain", "found", "seconds: probes, tuning, use", "why")
    columns = "".join(f"<th scope=col>{name}</th>" for name in head)
    against = "; ".join(
        f"{kind} products {each.value:+.3f} ({each.low:+.3f} to {each.high:+.3f})"
        for kind, each in climb.against_base.items()
    )
    files.write_text(
        path,
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(title)}</h1><p><b>{escape(answer)}.</b> A strategy is taken where its gain of mMP@5 over the one "
        f"below is surely above {gain:.3f}; {climb.seconds:,.0f} s in all.</p>"
        f"{f'<p>Against the encoder as it is, 95 % intervals: {against}.</p>' if against else ''}"
        f"{_chart(climb.decisions, gain)}<table><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>"
        "<p>Gains are of photos that a probe did not learn from, paired query by query; intervals are of the forecast "
        "at full budget.</p></html>",
    )


def _row(decision: Decision) -> str:
    last = decision.forecasts[-1] if decision.forecasts else None
    forecast = f"{last['value']:+.3f} ({last['low']:+.3f} to {last['high']:+.3f})" if last else "-"
    found = "-" if decision.found is None else f"{decision.found:+.3f}"
    seconds = ", ".join(
        f"{each:,.0f}" for each in (decision.probe_seconds, decision.tuning_seconds, decision.use_seconds)
    )
    cells = (decision.strategy, decision.outcome, forecast, found, seconds, decision.why)
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _chart(decisions: list[Decision], gain: float) -> str:
    """Each probe's gain by its share of the budget, the last forecast at 1, and what was found."""
    from plotly import graph_objects

    figure = graph_objects.Figure()
    colours = ("#2b83c4", "#c9630f", "#9061d6", "#3d8f5f")
    for decision, colour in zip(decisions, colours, strict=False):
        if not decision.forecasts:
            continue
        about = {"name": decision.strategy, "legendgroup": decision.strategy, "marker": {"color": colour}}
        shares = [probe["share"] for probe in decision.probes]
        for kind, symbol in (("known", "circle"), ("new", "circle-open")):
            gains = [probe[kind] for probe in decision.probes]
            figure.add_scatter(
                x=shares,
                y=gains,
                mode="markers",
                **{**about, "name": f"{decision.strategy}, {kind} products"},
                marker_symbol=symbol,
            )
        last = decision.forecasts[-1]
        bounds = {"array": [last["high"] - last["value"]], "arrayminus": [last["value"] - last["low"]]}
        forecast = {**about, "name": f"{decision.strategy}, forecast"}
        figure.add_scatter(
            x=[1], y=[last["value"]], error_y=bounds, mode="markers", marker_symbol="diamond", **forecast
        )
        if decision.found is not None:
            figure.add_scatter(
                x=[1], y=[decision.found], mode="markers", marker_symbol="x", **{**about, "name": "found"}
            )
    figure.add_hline(y=gain, line={"dash": "dot", "width": 1})
    figure.update_xaxes(title="share of the full budget", range=[0, 1.08])
    figure.update_yaxes(title="gain of mMP@5 over the strategy below", tickformat="+.2f")
    figure.update_layout(template="plotly_white", height=420, margin={"t": 20})
    return str(figure.to_html(include_plotlyjs=True, full_html=False))
