"""What rungs of known quality are foretold to gain, by probes alone."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.training.ladder.test_climb import Sharpened
from training.ladder.climb import Limits
from training.ladder.decide import Budget
from training.ladder.foresight import ESTIMATE_SECONDS, Foresight, Foretold
from training.ladder.judge import Answers, Judges
from training.ladder.rungs import AsItIs
from training.training_set import TrainingSet
from vitrine.errors import VitrineError
from vitrine.settings import Settings

Foretell = Callable[..., list[Foretold]]


@pytest.fixture
def foretell(settings: Settings, written: Callable[..., TrainingSet]) -> Foretell:
    judges = Judges(settings, written(classes=200))

    def ask(
        *rungs: Sharpened, within: Callable[[float], bool] = lambda seconds: True, scale: float = 1.0, **asked: Any
    ) -> list[Foretold]:
        for rung in rungs:
            rung.judges = judges
        limits = {"gain": 0.01, "budget": Budget(), "point_price": None, "known_share": 1.0, "max_drop": 0.01}
        how = Limits(**{**limits, "widen": 1.0, **asked})
        return Foresight(settings, AsItIs(judges), rungs, how, within, scale).foretell()

    return ask


def test_what_is_worth_it_is_what_the_next_is_held_against_and_nothing_is_tuned(foretell: Foretell) -> None:
    rungs = [Sharpened("top", 0.6), Sharpened("partial", 0.3), Sharpened("full", 2.0)]
    top, partial, full = foretell(*rungs, scale=5.0)
    assert [(each.outcome, each.over) for each in (top, partial, full)] == [
        ("climbed", "pretrained"),
        ("stopped", "top"),
        ("climbed", "top"),
    ]
    assert top.gain and 0.01 < top.gain.low < top.gain.value < top.gain.high and partial.gain and partial.gain.high < 0
    assert [rung.tunings for rung in rungs] == [rung.judgements for rung in rungs] == [0, 0, 0]
    assert top.probe_seconds == pytest.approx(2 * 240)  # two seeds of 8 and 16 %
    assert top.tuning_seconds == 5000  # the catalog has five times the sample's photos


def test_what_is_cheap_is_probed_all_the_same(foretell: Foretell) -> None:
    rung = Sharpened("top", 0.6, seconds=1)
    (found,) = foretell(rung)
    assert (found.outcome, rung.tunings, len(rung.probed)) == ("climbed", 0, 4)


def test_what_does_not_fit_is_not_begun(foretell: Foretell) -> None:
    dear, cheap = Sharpened("full", 2.0, seconds=5000), Sharpened("top", 0.6)
    top, full = foretell(cheap, dear, within=lambda seconds: seconds < 1000)
    assert (top.outcome, full.outcome, full.gain, dear.probed) == ("climbed", "left out", None, [])
    assert full.why == "about 2412 s of probes are beyond the budget"
    nothing = Sharpened("top", 0.6)
    (found,) = foretell(nothing, within=lambda seconds: seconds < ESTIMATE_SECONDS)
    assert (found.outcome, nothing.probed) == ("left out", [])


def test_a_level_more_is_probed_where_it_is_unclear_and_fits(foretell: Foretell) -> None:
    class TwoLevels(Sharpened):
        levels = ((0.08, 0.16), (0.5,))

    for most, shares in ((2000.0, {0.08, 0.16, 0.5}), (800.0, {0.08, 0.16})):
        rung = TwoLevels("top", 0.004)
        (found,) = foretell(rung, within=lambda seconds: seconds < most, gain=0.005)  # noqa: B023
        assert found.outcome == "unclear" and {*rung.probed} == shares


def test_a_probe_that_fails_leaves_its_rung_out_and_the_next_is_asked(foretell: Foretell) -> None:
    class Broken(Sharpened):
        levels = ((0.08, 0.16), (0.5,))

        def probe(self, share: float, seed: int, products: float) -> tuple[float, Answers]:
            if share > self.known:
                raise VitrineError("its parts do not follow each other")
            return super().probe(share, seed, products)

    at_once, later = Broken("partial", 0.0), Broken("low_rank", 0.2)
    partial, low_rank, full = foretell(at_once, later, Sharpened("full", 2.0), widen=1e6)
    for found in (partial, low_rank):  # whatever an earlier level said
        assert (found.outcome, found.gain) == ("left out", None) and "do not follow" in found.why
    assert at_once.probed == [] and {*later.probed} == {0.08, 0.16}
    assert (full.outcome, full.over) == ("unclear", "pretrained")


def test_the_next_rung_is_held_against_what_is_below_one_that_failed(foretell: Foretell) -> None:
    class Broken(Sharpened):
        def probe(self, share: float, seed: int, products: float) -> tuple[float, Answers]:
            raise VitrineError("its parts do not follow each other")

    _, full = foretell(Broken("partial", 1.0), Sharpened("full", 2.0))
    assert (full.outcome, full.over) == ("climbed", "pretrained")
