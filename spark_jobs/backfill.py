"""A backfill: an encoder brought to a catalog piece by piece, the wanted photos first, within a budget.

It has no state of its own. What is missing is what the tables say; what it cost so far is what the ``embed`` runs of
the same name left in ``runs``. So it can be stopped anywhere, and goes on with what is missing. Imports no Spark: the
plan answers in a second.
"""

import math
from dataclasses import dataclass
from typing import Any

from vitrine import lake
from vitrine.errors import GateRefused, UserError
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


def missing(settings: Settings, dataset: str, encoder: str, encoder_version: str) -> int:
    """Photos of ``dataset`` without a vector of the version; those that it could not embed are not counted."""
    name, version = lake.quote(dataset), lake.quote(encoder_version)
    sql = (
        f"SELECT count(*) AS n FROM (SELECT * FROM catalog WHERE dataset = {name}) c LEFT ANTI JOIN "
        f"(SELECT image_id, content_sha256 FROM embeddings WHERE dataset = {name} AND encoder_version = {version}) e "
        "ON c.image_id = e.image_id AND c.content_sha256 = e.content_sha256 LEFT ANTI JOIN "
        f"(SELECT image_id FROM quarantine WHERE dataset = {name} AND stage = 'embed' "
        f"AND encoder = {lake.quote(encoder)}) q ON c.image_id = q.image_id"
    )
    return int(lake.rows(settings, sql)[0]["n"])


def spent(settings: Settings, encoder_version: str, name: str) -> dict[str, float]:
    """What the runs of the backfill ``name`` did and cost: calls, photos, seconds (those of the pass over the photos
    apart), money."""
    sql = f"SELECT figures FROM runs WHERE verb = 'embed' AND encoder_version = {lake.quote(encoder_version)}"
    runs = [
        found for row in lake.rows(settings, sql) if (found := lake.figures(row["figures"])).get("backfill") == name
    ]
    sums = {key: float(sum(run.get(key, 0) for run in runs)) for key in ("seconds", "pass_seconds", "money")}
    photos = sum(run.get("embedded", 0) + run.get("quarantined", 0) for run in runs)
    return {"calls": len(runs), "photos": photos, **sums}


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
