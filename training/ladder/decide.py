"""The rules of the ladder: what may be spent, and whether a forecast says to climb. No input, no output."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.ladder.forecast import Forecast
from vitrine.errors import UserError

LEVEL = 0.9
"""Of the intervals; the chance outside of it is shared by all rungs that are asked about."""
FEWEST_ERRORS = 5
"""Earlier forecasts, below which their errors say nothing yet."""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

Verdict = Literal["climb", "stop", "unclear"]


@dataclass(frozen=True)
class Budget:
    """What the whole may take: clock seconds of the tuning processes, or money by ``[prices]``; None: as it comes."""

    seconds: float | None = None
    money: float | None = None

    @classmethod
    def parse(cls, text: str | None, currency: str, priced: bool) -> "Budget":
        """``30m``, ``2h``, ``90s``, ``1d``, or an amount in the currency of ``[prices]``, as ``2EUR``.

        Raises:
            UserError: it is neither, or no price is set.
        """
        if text is None:
            return cls()
        given = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", text.strip())
        amount, unit = (float(given[1]), given[2]) if given else (0.0, "")
        if unit in _UNITS and amount > 0:
            return cls(seconds=amount * _UNITS[unit])
        if given is None or unit.upper() != currency.upper() or amount <= 0:
            choices = f"a time as 90s, 30m, 2h or 1d, or an amount as 2{currency}"
            raise UserError(f"--budget {text!r}: give {choices}")
        if not priced:
            raise UserError(f"--budget {text!r} is money, and [prices] has no core_hour or gpu_hour: set one")
        return cls(money=amount)

    def allows(self, seconds: float, money: float) -> bool:
        """May so much be spent?"""
        return (self.seconds is None or seconds <= self.seconds) and (self.money is None or money <= self.money)


def level_of(rungs: int, level: float = LEVEL) -> float:
    """The level of one rung's interval: all together are wrong in at most 1 - ``level`` of the cases (Bonferroni)."""
    return 1 - (1 - level) / max(1, rungs)


def widening(errors: Sequence[float]) -> float:
    """How many times as wide intervals have to be, by what earlier ones missed.

    ``errors``: of each the distance of what was found from the forecast, in halves of its interval.
    """
    if len(errors) < FEWEST_ERRORS:
        return 1.0
    return max(1.0, float(np.quantile(np.abs(errors), LEVEL)))


def verdict(predicted: Forecast, gain: float) -> Verdict:
    """Climb where even the low end is above ``gain``, stop where not even the high end is."""
    if predicted.low > gain:
        return "climb"
    return "stop" if predicted.high < gain else "unclear"


def is_worth(predicted: Forecast, money: float, point_price: float | None) -> bool:
    """Is what a rung surely gains worth ``money``, at ``point_price`` for 0.01 of mMP@5?"""
    return point_price is None or predicted.low / 0.01 * point_price >= money
