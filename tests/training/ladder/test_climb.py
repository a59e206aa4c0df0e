"""How the ladder goes from rung to rung, by rungs whose quality is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from training.ladder.climb import Climb, Ladder, Limits
from training.ladder.decide import Budget
from training.ladder.judge import Answers, Judge, Judges
from training.ladder.rungs import AsItIs, TunedRung
from training.training_set import TrainingSet
from vitrine.encoders.tuned import Tuned
from vitrine.settings import Settings


class Sharpened(TunedRung):
    """Moves photos of a learned class together by ``known``, those of other classes by ``new`` (apart below 0)."""

    levels = ((0.08, 0.16),)

    def __init__(self, strategy: str, known: float, new: float = 0.0, seconds: float = 1000.0) -> None:
        self.strategy, self.known, self.new, self.seconds = strategy, known, new, seconds
        self.judges: Judges
        self.probed: list[float] = []
        self.tunings = self.judgements = 0
        super().__init__(self._finish)

    def estimated_seconds(self) -> float:
        return self.seconds

    def probe(self, share: float, seed: int, products: float) -> tuple[float, Answers]:
        self.probed.append(share)
        return share * self.seconds, self._answers(self.judges.of(products, seed))

    def _finish(self) -> Tuned:
        self.tunings += 1
        return Tuned(
            name=self.strategy,
            strategy=self.strategy,
            base="base",
            base_version="1",
            encoder_version="2",
            source_dataset="shop",
            label="product_id",
            training_set="3",
            seed=0,
            folder="",
            dim=16,
            backbone="",
            family="",
            licence="",
            cost={"seconds": self.seconds},
        )

    def judged(self) -> tuple[float, Answers]:
        self.judgements += 1
        return 0.0, self._answers(self.judges.of(1.0, 0))

    def _answers(self, judge: Judge) -> Answers:
        return judge.answers(lambda part: self._moved(judge, part))

    def _moved(self, judge: Judge, part: str) -> Any:
        labels, vectors = judge.labels[part], judge.vectors[part]
        unknown = {*judge.labels["train"][judge.is_new].tolist()}
        strength = np.array([self.new if label in unknown else self.known for label in labels])[:, None]
        random = np.random.default_rng(1)
        centres = random.normal(size=(int(labels.max()) + 1, vectors.shape[1]))
        noise = random.normal(size=vectors.shape)
        moved = vectors + np.where(strength > 0, strength * centres[labels], -strength * noise)
        return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


Climbed = Callable[..., Climb]


@pytest.fixture
def climbed(settings: Settings, written: Callable[..., TrainingSet]) -> Climbed:
    whole = written(classes=200)

    judges = Judges(settings, whole)

    def climb(*rungs: Sharpened, **asked: Any) -> Climb:
        for rung in rungs:
            rung.judges = judges
        limits = {
            "gain": 0.01,
            "budget": Budget(seconds=9000),
            "point_price": None,
            "known_share": 1.0,
            "max_drop": 0.01,
        }
        return Ladder(settings, AsItIs(judges), rungs, Limits(**{**limits, "widen": 1.0, **asked})).climb()

    return climb


def outcomes(done: Climb) -> dict[str, str]:
    return {decision.strategy: decision.outcome for decision in done.decisions}


def test_it_climbs_what_is_surely_better_and_pays_for_nothing_else(climbed: Climbed) -> None:
    rungs = [Sharpened("linear", 0.6), Sharpened("top", 0.3), Sharpened("full", 2.0)]
    done = climbed(*rungs)
    assert outcomes(done) == {"linear": "climbed", "top": "stopped", "full": "climbed"}
    assert [tuned.strategy for tuned in done.taken] == ["linear", "full"]
    assert [rung.tunings for rung in rungs] == [rung.judgements for rung in rungs] == [1, 0, 1]
    assert len(rungs[0].probed) == len({*rungs[0].probed}) * 2  # once a seed
    linear, _, full = done.decisions
    assert linear.found is not None and full.found is not None and linear.found > 0.1 and full.found > 0.1
    assert done.against_base["known"].low > 0.1
    # Two seeds of 8 and 16 % of the products, and the tunings themselves.
    assert done.seconds == pytest.approx(3 * 2 * 240 + 2 * 1000)


def test_noise_is_never_climbed(climbed: Climbed) -> None:
    done = climbed(Sharpened("linear", -0.05), Sharpened("top", -1.0))
    assert done.taken == [] and done.against_base == {} and "climbed" not in outcomes(done).values()


def test_what_is_beyond_the_budget_is_left_out(climbed: Climbed) -> None:
    dear = Sharpened("full", 2.0, seconds=5000)
    done = climbed(Sharpened("linear", 0.6), dear, budget=Budget(seconds=6000))
    assert outcomes(done) == {"linear": "climbed", "full": "left out"} and dear.probed == [] and dear.tunings == 0
    assert "beyond the budget" in done.decisions[1].why


def test_what_is_cheap_is_tuned_at_once_and_judged_afterwards(climbed: Climbed) -> None:
    better, worse = Sharpened("linear", 0.6, seconds=10), Sharpened("top", -1.0, seconds=10)
    done = climbed(better, worse)
    assert outcomes(done) == {"linear": "climbed", "top": "stopped"} and better.tunings == worse.tunings == 1
    assert better.probed == [] and done.seconds == pytest.approx(20)
    assert all("tuned at once" in decision.why for decision in done.decisions)


def test_what_the_budget_holds_ten_times_is_tried_without_a_forecast(climbed: Climbed) -> None:
    rung = Sharpened("full", 0.6, seconds=1000)
    done = climbed(rung, budget=Budget(seconds=11_000))
    assert outcomes(done) == {"full": "climbed"} and rung.probed == [] and rung.tunings == 1
    assert done.decisions[0].found is not None and "tuned at once" in done.decisions[0].why


def test_a_budget_without_room_for_probes_is_spent_on_the_tuning(climbed: Climbed) -> None:
    class ProbedWhole(Sharpened):
        levels = ((0.5, 1.0),)

    rung = ProbedWhole("linear", 0.6, seconds=1000)  # its probes take 3000
    done = climbed(rung, budget=Budget(seconds=1200))
    assert outcomes(done) == {"linear": "climbed"} and rung.probed == [] and done.seconds == pytest.approx(1000)
    of_both = ProbedWhole("linear", 0.6, seconds=1000)  # where new products count, what it does to them is asked
    assert outcomes(climbed(of_both, budget=Budget(seconds=1200), known_share=0.5)) == {"linear": "left out"}
    assert of_both.tunings == 0
    in_part = Sharpened("top", 0.6, seconds=1000)  # what can be probed in part is not paid for without
    assert outcomes(climbed(in_part, budget=Budget(seconds=1200))) == {"top": "left out"} and in_part.tunings == 0


def test_a_gain_has_to_be_worth_its_price(climbed: Climbed, settings: Settings) -> None:
    prices = settings.prices.model_copy(update={"core_hour": 3600.0})
    object.__setattr__(settings, "prices", prices)
    done = climbed(Sharpened("linear", 0.6), point_price=0.01)
    assert outcomes(done) == {"linear": "stopped"} and "is not worth" in done.decisions[0].why
    assert outcomes(climbed(Sharpened("linear", 0.6), point_price=1e6)) == {"linear": "climbed"}


def test_what_costs_new_products_too_much_falls_back(climbed: Climbed) -> None:
    greedy = Sharpened("top", 3.0, new=-0.25)
    done = climbed(greedy, known_share=0.6)
    assert outcomes(done) == {"top": "fell back"} and done.taken == [] and "no better" in done.decisions[0].why
    assert outcomes(climbed(greedy, known_share=1.0)) == {"top": "climbed"}  # where new ones are never asked about
