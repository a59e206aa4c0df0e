"""The page of one climb: each rung's probes, forecast and finding, what it cost, and why it was taken or not."""

from pathlib import Path
from typing import Any

from training.ladder.climb import Climb, Decision
from vitrine import plain_page

_HEAD = ("strategy", "what became of it", "forecast gain", "found", "seconds: probes, tuning, use", "why")


def draw(climb: Climb, encoder: str, dataset: str, gain: float, path: Path) -> None:
    """Write the page to ``path``: it opens without a network."""
    answer = f"Taken: {climb.taken[-1].name}" if climb.taken else f"Taken: none; {encoder} as it is"
    about = [
        f"A strategy is taken where its gain of mMP@5 over the one below is surely above {gain:.3f}; "
        f"{climb.seconds:,.0f} s in all.",
        "Gains are of photos that a probe did not learn from, paired query by query; intervals are of the forecast at "
        "full budget.",
    ]
    if climb.against_base:
        against = "; ".join(
            f"{kind} products {each.value:+.3f} ({each.low:+.3f} to {each.high:+.3f})"
            for kind, each in climb.against_base.items()
        )
        about.append(f"Against the encoder as it is, 95 % intervals: {against}.")
    title = f"Which tuning of {encoder} is worth its cost for {dataset}?"
    rows = [_row(decision) for decision in climb.decisions]
    plain_page.write(path, title, answer, about, _chart(climb.decisions, gain), _HEAD, rows)


def _row(decision: Decision) -> tuple[str, ...]:
    last = decision.forecasts[-1] if decision.forecasts else None
    forecast = f"{last['value']:+.3f} ({last['low']:+.3f} to {last['high']:+.3f})" if last else "-"
    found = "-" if decision.found is None else f"{decision.found:+.3f}"
    seconds = ", ".join(
        f"{each:,.0f}" for each in (decision.probe_seconds, decision.tuning_seconds, decision.use_seconds)
    )
    return decision.strategy, decision.outcome, forecast, found, seconds, decision.why


def _chart(decisions: list[Decision], gain: float) -> Any:
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
    return figure
