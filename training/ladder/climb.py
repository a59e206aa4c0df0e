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
from training.ladder.cut import cut
from training.ladder.decide import Budget, Verdict, is_worth, level_of, verdict
from training.ladder.forecast import Forecast, Probe, forecast
from training.ladder.judge import Answers, Embed, Judge
from training.ladder.rungs import AsItIs, Rung, Tuned
from training.training_set import TrainingSet
from vitrine.settings import Settings

SEEDS = (0, 1)


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


@dataclass(frozen=True)
class Climb:
    """The end of it: what was tuned and taken, lowest first, and every decision."""

    taken: list[Tuned]
    decisions: list[Decision]
    seconds: float
    against_base: dict[str, Forecast]
    """The outcome against the encoder as it is: ``known``, and ``new``."""


class Ladder:
    """The rungs of one encoder on one training set; ``climb`` is all of it."""

    def __init__(self, settings: Settings, whole: TrainingSet, rungs: Sequence[Rung], limits: Limits) -> None:
        self.settings, self.whole, self.rungs, self.limits = settings, whole, rungs, limits
        self.spent = 0.0
        self._judges: dict[tuple[float, int], Judge] = {}
        self._answers: dict[tuple[str, float, int], Answers] = {}

    def climb(self) -> Climb:
        """Probe and decide, rung by rung; tune those that are taken."""
        below: Rung = AsItIs()
        taken: list[tuple[Rung, Tuned]] = []
        decisions = []
        for rung in self.rungs:
            decision = Decision(rung.strategy)
            decisions.append(decision)
            if not self._may_begin(rung, decision):
                continue
            in_part = rung.levels[0][-1] < 1
            if in_part and self._probe_seconds(rung, decision) > decision.tuning_seconds / 2:
                tuned = self._at_once(rung, below, decision)
            else:
                self._decide(rung, below, decision)
                tuned = self._pay(rung, below, decision) if decision.outcome == "climbed" else None
            self.spent += decision.seconds
            if tuned:
                taken.append((rung, tuned))
                below = rung
            _say(decision)
        return self._held_against_base(taken, decisions)

    # ---- before a rung is paid for ----

    def _may_begin(self, rung: Rung, decision: Decision) -> bool:
        decision.tuning_seconds = rung.estimated_seconds()
        decision.use_seconds = rung.use_seconds()
        probes = min(self._probe_seconds(rung, decision), decision.tuning_seconds)
        planned = decision.tuning_seconds + probes + decision.use_seconds
        if self._fits(planned):
            return True
        decision.outcome = "left out"
        decision.why = f"about {planned:.0f} s more are beyond the budget"
        decision.tuning_seconds = decision.use_seconds = 0.0
        _say(decision)
        return False

    def _probe_seconds(self, rung: Rung, decision: Decision) -> float:
        """What the first probes would take."""
        first = rung.levels[0]
        return len(SEEDS) * sum(
            share * rung.probe_cost * decision.tuning_seconds + rung.start_seconds for share in first
        )

    def _at_once(self, rung: Rung, below: Rung, decision: Decision) -> Tuned | None:
        """Where a probe would cost half of the tuning, the tuning is its own probe; None where it is not taken."""
        tuned = self._pay(rung, below, decision)
        judge = self._judge(1.0, SEEDS[0])
        known, _ = judge.gains(judge.answers(self._full(rung, judge)), judge.answers(self._full(below, judge)))
        probes = [Probe(1.0, SEEDS[0], known, known.nothing())]
        if self.limits.known_share < 1:
            probes += [self._probe(rung, below, 0.5, seed, decision) for seed in SEEDS]
        predicted = forecast(probes, self.limits.known_share, level_of(len(self.rungs))).widened(self.limits.widen)
        decision.forecasts.append({"share": 1.0, **asdict(predicted)})
        spent = decision.tuning_seconds
        self._conclude(decision, verdict(predicted, self.limits.gain), predicted)
        decision.tuning_seconds = spent
        decision.why += "; tuned at once, since a probe would have cost half of that"
        return tuned if decision.outcome == "climbed" else None

    def _fits(self, more: float) -> bool:
        seconds = self.spent + more
        return self.limits.budget.left(seconds, self._money(seconds))

    def _money(self, seconds: float) -> float:
        return float(tune.cost(self.settings, seconds)["money"])

    def _decide(self, rung: Rung, below: Rung, decision: Decision) -> None:
        probes: list[Probe] = []
        outcome: Verdict = "unclear"
        for level in rung.levels:
            for share in level:
                probes += [self._probe(rung, below, share, seed, decision) for seed in SEEDS]
            predicted = forecast(probes, self.limits.known_share, level_of(len(self.rungs)))
            predicted = predicted.widened(self.limits.widen)
            decision.forecasts.append({"share": level[-1], **asdict(predicted)})
            outcome = verdict(predicted, self.limits.gain)
            if outcome != "unclear" or not self._fits(decision.seconds):
                break
        self._conclude(decision, outcome, predicted)
        with_known = [probe for probe in probes if len(probe.known.sums()[0])]
        decision.forecast_known = forecast(with_known, 1.0, level_of(len(self.rungs))) if with_known else None

    def _conclude(self, decision: Decision, outcome: Verdict, predicted: Forecast) -> None:
        gain, interval = self.limits.gain, f"{predicted.low:+.3f} to {predicted.high:+.3f}"
        money = self._money(decision.seconds)
        if outcome == "stop":
            decision.outcome, decision.why = "stopped", f"it would gain {interval}, below {gain:+.3f}"
        elif outcome == "unclear":
            decision.outcome, decision.why = "unclear", f"it would gain {interval}: not surely {gain:+.3f}"
        elif not is_worth(predicted, money, self.limits.point_price):
            decision.outcome, decision.why = "stopped", f"a sure {predicted.low:+.3f} is not worth {money:.2f}"
        elif not self._fits(decision.seconds):
            decision.outcome, decision.why = "stopped", f"it would gain {interval}, beyond the budget"
        else:
            decision.outcome, decision.why = "climbed", f"it would gain {interval}, surely more than {gain:+.3f}"
        if decision.outcome != "climbed":
            decision.tuning_seconds = decision.use_seconds = 0.0

    def _probe(self, rung: Rung, below: Rung, share: float, seed: int, decision: Decision) -> Probe:
        products = rung.products_of(share)
        seconds, answers = self._answered(rung, share, seed)
        _, base = self._answered(below, below.beside(share, products), seed, products)
        known, new = self._judge(products, seed).gains(answers, base)
        if products >= 1:
            new = known.nothing()
        decision.probe_seconds += seconds
        means = {name: None if np.isnan(gains.mean) else gains.mean for name, gains in (("known", known), ("new", new))}
        decision.probes.append({"share": share, "seed": seed, **means, "seconds": round(seconds, 1)})
        return Probe(share, seed, known, new)

    def _answered(self, rung: Rung, share: float, seed: int, products: float | None = None) -> tuple[float, Answers]:
        """How long a probe took, and what the rung then answers."""
        judge = self._judge(rung.products_of(share) if products is None else products, seed)
        key = (rung.strategy, share, seed)
        seconds, embed = rung.probe(share, seed, judge)
        if key not in self._answers:
            self._answers[key] = judge.answers(embed)
        return seconds, self._answers[key]

    def _judge(self, products: float, seed: int) -> Judge:
        if (products, seed) not in self._judges:
            self._judges[products, seed] = Judge(self.whole, cut(self.settings, self.whole, products, seed).learned)
        return self._judges[products, seed]

    # ---- afterwards ----

    def _pay(self, rung: Rung, below: Rung, decision: Decision) -> Tuned:
        tuned = rung.tune()
        decision.tuning_seconds = tuned.seconds
        whole = self._judge(1.0, SEEDS[0])
        ours, theirs = (whole.answers(self._full(each, whole)) for each in (rung, below))
        decision.found = whole.gains(ours, theirs)[0].mean
        return tuned

    def _full(self, rung: Rung, judge: Judge) -> Embed:
        """Vectors of a rung after its whole tuning, without the validation part."""
        return rung.judged(judge)

    def _held_against_base(self, taken: list[tuple[Rung, Tuned]], decisions: list[Decision]) -> Climb:
        """The highest rung that is better than the encoder as it is, and on no kind of product that will be asked about
        worse beyond ``max_drop``; what is above it falls."""
        by_strategy = {decision.strategy: decision for decision in decisions}
        against: dict[str, Forecast] = {}
        while taken:
            rung, _ = taken[-1]
            against = self._against_base(rung)
            weights = {"known": self.limits.known_share, "new": 1 - self.limits.known_share}
            gains = [each for kind, each in against.items() if weights[kind] > 0]
            if any(each.value > 0 for each in gains) and all(each.low > -self.limits.max_drop for each in gains):
                break
            decision = by_strategy[rung.strategy]
            decision.outcome = "fell back"
            decision.why += "; held against the encoder as it is, it was no better"
            _say(decision)
            taken.pop()
        return Climb([tuned for _, tuned in taken], decisions, self.spent, against if taken else {})

    def _against_base(self, rung: Rung) -> dict[str, Forecast]:
        whole, base = self._judge(1.0, SEEDS[0]), AsItIs()
        known, _ = whole.gains(whole.answers(self._full(rung, whole)), whole.answers(self._full(base, whole)))
        compared = {"known": forecast([Probe(1.0, 0, known, known.nothing())], 1.0, 0.95)}
        done = [share for strategy, share, _ in self._answers if strategy == rung.strategy]
        partial = [share for share in done if rung.products_of(share) < 1]
        if not partial:  # tuned at once: nothing was left unlearned
            return compared
        largest = max(partial)
        probes = []
        for seed in SEEDS:
            judge = self._judge(rung.products_of(largest), seed)
            ours = self._answered(rung, largest, seed)[1]
            _, new = judge.gains(ours, judge.answers(base.probe(largest, seed, judge)[1]))
            probes.append(Probe(1.0, seed, new.nothing(), new))
        if any(len(probe.new.sums()[0]) for probe in probes):
            compared["new"] = forecast(probes, 0.0, 0.95)
        return compared


def _say(decision: Decision) -> None:
    print(f"{decision.strategy}: {decision.outcome} ({decision.why})", file=sys.stderr, flush=True)
