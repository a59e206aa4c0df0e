"""The work of ``vitrine tune auto``: the ladder's rungs made of the verbs' own tunings, its decision recorded."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from training import training_set
from training import tune as jobs
from training.ladder import climb as climbing
from training.ladder import decide, judge, page, rungs
from vitrine import facts, lake, runs, tracking
from vitrine.cli import embed_costs
from vitrine.cli.tuning import Strategy, Tuning, plan, protocol_of, tune, with_rows
from vitrine.encoders import tuned
from vitrine.names import JOIN
from vitrine.settings import Settings


@dataclass(frozen=True)
class Asked:
    """What the caller says beside the encoder and the data set; None: as the settings have it."""

    label: str
    seed: int | None = None
    as_of: datetime | None = None
    budget: str | None = None
    gain: float | None = None


def climb(settings: Settings, dataset: str, encoder: str, asked: Asked) -> dict[str, Any]:
    """Decide which strategies are worth their cost, tune those, and name what came out; the figures.

    Raises:
        UserError: as ``tuning.plan``, or a budget that is none.
    """
    options, prices = settings.tune.auto, settings.prices
    allowed = decide.Budget.parse(
        asked.budget or options.budget, prices.currency, bool(prices.core_hour or prices.gpu_hour)
    )
    strategies = [Strategy(name) for name in options.rungs if JOIN not in encoder or name in tuned.HEADS]
    tunings = {each: plan(settings, each, [dataset], [encoder])[0] for each in strategies}
    with runs.record(settings, "tune auto", dataset, encoder) as run:
        sets = {
            tuning.strategy: rows
            for tuning, rows in with_rows(settings, [*tunings.values()], asked.label, asked.seed, asked.as_of)
        }
        whole = next(rows for each, rows in sets.items() if each in tuned.HEADS)
        asked_for = limits(settings, whole, allowed, options.gain if asked.gain is None else asked.gain)
        judges = judge.Judges(settings, whole)
        steps = [rung(settings, tunings[each], judges, sets[each]) for each in strategies]
        done = climbing.Ladder(settings, rungs.AsItIs(judges), steps, asked_for).climb()
        run.figures |= _figures(done, encoder, asked_for)
        run.encoder_version = run.figures["encoder_version"]
        path = settings.reports / f"auto_{dataset}_{encoder.replace(JOIN, '_')}.html"
        page.draw(done, encoder, dataset, asked_for.gain, path)
        run.figures["page"] = str(path)
    tracking.to_mlflow(settings, run, tracking.Details(files=[path]))
    return {"dataset": dataset, **run.figures}


def limits(
    settings: Settings, whole: "training_set.TrainingSet", budget: "decide.Budget", gain: float
) -> "climbing.Limits":
    """What ``[tune.auto]`` asks of a rung on ``whole``, whose rows have vectors."""
    return climbing.Limits(
        gain=gain,
        budget=budget,
        point_price=settings.tune.auto.point_price,
        known_share=jobs.known_share(settings, whole, settings.tune.linear.products),
        max_drop=settings.gates.max_drop,
        widen=decide.widening(_errors(settings)),
    )


def rung(
    settings: Settings, tuning: Tuning, judges: "judge.Judges", rows: "training_set.TrainingSet"
) -> "rungs.TunedRung":
    """The rung of the ladder that ``tuning`` is; ``rows`` are of its source."""

    def finish() -> tuned.Tuned:
        tune(settings, tuning, rows)
        made = tuned.find(settings, tuning.name)
        assert made
        return made

    protocol = protocol_of(settings, tuning)
    if tuning.strategy in tuned.HEADS:
        return rungs.HeadRung(settings, judges, protocol, finish)
    use = _use_seconds(settings, tuning.base, tuning.dataset)
    return rungs.NetworkRung(settings, judges, rows, tuning.base, protocol, finish, use)


def _use_seconds(settings: Settings, encoder: str, dataset: str) -> float:
    """What a network of its own takes: the catalog once, and what changes in the nights that ``[tune.auto]`` states.

    By the rate of its base, whose network is as large; 0 where none is known.
    """
    options, rate = settings.tune.auto, embed_costs.Costs(settings, dataset).rate(encoder=encoder)
    if rate is None:
        return 0.0
    photos = facts.count(settings, facts.CATALOG, lake.matches(dataset=dataset))
    return rate.seconds * photos * (1 + options.nights * options.changed_share)


def _errors(settings: Settings) -> list[float]:
    """How far earlier findings lay from their forecasts, in halves of the intervals."""
    errors = []
    for run in runs.read(settings, lake.matches(verb="tune auto", state="done")):
        for step in run.read(runs.LadderFigures).decisions:
            if step.found is not None and step.forecast_known is not None:
                half = (step.forecast_known["high"] - step.forecast_known["low"]) / 2
                errors.append((step.found - step.forecast_known["value"]) / max(half, 1e-6))
    return errors


def _figures(done: "climbing.Climb", encoder: str, limits: "climbing.Limits") -> dict[str, Any]:
    highest = done.taken[-1] if done.taken else None
    return {
        "encoder": highest.name if highest else encoder,
        "encoder_version": highest.encoder_version if highest else None,
        "strategy": highest.strategy if highest else "pretrained",
        "base": encoder,
        "known_share": limits.known_share,
        "gain_asked": limits.gain,
        "intervals_widened": round(limits.widen, 3),
        "decisions": [asdict(decision) | {"seconds": decision.seconds} for decision in done.decisions],
        "against_base": {kind: asdict(each) for kind, each in done.against_base.items()},
        "tuning_seconds": round(done.seconds, 3),
    }
