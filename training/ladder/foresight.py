"""What the ladder's rungs would gain, by their probes alone: nothing is tuned in full, and nothing is named.

Probes, judges, forecasts and rules are the ladder's. A rung that is surely worth its cost is what the next one is held
against. What is asked is a sample, so the whole tuning is that of ``scale`` times as many photos.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.ladder.climb import Decision, Ladder, Limits, probe_seconds, say
from training.ladder.forecast import Forecast, NoAnswer
from training.ladder.rungs import Rung, TunedRung
from vitrine.errors import VitrineError
from vitrine.settings import Settings

ESTIMATE_SECONDS = 20.0
"""Of measuring what one tuning would take, in a process of its own."""


@dataclass(frozen=True)
class Foretold:
    """What is known of one rung."""

    strategy: str
    over: str
    """The rung below, which the gain is over."""
    outcome: str
    """``climbed``: surely worth its cost; ``stopped``, ``unclear``, or ``left out``."""
    why: str
    gain: Forecast | None
    """Of mMP@5; None where it was not probed."""
    probe_seconds: float
    tuning_seconds: float
    """Of the whole tuning, about."""
    use_seconds: float
    """Of embedding the catalog and the nights that were stated; a head's are nothing."""


class Foresight(Ladder):
    """The rungs of one encoder on the training set of a sample; ``foretell`` is all of it."""

    def __init__(
        self,
        settings: Settings,
        base: Rung,
        rungs: Sequence[TunedRung],
        limits: Limits,
        within: Callable[[float], bool],
        scale: float,
    ) -> None:
        """``base`` is what the lowest rung is held against. ``within`` says whether so many seconds more may be spent;
        the budget of ``limits`` is not asked."""
        super().__init__(settings, base, rungs, limits)
        self.within, self.scale = within, scale
        self._whole = 0.0  # seconds of tuning the rung on the sample

    def foretell(self) -> list[Foretold]:
        """Probe rung by rung, as far as ``within`` allows."""
        below, found = self.base, []
        for rung in self.rungs:
            decision = Decision(rung.strategy)
            try:
                self._look(rung, below, decision)
            except VitrineError as error:  # such a network cannot be tuned so, or a probe failed
                decision.outcome, decision.why, decision.forecasts = "left out", str(error), []
            except NoAnswer as error:
                decision.outcome, decision.why = "unclear", str(error)
            say(decision)
            found.append(_foretold(decision, below.strategy))
            if decision.outcome == "climbed":
                below = rung
        return found

    def _look(self, rung: Rung, below: Rung, decision: Decision) -> None:
        """
        Raises:
            VitrineError: it cannot be estimated or probed.
            NoAnswer: no probe has a query with an answer.
        """
        takes = ESTIMATE_SECONDS
        if self.within(takes):
            self._whole = rung.estimated_seconds()
            takes = probe_seconds(rung, self._whole)
        if not self.within(takes):
            decision.outcome, decision.why = "left out", f"about {takes:.0f} s of probes are beyond the budget"
            return
        decision.tuning_seconds, decision.use_seconds = self.scale * self._whole, rung.use_seconds()
        self._foretell(rung, below, decision)

    def _may_go_on(self, rung: Rung, number: int, decision: Decision) -> bool:
        return self.within(probe_seconds(rung, self._whole, number))

    def _affords(self, decision: Decision) -> bool:
        return True


def _foretold(decision: Decision, over: str) -> Foretold:
    last = decision.forecasts[-1] if decision.forecasts else None
    return Foretold(
        strategy=decision.strategy,
        over=over,
        outcome=decision.outcome,
        why=decision.why,
        gain=Forecast(last["value"], last["low"], last["high"]) if last else None,
        probe_seconds=decision.probe_seconds,
        tuning_seconds=decision.tuning_seconds,
        use_seconds=decision.use_seconds,
    )
