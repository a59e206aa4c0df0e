"""The ladder: which strategy of tuning is worth its cost here, decided rung by rung before a rung is paid for.

A rung is probed on small parts of the training set (``cut``), judged on photos that it did not learn from (``judge``)
against the best rung so far, and its gain at full budget is forecast (``forecast``) with an interval. ``decide`` has
the rules. Every probe lies in a folder of its own as any tuning does: killed anywhere, the same command finds what is
done and goes on.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from training import tune
from training.ladder.decide import LEVEL, Budget, Verdict, is_worth, level_of, verdict
from training.ladder.forecast import ByQuery, Forecast, Probe, forecast
from training.ladder.judge import Answers
from training.ladder.rungs import SEEDS, Rung, TunedRung
from vitrine.encoders.tuned import Tuned
from vitrine.settings import Settings

_NOTHING_OF = 10
"""A tuning that the budget holds so many times is not worth a forecast: what it gains is measured."""
_OF_NEW = 0.5
"""The share of the products that are learned from, where only what it does to the others is asked."""


@dataclass
class Decision:
    """What became of one rung, and why."""

    strategy: str
    outcome: str = ""
    """``climbed``, ``stopped``, ``unclear``, ``left out`` or ``fell back``."""
    why: str = ""
    probes: list[dict[str, Any]] = field(default_factory=list)
    """``share``, ``seed``, the mean gains ``known`` and ``new`` over the rung below, and ``seconds``."""
    forecasts: list[dict[str, float]] = field(default_factory=list)
    """After each doubling: ``share``, ``low``, ``value``, ``high``; the last decided."""
    found: float | None = None
    """The gain of known products over the rung below, once it was tuned in full."""
    forecast_known: Forecast | None = None
    """The forecast of ``found``."""
    probe_seconds: float = 0.0
    tuning_seconds: float = 0.0
    use_seconds: float = 0.0
    """Of embedding the catalog and the nights that were stated; a head's are nothing."""

    @property
    def seconds(self) -> float:
        return self.probe_seconds + self.tuning_seconds + self.use_seconds


@dataclass(frozen=True)
class Limits:
    """What the caller asks for."""

    gain: float
    """The least gain that is worth a rung, in mMP@5 (0 to 1)."""
    budget: Budget
    point_price: float | None
    known_share: float
    """Of the photos that will be asked about, how many show products that are learned from."""
    max_drop: float
    """How far below the encoder as it is the outcome may lie on known and on new products."""
    widen: float
    """How many times as wide intervals are, by what earlier forecasts missed."""
    level: float = LEVEL
    """Of the intervals of all rungs together."""


@dataclass(frozen=True)
class Climb:
    """The end of it: what was tuned and taken, lowest first, and every decision."""

    taken: list[Tuned]
    decisions: list[Decision]
    seconds: float
    against_base: dict[str, Forecast]
    """The outcome against the encoder as it is: ``known``, and ``new``."""


