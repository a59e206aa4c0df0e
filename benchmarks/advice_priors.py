"""The order in which encoders are measured, replayed on public results: what is lost after so many encoders.

Each of the six tasks of evaluation/advice/priors.csv is left out in turn: orders know the other five, and find the
left-out one's R@1 out by measuring one model after the other, on a sample of so many queries (binomial noise). After
each model the best one measured is taken: regret is what it lacks, without noise, to the best of all 46.

"chosen on the other tasks" takes, for each left-out task, the order among the others that does best after three
encoders where each of the five known tasks is left out in turn: nothing of the left-out task decides it.

    python benchmarks/advice_priors.py --queries 600 --draws 40 --seeds 0 1 2
"""

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from evaluation.advice import order, priors
from evaluation.advice.order import BELIEFS, Measured
from evaluation.advice.priors import Candidate

STEPS, SHOWN = 8, (3, 8)
FAMILIES = {"captioning": "contrastive", "sigmoid contrastive": "contrastive", "generative": "generative"}
Order = Callable[[list[Candidate], dict[str, Measured], np.random.Generator], Candidate]


def static(candidates: list[Candidate], measured: dict[str, Measured], _: np.random.Generator) -> Candidate:
    return max((each for each in candidates if each.name not in measured), key=lambda each: each.prior)


def random(candidates: list[Candidate], measured: dict[str, Measured], chance: np.random.Generator) -> Candidate:
    left = [each for each in candidates if each.name not in measured]
    return left[chance.integers(len(left))]


def bounded(beliefs: order.Beliefs, each_pretraining: bool, families: dict[str, str] | None = None) -> Order:
    """By the upper bound; of no more than that where nothing is left to gain: by the prior."""

    def choose(candidates: list[Candidate], measured: dict[str, Measured], chance: np.random.Generator) -> Candidate:
        if families is not None:
            candidates = [
                replace(each, pretraining=families.get(each.pretraining, each.pretraining)) for each in candidates
            ]
        found = order.next_to_measure(candidates, measured, beliefs, each_pretraining=each_pretraining)
        return found or static(candidates, measured, chance)

    return choose


ORDERS: dict[str, Order] = {
    "static order": static,
    "random": random,
    "upper bound alone": bounded(BELIEFS, False),
    "best of each family, then upper bound": bounded(BELIEFS, True, FAMILIES),
    "best of each pre-training, then upper bound": bounded(BELIEFS, True),
}
CHOSEN = "chosen on the other tasks"


def regrets(
    choose: Order, known: list[int], task: int, queries: int, chance: np.random.Generator, steps: int
) -> np.ndarray:
    """What the best one measured lacks after 1, 2, ... ``steps`` models, (steps,)."""
    public = priors.public()
    scores, truth = priors.standard_scores(public.recall[:, known]), public.recall[:, task]
    candidates = [Candidate(*each) for each in zip(public.models, public.pretrainings, scores, strict=True)]
    at = {name: number for number, name in enumerate(public.models)}
    noisy = chance.binomial(queries, truth) / queries
    measured: dict[str, Measured] = {}
    lost = []
    for _ in range(steps):
        name = choose(candidates, measured, chance).name
        value = noisy[at[name]]
        measured[name] = Measured(value, max(value * (1 - value), 0.01) / queries)
        taken = max(measured, key=lambda each: measured[each].value)
        lost.append(truth.max() - truth[at[taken]])
    return np.array(lost)


def chosen_for(task: int, queries: int, draws: int, seed: int) -> Order:
    """The order that does best on the other tasks, each left out in turn."""
    others = [each for each in range(len(priors.public().tasks)) if each != task]

    def mean(choose: Order) -> float:
        lost = [
            regrets(
                choose,
                [each for each in others if each != left],
                left,
                queries,
                np.random.default_rng((seed, left, draw)),
                3,
            )[-1]
            for left in others
            for draw in range(draws)
        ]
        return float(np.mean(lost))

    return min(ORDERS.values(), key=mean)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--queries", type=int, default=600)
    asked.add_argument("--draws", type=int, default=40)
    asked.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = asked.parse_args()
    tasks = priors.public().tasks
    print(
        f"| order | {' | '.join(f'after {each} encoders' for each in SHOWN)} | worst task after 3 |",
        f"\n| --- |{' --- |' * 3}",
        sep="",
    )
    for name in (*ORDERS, CHOSEN):
        by_seed = []
        for seed in asked.seeds:
            lost = []
            for task in range(len(tasks)):
                choose = ORDERS.get(name) or chosen_for(task, asked.queries, 10, seed)
                known = [each for each in range(len(tasks)) if each != task]
                lost.append(
                    [
                        regrets(choose, known, task, asked.queries, np.random.default_rng((seed, task, draw)), STEPS)
                        for draw in range(asked.draws)
                    ]
                )
            by_seed.append(np.mean(lost, axis=1))
        means = np.array(by_seed)  # seeds, tasks, steps
        cells = [f"{means[:, :, n - 1].mean():.4f} ± {means[:, :, n - 1].mean(1).std(ddof=1):.4f}" for n in SHOWN]
        worst = means[:, :, 2].mean(0)
        print(f"| {name} | {' | '.join(cells)} | {worst.max():.4f} ({tasks[worst.argmax()]}) |", flush=True)


if __name__ == "__main__":
    main()
