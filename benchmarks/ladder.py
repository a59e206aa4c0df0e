"""Does the ladder of ``vitrine tune auto`` decide well? Replayed from probes and tunings that were kept, beside rules.

The probes and whole tunings are those of benchmarks/ladder_curves.py; what is decided is decided by ``training.ladder``
itself. The thresholds are chosen on one half of the tasks and reported on the other. The regret of a rule is what the
best strategy that the budget allows retrieves more (mMP@5 of the split ``test``) than the one that the rule ends with;
its cost is that of the probes, the tuning, and of embedding the catalog and ninety nights with a network of its own.

    python benchmarks/ladder.py benchmarks/ladder_curves.parquet
"""

import argparse
import contextlib
import io
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.ladder.climb import Climb, Ladder, Limits
from training.ladder.decide import Budget
from training.ladder.forecast import ByQuery
from training.ladder.judge import Answers
from training.ladder.rungs import PROBED_PRODUCTS, Rung, TunedRung
from vitrine.encoders import tuned
from vitrine.settings import Settings, load_settings

CHOSEN_ON = ("fine5", "fine10", "packages", "coarse5", "sketched", "a_third_wrong")
"""Tasks that the thresholds are chosen on; the rate, loss and temperature of tuning from a head were too, on fine5 and
packages."""
RUNGS = ("linear", "top", "from_head", "full")
LEVELS = {"linear": ((0.5, 1.0),), "top": ((0.125, 0.25), (0.5,)), "from_head": ((0.2, 0.4),), "full": ((0.1, 0.2),)}
USED = 1.9
"""Times that the catalog is embedded: once, and a hundredth of it in ninety nights."""
GAINS, CONFIDENCES = (0.0, 0.005, 0.01, 0.02, 0.04), (0.5, 0.8, 0.9)
BUDGETS = {"a tenth": 0.1, "a third": 0.35, "as full": 1.0, "any": float("inf")}
"""In costs of full tuning."""
RESAMPLES = 2000


class Run:
    """What is kept of one task and seed."""

    def __init__(self, task: str, seed: int, rows: Iterable[dict[str, Any]]) -> None:
        self.task, self.seed, self.rows = task, seed, {}
        for row in rows:
            known, new = (ByQuery(np.array(row[k]), np.array(row[f"{k}_class"], int)) for k in ("known", "new"))
            place = row["strategy"], row["kind"], row["share"], row["probe_seed"]
            self.rows[place] = (row["seconds"], Answers(known, new))
            self.photos = int(row["photos"])
        self.strategies = [name for name in RUNGS if (name, "asked", 1.0, 0) in self.rows]

    def worth(self, strategy: str) -> float:
        """mMP@5 of the split ``test``."""
        return self.by_query(strategy).mean

    def by_query(self, strategy: str) -> ByQuery:
        return self.rows[strategy, "asked", 1.0, 0][1].known

    def use(self, strategy: str) -> float:
        return USED * self.rows[strategy, "asked", 1.0, 0][0] if strategy not in ("pretrained", *tuned.HEADS) else 0.0

    def tuning(self, strategy: str) -> float:
        return float(self.rows[strategy, "judged", 1.0, 0][0]) if strategy != "pretrained" else 0.0

    def cost(self, strategy: str) -> float:
        return self.tuning(strategy) + self.use(strategy)

    def best(self, budget: float) -> float:
        affordable = ["pretrained", *(name for name in self.strategies if self.cost(name) <= budget)]
        return max(map(self.worth, affordable))


class KeptRung(TunedRung):
    """A rung whose probes and tuning were kept."""

    start_seconds = 0.0

    def __init__(self, run: Run, strategy: str) -> None:
        super().__init__(lambda: SimpleNamespace(name=strategy, cost={"seconds": run.tuning(strategy)}))  # type: ignore[arg-type,return-value]
        self.run, self.strategy, self.levels = run, strategy, LEVELS.get(strategy, ())
        self.is_network = strategy not in ("pretrained", *tuned.HEADS)
        self.probe_cost = PROBED_PRODUCTS if self.is_network else 1.0
        self.least_cost = float(strategy == "linear")

    def estimated_seconds(self) -> float:
        return self.run.tuning(self.strategy)

    def use_seconds(self) -> float:
        return self.run.use(self.strategy)

    def products_of(self, share: float) -> float:
        return PROBED_PRODUCTS if self.is_network else share

    def beside(self, share: float, products: float) -> float:
        # Of so few epochs, a tenth and a fifth are the same number.
        return max(share, 0.2) if self.is_network else products

    def probe(self, share: float, seed: int, products: float) -> tuple[float, Answers]:
        return self.run.rows[self.strategy, "probe", share, seed]

    def judged(self) -> tuple[float, Answers]:
        return 0.0, self.run.rows[self.strategy, "judged", 1.0, 0][1]