class Ladder:
    """The rungs of one encoder on one training set above ``base``, the encoder as it is; ``climb`` is all of it."""

    def __init__(self, settings: Settings, base: Rung, rungs: Sequence[TunedRung], limits: Limits) -> None:
        self.settings, self.base, self.rungs, self.limits = settings, base, rungs, limits
        self.spent = 0.0
        self._level = level_of(len(rungs), limits.level)
        self._probed: dict[tuple[str, float, int], Answers] = {}
        self._finished: dict[str, Answers] = {}

    def climb(self) -> Climb:
        """Probe and decide, rung by rung; tune those that are taken."""
        below = self.base
        taken: list[TunedRung] = []
        decisions = []
        for rung in self.rungs:
            decision = Decision(rung.strategy)
            decisions.append(decision)
            if not self._may_begin(rung, decision):
                continue
            if self._is_its_own_probe(rung, decision):
                self._at_once(rung, below, decision)
            else:
                self._decide(rung, below, decision)
            if decision.outcome == "climbed":
                taken.append(rung)
                below = rung
            else:
                decision.use_seconds = 0.0
            self.spent += decision.seconds
            say(decision)
        return self._held_against_base(taken, decisions)

    # ---- before a rung is paid for ----

    def _may_begin(self, rung: Rung, decision: Decision) -> bool:
        decision.tuning_seconds = rung.estimated_seconds()
        decision.use_seconds = rung.use_seconds()
        probes = probe_seconds(rung, decision.tuning_seconds)
        if self._is_its_own_probe(rung, decision):
            probes = len(SEEDS) * _OF_NEW * decision.tuning_seconds if self.limits.known_share < 1 else 0.0
        planned = decision.tuning_seconds + probes + decision.use_seconds
        if self._fits(planned):
            return True
        decision.outcome = "left out"
        decision.why = f"about {planned:.0f} s more are beyond the budget"
        decision.tuning_seconds = decision.use_seconds = 0.0
        say(decision)
        return False

    def _is_its_own_probe(self, rung: Rung, decision: Decision) -> bool:
        """Would a probe cost half of the tuning, or the tuning next to nothing of what is left of the budget? Of what
        is probed whole: would that cost more than the budget has beside it?"""
        whole = decision.tuning_seconds
        probes = probe_seconds(rung, whole)
        if rung.levels[0][-1] < 1:
            return probes > whole / 2 or self._fits(_NOTHING_OF * whole + decision.use_seconds)
        return not self._fits(whole + probes + decision.use_seconds)

    def _at_once(self, rung: TunedRung, below: Rung, decision: Decision) -> None:
        """The tuning is its own probe; what it does to new products is asked of a half of them."""
        known = self._pay(rung, below, decision)
        probes = [Probe(1.0, SEEDS[0], known, known.nothing())]
        if self.limits.known_share < 1:
            probes += [self._probe(rung, below, _OF_NEW, seed, decision) for seed in SEEDS]
        predicted = forecast(probes, self.limits.known_share, self._level).widened(self.limits.widen)
        decision.forecasts.append({"share": 1.0, **asdict(predicted)})
        self._conclude(decision, verdict(predicted, self.limits.gain), predicted)
        decision.why += "; tuned at once, since it was cheap beside its probes or the budget"

    def _fits(self, more: float) -> bool:
        seconds = self.spent + more
        return self.limits.budget.allows(seconds, self._money(seconds))

    def _money(self, seconds: float) -> float:
        return float(tune.cost(self.settings, seconds)["money"])

    def _decide(self, rung: TunedRung, below: Rung, decision: Decision) -> None:
        """Probe until the forecast is clear, and tune where it says so."""
        self._foretell(rung, below, decision)
        if decision.outcome == "climbed":
            self._pay(rung, below, decision)
        else:
            decision.tuning_seconds = 0.0

    def _foretell(self, rung: Rung, below: Rung, decision: Decision) -> None:
        """Probe until the forecast is clear, or no more may be probed."""
        probes: list[Probe] = []
        outcome: Verdict = "unclear"
        for number, level in enumerate(rung.levels):
            if number and not self._may_go_on(rung, number, decision):
                break
            for share in level:
                probes += [self._probe(rung, below, share, seed, decision) for seed in SEEDS]
            predicted = forecast(probes, self.limits.known_share, self._level).widened(self.limits.widen)
            decision.forecasts.append({"share": level[-1], **asdict(predicted)})
            outcome = verdict(predicted, self.limits.gain)
            if outcome != "unclear":
                break
        self._conclude(decision, outcome, predicted)
        with_known = [probe for probe in probes if len(probe.known.sums()[0])]
        decision.forecast_known = forecast(with_known, 1.0, self._level) if with_known else None

    def _may_go_on(self, rung: Rung, number: int, decision: Decision) -> bool:
        """May the level ``number`` of the rung be probed, too?"""
        return self._fits(decision.seconds)

    def _affords(self, decision: Decision) -> bool:
        """May what was probed be tuned?"""
        return self._fits(decision.seconds)

    def _conclude(self, decision: Decision, outcome: Verdict, predicted: Forecast) -> None:
        gain, interval = self.limits.gain, f"{predicted.low:+.3f} to {predicted.high:+.3f}"
        money = self._money(decision.seconds)
        if outcome == "stop":
            decision.outcome, decision.why = "stopped", f"it would gain {interval}, below {gain:+.3f}"
        elif outcome == "unclear":
            decision.outcome, decision.why = "unclear", f"it would gain {interval}: not surely {gain:+.3f}"
        elif not is_worth(predicted, money, self.limits.point_price):
            decision.outcome, decision.why = "stopped", f"a sure {predicted.low:+.3f} is not worth {money:.2f}"
        elif not self._affords(decision):
            decision.outcome, decision.why = "stopped", f"it would gain {interval}, beyond the budget"
        else:
            decision.outcome, decision.why = "climbed", f"it would gain {interval}, surely more than {gain:+.3f}"

    def _probe(self, rung: Rung, below: Rung, share: float, seed: int, decision: Decision) -> Probe:
        products = rung.products_of(share)
        seconds, answers = self._answered(rung, share, seed, products)
        below_seconds, base = self._answered(below, below.beside(share, products), seed, products)
        seconds += below_seconds
        gains = answers.over(base)
        known, new = gains.known, gains.new if products < 1 else gains.new.nothing()
        decision.probe_seconds += seconds
        means = {name: None if np.isnan(gains.mean) else gains.mean for name, gains in (("known", known), ("new", new))}
        decision.probes.append({"share": share, "seed": seed, **means, "seconds": round(seconds, 1)})
        return Probe(share, seed, known, new)

    def _answered(self, rung: Rung, share: float, seed: int, products: float) -> tuple[float, Answers]:
        """What a probe took, 0 where it was paid for before, and what the rung then answers."""
        key, seconds = (rung.strategy, share, seed), 0.0
        if key not in self._probed:
            seconds, self._probed[key] = rung.probe(share, seed, products)
        return seconds, self._probed[key]

    # ---- afterwards ----

    def _pay(self, rung: TunedRung, below: Rung, decision: Decision) -> ByQuery:
        """Tune in full; what it gains over the rung below, on known products."""
        decision.tuning_seconds = rung.tune().cost["seconds"]
        seconds, ours = self._answered_in_full(rung)
        _, theirs = self._answered_in_full(below)
        decision.probe_seconds += seconds
        known = ours.known.over(theirs.known)
        decision.found = known.mean
        return known

    def _answered_in_full(self, rung: Rung) -> tuple[float, Answers]:
        """As ``_answered``, of a rung after its whole tuning, which is judged without the validation part."""
        seconds = 0.0
        if rung.strategy not in self._finished:
            seconds, self._finished[rung.strategy] = rung.judged()
        return seconds, self._finished[rung.strategy]

    def _held_against_base(self, taken: list[TunedRung], decisions: list[Decision]) -> Climb:
        """The highest rung that is better than the encoder as it is, and on no kind of product that will be asked about
        worse beyond ``max_drop``; what is above it falls."""
        by_strategy = {decision.strategy: decision for decision in decisions}
        against: dict[str, Forecast] = {}
        while taken:
            against = self._against_base(taken[-1])
            weights = {"known": self.limits.known_share, "new": 1 - self.limits.known_share}
            gains = [each for kind, each in against.items() if weights[kind] > 0]
            if any(each.value > 0 for each in gains) and all(each.low > -self.limits.max_drop for each in gains):
                break
            decision = by_strategy[taken.pop().strategy]
            decision.outcome = "fell back"
            decision.why += "; held against the encoder as it is, it was no better"
            say(decision)
        return Climb([rung.made for rung in taken], decisions, self.spent, against if taken else {})

    def _against_base(self, rung: Rung) -> dict[str, Forecast]:
        base = self.base
        ours, theirs = (self._answered_in_full(each)[1] for each in (rung, base))
        known = ours.known.over(theirs.known)
        compared = {"known": forecast([Probe(1.0, 0, known, known.nothing())], 1.0, 0.95)}
        done = [share for strategy, share, _ in self._probed if strategy == rung.strategy]
        partial = [share for share in done if rung.products_of(share) < 1]
        if not partial:  # tuned at once: nothing was left unlearned
            return compared
        share, products = max(partial), rung.products_of(max(partial))
        probes = []
        for seed in SEEDS:
            ours = self._answered(rung, share, seed, products)[1]
            theirs = self._answered(base, base.beside(share, products), seed, products)[1]
            new = ours.new.over(theirs.new)
            probes.append(Probe(1.0, seed, new.nothing(), new))
        if any(len(probe.new.sums()[0]) for probe in probes):
            compared["new"] = forecast(probes, 0.0, 0.95)
        return compared


def probe_seconds(rung: Rung, whole: float, level: int = 0) -> float:
    """What the probes of one level would take, of a rung whose whole tuning takes ``whole`` seconds."""
    return len(SEEDS) * sum(
        max(share, rung.least_cost) * rung.probe_cost * whole + rung.start_seconds for share in rung.levels[level]
    )


def say(decision: Decision) -> None:
    print(f"{decision.strategy}: {decision.outcome} ({decision.why})", file=sys.stderr, flush=True)
