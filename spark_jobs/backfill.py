"""A backfill: an encoder brought to a catalog piece by piece, the wanted photos first, within a budget.

It has no state of its own. What is missing is what the tables say; what it cost so far is what the ``embed`` runs of
the same name left in ``runs``. So it can be stopped anywhere, and goes on with what is missing. Imports no Spark: the
plan answers in a second.
"""

import math
from dataclasses import dataclass
from typing import Any

from vitrine import lake, runs
from vitrine.errors import GateRefused, UserError
from vitrine.runs import BackfillPiece, Bill, EmbedCounts
from vitrine.settings import Settings


@dataclass(frozen=True)
class Budget:
    """What a backfill may cost in all; None: no bound."""

    seconds: float | None = None
    money: float | None = None

    def check(self, settings: Settings, seconds: float, money: float, what: str) -> None:
        """
        Raises:
            GateRefused: ``what`` is beyond it.
            UserError: it is of money, and ``[prices]`` are not set.
        """
        if self.money is not None and not (settings.prices.core_hour or settings.prices.gpu_hour):
            raise UserError("a budget of money needs [prices] in vitrine.toml: without them no money is counted")
        if self.seconds is not None and seconds > self.seconds:
            raise GateRefused(f"{what} {seconds:.0f} s, the budget is {self.seconds:g} s")
        if self.money is not None and money > self.money:
            currency = settings.prices.currency
            raise GateRefused(f"{what} {money:.4f} {currency}, the budget is {self.money:g} {currency}")


def spent(settings: Settings, encoder_version: str, name: str) -> dict[str, float]:
    """What the runs of the backfill ``name`` did and cost: calls, photos, seconds (those of the pass over the photos
    apart), money."""
    embeds = runs.read(settings, lake.matches(verb="embed", encoder_version=encoder_version))
    pieces = [run for run in embeds if run.read(BackfillPiece).backfill == name]
    counts = [run.read(EmbedCounts) for run in pieces]
    return {
        "calls": len(pieces),
        "photos": sum(each.embedded + each.quarantined for each in counts),
        "seconds": float(sum(run.figures.get("seconds", 0.0) for run in pieces)),
        "pass_seconds": sum(run.read(BackfillPiece).pass_seconds for run in pieces),
        "money": sum(run.read(Bill).money for run in pieces),
    }


def estimate(done: dict[str, float], left: int, chunk_rows: int) -> dict[str, float]:
    """Seconds and money of ``left`` photos by the rate so far: each chunk starts Spark anew.

    Money goes with the seconds of the passes, as it is counted.

    Raises:
        UserError: there is no rate yet.
    """
    if not left:
        return {"seconds": 0.0, "money": 0.0}
    if not done["photos"]:
        raise UserError("no photo was embedded by this backfill yet: a pilot of some rows gives the rate")
    passes = left * done["pass_seconds"] / done["photos"]
    starts = math.ceil(left / chunk_rows) * (done["seconds"] - done["pass_seconds"]) / done["calls"]
    return {"seconds": round(passes + starts, 1), "money": round(left * done["money"] / done["photos"], 6)}


def chunks(left: dict[str, int], chunk_rows: int) -> list[dict[str, Any]]:
    """``{"dataset", "rows"}`` of each chunk, data set by data set."""
    return [
        {"dataset": dataset, "rows": min(chunk_rows, count - first)}
        for dataset, count in left.items()
        for first in range(0, count, chunk_rows)
    ]