@dataclass(frozen=True)
class Ended:
    """What a rule ended with, in one run."""

    strategy: str
    cost: float
    climb: Climb | None = None


Rule = Callable[[Run, float], Ended]


def ladder(settings: Settings, gain: float, level: float) -> Rule:
    def decide(run: Run, budget: float) -> Ended:
        limits = Limits(gain, Budget(seconds=budget), None, 1.0, settings.gates.max_drop, 1.0, level)
        base: Rung = KeptRung(run, "pretrained")
        steps = [KeptRung(run, name) for name in run.strategies]
        with contextlib.redirect_stderr(io.StringIO()):
            done = Ladder(settings, base, steps, limits).climb()
        return Ended(done.taken[-1].name if done.taken else "pretrained", done.seconds, done)

    return decide


def always(strategy: str) -> Rule:
    """That strategy, or the encoder as it is where the budget does not allow it."""
    return lambda run, budget: _if_allowed(run, strategy, budget)


def full_if_more(photos: int) -> Rule:
    """Full tuning from so many photos on, else top-tuning."""
    return lambda run, budget: _if_allowed(run, "full" if run.photos > photos else "top", budget)


def _if_allowed(run: Run, strategy: str, budget: float) -> Ended:
    chosen = strategy if run.cost(strategy) <= budget else "pretrained"
    return Ended(chosen, run.cost(chosen))


def halving(run: Run, budget: float) -> Ended:
    """Successive halving (ASHA's rule, arXiv 1810.05934, one after the other): all strategies at the smallest probe,
    the better half at the next, the best of those in full."""
    left = [name for name in run.strategies if run.cost(name) <= budget]
    spent = 0.0
    for step in (0, 1):
        found = {}
        for name in left:
            share = [each for level in LEVELS[name] for each in level][step]
            products = PROBED_PRODUCTS if name not in tuned.HEADS else share
            seconds, answers = run.rows[name, "probe", share, 0]
            base = run.rows["pretrained", "probe", products, 0][1]
            spent += seconds
            found[name] = answers.known.over(base.known).mean
        left = sorted(found, key=found.__getitem__, reverse=True)[: max(1, len(left) // 2)]
    chosen = left[0] if left and spent + run.cost(left[0]) <= budget else "pretrained"
    return Ended(chosen, spent + run.cost(chosen))


def regrets(rule: Rule, runs: list[Run], share: float) -> NDArray[np.float64]:
    return np.array([_regret(run, rule(run, _budget(run, share)), share) for run in runs])


def _budget(run: Run, share: float) -> float:
    return share * run.cost("full")


def _regret(run: Run, ended: Ended, share: float) -> float:
    return run.best(_budget(run, share)) - run.worth(ended.strategy)


def chosen(settings: Settings, runs: list[Run]) -> tuple[Rule, str]:
    """The thresholds of the least mean regret over all budgets."""
    options = list(itertools.product(GAINS, CONFIDENCES))
    means = [
        np.mean([regrets(ladder(settings, *each), runs, share).mean() for share in BUDGETS.values()])
        for each in options
    ]
    gain, level = options[int(np.argmin(means))]
    return ladder(settings, gain, level), f"gain {gain:g}, intervals of {level:.0%}"


def least_photos(runs: list[Run]) -> int:
    """From how many photos on full tuning is the better of it and top-tuning, by the least mean regret."""
    counts = [0, *sorted(run.photos for run in runs)]
    means = [
        np.mean([regrets(full_if_more(count), runs, share).mean() for share in BUDGETS.values()]) for count in counts
    ]
    return counts[int(np.argmin(means))]


def difference(runs: list[Run], one: str, other: str) -> tuple[float, float, float]:
    """mMP@5 of ``one`` minus that of ``other`` over a task's seeds: mean, 95 % interval by resampled classes."""
    random, draws = np.random.default_rng(0), []
    for run in runs:
        sums, counts = run.by_query(one).over(run.by_query(other)).sums()
        drawn = random.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), RESAMPLES)
        draws.append((drawn @ sums) / (drawn @ counts))
    mean = float(np.mean([run.worth(one) - run.worth(other) for run in runs]))
    low, high = np.quantile(np.mean(draws, axis=0), [0.025, 0.975])
    return mean, float(low), float(high)


