"""What embedding takes: measured by earlier passes where there are some, else guessed by the network's arithmetic."""

import os
from dataclasses import dataclass
from typing import Any, Self

from evaluation.advice import answer
from vitrine import lake, runs
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import backbones
from vitrine.runs import BackfillPiece, Bill, EmbedCounts
from vitrine.settings import Settings

_START, _NEXT = 15.0, 5.0
"""Seconds of a first pass beside its photos, and of each that follows in one process."""
_DECODED, _A_GFLOP, _UNKNOWN = 0.01, 0.01, 0.05
"""Seconds of a photo on two cores: decoding, each GFLOP of its network (ResNet-50's 8.2: 12 photos/s), a network of
which that is not known."""


@dataclass(frozen=True)
class Rate:
    """What the largest pass of an encoder took for each photo."""

    photos: int
    seconds: float
    money: float


@dataclass(frozen=True)
class Spent:
    """What the passes of one advice took."""

    passes: int = 0
    seconds: float = 0.0
    money: float = 0.0

    def and_of(self, figures: dict[str, Any]) -> Self:
        """This and one more pass's."""
        return type(self)(
            self.passes + 1,
            self.seconds + float(figures.get("pass_seconds", 0.0)),
            self.money + float(figures.get("money", 0.0)),
        )

    def money_of(self, settings: Settings, seconds: float) -> float:
        """What ``seconds`` of the advice cost: passes as they were counted, all else as this machine's cores."""
        beside = max(0.0, seconds - self.seconds) / 3600 * (os.cpu_count() or 1) * settings.prices.core_hour
        return self.money + beside


class Costs:
    """What using encoders on a data set takes."""

    def __init__(self, settings: Settings, dataset: str) -> None:
        self.settings, self.dataset = settings, dataset

    def rate(self, **of: str) -> Rate | None:
        """By the largest pass of that encoder, or version; None where there was none."""
        best = None
        for run in runs.read(self.settings, lake.matches(verb="embed", state="done", **of)):
            computed, bill, piece = run.read(EmbedCounts).computed, run.read(Bill), run.read(BackfillPiece)
            if computed and (best is None or computed >= best.photos):
                seconds = piece.pass_seconds or run.seconds
                best = Rate(computed, seconds / computed, bill.money / computed)
        return best

    def sample_seconds(self, backbone: "backbones.Backbone", photos: int, started: bool) -> float:
        """What embedding so many more photos is going to take, with the start; 0 of none."""
        if not photos:
            return 0.0
        rate = self.rate(encoder=backbone.name)
        gflops = backbone.facts.gflops if backbone.facts else None
        guessed = _UNKNOWN if gflops is None else _DECODED + _A_GFLOP * gflops
        return (_NEXT if started else _START) + photos * (rate.seconds if rate else guessed)

    def use(self, encoded: EncodedSet, photos: int) -> "answer.Use":
        """What embedding ``photos`` and the nights after take, rounded as it is shown."""
        rate = self.rate_of(encoded)
        if rate is None:
            return answer.Use(None, None, None, None, None)
        changed = photos * self.settings.tune.auto.changed_share
        return answer.Use(
            photos_per_second=round(1 / rate.seconds, 2),
            first_night_seconds=round(photos * rate.seconds, 1),
            first_night_money=round(photos * rate.money, 6),
            night_seconds=round(changed * rate.seconds, 2),
            night_money=round(changed * rate.money, 8),
        )

    def horizon_seconds(self, encoded: EncodedSet, photos: int) -> float:
        """Seconds of embedding ``photos`` and of all the nights that ``[tune.auto] nights`` counts; 0 where no rate is
        known. Not rounded: a night's seconds are hundredths in a small catalog, and are multiplied here."""
        rate, ladder = self.rate_of(encoded), self.settings.tune.auto
        return photos * rate.seconds * (1 + ladder.nights * ladder.changed_share) if rate else 0.0

    def rate_of(self, encoded: EncodedSet) -> Rate | None:
        """Of joined encoders the sum, as if each had a pass of its own; None where one has had no pass."""
        rates = [rate for part in encoded.parts if (rate := self.rate(encoder_version=part.encoder_version))]
        if len(rates) < len(encoded.parts):
            return None
        photos = min(rate.photos for rate in rates)
        return Rate(photos, sum(rate.seconds for rate in rates), sum(rate.money for rate in rates))
