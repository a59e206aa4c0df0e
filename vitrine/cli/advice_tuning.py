"""``vitrine advise --tuning``: the ladder's probes for the best two encoders, on the sample that the race asked them.

What is learned from are the sample's photos of the split ``train``; every probe lies in a folder of its own, so that a
killed advice finds it done.
"""

import time
from collections.abc import Callable

from evaluation.advice import answer, sample
from evaluation.advice import tuning as tuned_options
from training import build_training_set
from training import tune as jobs
from training.ladder import decide, foresight, judge, rungs
from vitrine.cli import ladder
from vitrine.cli.advice_answer import Findings
from vitrine.cli.training_sets import training_sets
from vitrine.cli.tuning import Strategy, plan
from vitrine.errors import UserError, VitrineError
from vitrine.names import JOIN
from vitrine.settings import Settings

Within = Callable[[float], bool]
"""May so many seconds more be spent?"""
_SETS_SECONDS = 30.0
"""Of the training sets of one encoder: Spark's start, and Feast's joins."""
_VERDICTS: "dict[str, answer.Verdict]" = {"climbed": "worth it", "stopped": "not worth it", "unclear": "unclear"}


def check(settings: Settings, catalog: "sample.Catalog") -> None:
    """Could anything be probed?

    Raises:
        UserError: the data set has nothing to learn from, or probes do not tell what is asked.
    """
    if catalog.label != "product_id":
        raise UserError(
            "--tuning with --use tagging: probes tell how well a product's other photos are found, and nothing of "
            "categories; leave one of them out"
        )
    build_training_set.learnable_splits(settings, catalog.dataset)
    _usual_budget(settings)


def usual_bound(settings: Settings) -> Within:
    """That of ``[tune.auto] budget`` from now on, for an advice without a budget of its own."""
    budget, started = _usual_budget(settings), time.monotonic()

    def within(more: float) -> bool:
        seconds = time.monotonic() - started + more
        return budget.allows(seconds, jobs.cost(settings, seconds)["money"])

    return within


def _usual_budget(settings: Settings) -> "decide.Budget":
    prices = settings.prices
    return decide.Budget.parse(settings.tune.auto.budget, prices.currency, bool(prices.core_hour or prices.gpu_hour))


def probe(found: Findings, said: "answer.Advice", within: Within) -> "answer.Advice":
    """``said``, with what the rungs of ``[tune.auto]`` beyond the race's linear head would gain on its best two."""
    asked = [Strategy(name) for name in found.settings.tune.auto.rungs if name != answer.LINEAR]
    probed: list[answer.Option] = []
    left_out: list[answer.LeftOut] = []
    networks = dict.fromkeys(each.encoder for each in said.options if JOIN not in each.encoder)
    for encoder in list(networks)[: tuned_options.PROBED]:
        base = next(each for each in said.options if each.encoder == encoder)
        try:
            foretold = _foretold(found, base, asked, within)
        except VitrineError as error:  # a gate, or too little to learn from: what the race said stays
            left_out += [answer.LeftOut(encoder, str(error), strategy.value) for strategy in asked]
            continue
        options, left = _options(found, base, foretold)
        probed, left_out = probed + options, left_out + left
    return tuned_options.with_probes(said, probed, left_out)


def _foretold(
    found: Findings, base: "answer.Option", asked: list[Strategy], within: Within
) -> "list[foresight.Foretold]":
    """What each strategy would gain over ``base``, and over what is worth it below.

    Raises:
        VitrineError: nothing can be probed.
    """
    if not within(_SETS_SECONDS):
        raise VitrineError(f"about {_SETS_SECONDS:.0f} s for its training set are {tuned_options.BEYOND}")
    settings, dataset, drawn = found.settings, found.catalog.dataset, found.measured[base.encoder].asked
    wanted = [Strategy.linear, *asked]
    tunings = {each: plan(settings, each, [dataset], [base.encoder])[0] for each in wanted}
    sources = dict.fromkeys(each.source for each in tunings.values())
    sets = training_sets(settings, sources, "product_id", None, products_below=drawn.limit)
    whole = sets[dataset, base.encoder]
    judges = judge.Judges(settings, whole)

    def rung(strategy: Strategy) -> "rungs.TunedRung":
        return ladder.rung(settings, tunings[strategy], judges, sets[tunings[strategy].source])

    lowest = rung(Strategy.linear) if base.strategy == answer.LINEAR else rungs.AsItIs(judges)
    limits = ladder.limits(settings, whole, decide.Budget(), settings.tune.auto.gain)
    scale = found.catalog.photos / len(drawn.ids)
    return foresight.Foresight(settings, lowest, [rung(each) for each in asked], limits, within, scale).foretell()


def _options(
    found: Findings, base: "answer.Option", foretold: "list[foresight.Foretold]"
) -> "tuple[list[answer.Option], list[answer.LeftOut]]":
    """What was probed, and what was left out."""
    made: list[answer.Option] = []
    left_out: list[answer.LeftOut] = []
    below = {base.strategy: base}
    for each in foretold:
        if each.gain is None:
            left_out.append(answer.LeftOut(base.encoder, each.why, each.strategy))
            continue
        tuning = answer.Tuning(
            over=each.over,
            gain=round(each.gain.value, 5),
            gain_low=round(each.gain.low, 5),
            gain_high=round(each.gain.high, 5),
            probe_seconds=round(each.probe_seconds, 1),
            tuning_seconds=round(each.tuning_seconds, 1),
            tuning_money=jobs.cost(found.settings, each.tuning_seconds)["money"],
        )
        over, verdict = below[each.over], _VERDICTS[each.outcome]
        below[each.strategy] = tuned_options.tuned_option(over, each.strategy, verdict, each.why, tuning)
        made.append(below[each.strategy])
    return made, left_out