def show_strategies(runs: list[Run]) -> None:
    names = ("pretrained", "linear", "top", "partial", "from_head", "full")
    costs = "CPU s: linear, top, from a head, full"
    print(f"| task | photos | as it is | {' | '.join(names[1:])} | linear - top | {costs} |")
    print("|---" * 10 + "|")
    for task, mine in itertools.groupby(runs, lambda run: run.task):
        group = list(mine)
        worth = [f"{np.mean([run.worth(name) for run in group]):.3f}" for name in names]
        mean, low, high = difference(group, "linear", "top")
        costs = ", ".join(f"{np.mean([run.tuning(name) for run in group]):.0f}" for name in RUNGS)
        photos = f"{np.mean([run.photos for run in group]):.0f}"
        print(f"| {task} | {photos} | {' | '.join(worth)} | {mean:+.3f} ({low:+.3f} to {high:+.3f}) | {costs} |")


def show_rules(rules: dict[str, Rule], runs: list[Run]) -> None:
    print("| rule | budget | mean regret | worst | cost, of full tuning | more than 0.01 below as it is |")
    print("|---" * 6 + "|")
    for (said, share), (name, rule) in itertools.product(BUDGETS.items(), rules.items()):
        ended = [(run, rule(run, _budget(run, share))) for run in runs]
        lost = [_regret(run, each, share) for run, each in ended]
        cost = np.mean([each.cost / run.cost("full") for run, each in ended])
        below = np.mean([run.worth(each.strategy) < run.worth("pretrained") - 0.01 for run, each in ended])
        print(f"| {name} | {said} | {np.mean(lost):.3f} | {max(lost):.3f} | {cost:.2f} | {below:.0%} |")


def show_intervals(rule: Rule, runs: list[Run]) -> None:
    """How often what was found lay in the interval that was said before, and what was climbed on shuffled labels."""
    held = []
    for run in runs:
        done = rule(run, float("inf")).climb
        for decision in done.decisions if done else []:
            if decision.forecast_known and decision.found is not None:
                held.append(decision.forecast_known.low <= decision.found <= decision.forecast_known.high)
    shuffled = [rule(run, float("inf")).strategy for run in runs if run.task == "shuffled"]
    climbed = sum(strategy != "pretrained" for strategy in shuffled)
    print(f"Intervals that held: {sum(held)} of {len(held)}.")
    print(f"Shuffled labels: climbed in {climbed} of {len(shuffled)} runs.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", type=Path)
    given = parser.parse_args()
    settings = load_settings()
    rows = sorted(pq.read_table(given.curves).to_pylist(), key=lambda row: (row["task"], row["seed"]))
    grouped = itertools.groupby(rows, lambda row: (row["task"], row["seed"]))
    runs = [run for key, mine in grouped if (run := Run(*key, mine)).strategies == list(RUNGS)]
    first = [run for run in runs if run.task in CHOSEN_ON]
    others = [run for run in runs if run.task not in CHOSEN_ON]
    rule, thresholds = chosen(settings, first)
    photos = least_photos(first)
    print(f"{len(runs)} runs of {len({run.task for run in runs})} tasks\n")
    show_strategies(runs)
    rules = {"ladder": rule, "ladder, defaults": ladder(settings, settings.tune.auto.gain, 0.9)}
    rules |= {f"always {name}": always(name) for name in RUNGS}
    rules |= {f"full if more than {photos} photos, else top": full_if_more(photos), "successive halving": halving}
    print(f"\nChosen on {', '.join(sorted({run.task for run in first}))}: {thresholds}. On the others:\n")
    show_rules(rules, others)
    print()
    show_intervals(rule, runs)


if __name__ == "__main__":
    main()
