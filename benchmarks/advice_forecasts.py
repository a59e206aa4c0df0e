"""What forecasts from samples are worth: a truth table's options, foretold from its samples, and found on all of it.

    python benchmarks/advice_forecasts.py benchmarks/truth/products

The table is one of ``advice_truth.py write``. A row is of all its options of a strategy, joined ones among them, on the
samples of one look of each seed. "Fell" is the mean of what was found less what was measured on the sample, "missed"
the mean of what was foretold less what was found, and "held" how often the 90 % interval, made as an advice makes it,
held what was found: of all options, while an advice speaks of those that were left at its last look.
"""

import argparse
from pathlib import Path

import numpy as np
from advice_truth import Truth, read

from evaluation.advice.answer import LINEAR, PRETRAINED, option_name
from vitrine.cli import advice, advice_answer


def forecasts(truth: Truth, strategy: str, look: int) -> list[tuple[float, float, bool]]:
    """Of each option and seed: by how much it fell, by how much the forecast missed, and whether the interval held."""
    made = []
    for seed in truth.seeds:
        growth = advice_answer.doublings(truth.catalog, truth.samples[seed, look])
        mine = {key: found for key, found in truth.answers.items() if key[2:] == (seed, look)}
        common = np.mean([found.moved(growth) for found in mine.values()], axis=0)
        for encoder in (encoder for encoder, its_strategy, *_ in mine if its_strategy == strategy):
            answers, found = mine[encoder, strategy, seed, look], truth.figures[option_name(encoder, strategy)]
            done = truth.measured(encoder, seed, look)
            _, low, high = advice_answer.expected(truth.catalog, done, strategy, common)
            measured, foretold = float(np.nanmean(answers.values)), float(np.nanmean(answers.moved(growth)))
            made.append((found - measured, foretold - found, low <= found <= high))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    print("| table | strategy | photos | forecasts | fell | missed | held |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for folder in parser.parse_args().folders:
        truth = read(folder)
        for strategy in (PRETRAINED, LINEAR):
            for look in range(len(advice.SIZES) - 1):
                photos = np.mean([len(truth.samples[seed, look].ids) for seed in truth.seeds])
                rows = forecasts(truth, strategy, look)
                fell, missed, held = np.mean(rows, axis=0)
                cells = f"{photos:,.0f} | {len(rows)} | {fell:+.3f} | {missed:+.3f} | {held:.0%}"
                print(f"| {truth.catalog.dataset} | {strategy} | {cells} |")


if __name__ == "__main__":
    main()
