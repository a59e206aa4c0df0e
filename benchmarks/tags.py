"""What tags are worth where the truth is known: classes held out, and training labels swapped.

    python benchmarks/tags.py --dataset shop --label category --encoder efficientnet_lite0

Run where vitrine.toml is, after ``vitrine tag`` has learned a classifier of that label: its training set is taken.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from evaluation.gates.tags import ask_reported
from training import tagger
from training.training_set import ABOUT, TRAIN, VALIDATION, TrainingSet, first_rows, read_training_set
from vitrine import facts
from vitrine.encoders import classifiers
from vitrine.encoders.classifiers import Classifier
from vitrine.settings import Settings, load_settings
from vitrine.vectors import Floats, lists

HELD_OUT, SWAPPED, LISTED, DRAWS = 10, 0.05, 100, 2
Parts = dict[str, tuple[Floats, np.ndarray]]


def main() -> None:
    asked = argparse.ArgumentParser()
    for name in ("dataset", "label", "encoder"):
        asked.add_argument(f"--{name}", required=True)
    asked = asked.parse_args()
    settings = load_settings()
    row = facts.tagging(settings, asked.dataset, asked.label)
    now = classifiers.load(settings, row["classifier_version"])
    written = map(read_training_set, (path.parent for path in (settings.home / "training").rglob(ABOUT)))
    rows = next(each for each in written if each.fingerprint == row["training_set"])
    parts = {part: first_rows(rows.folder, part, 10**9) for part in (TRAIN, VALIDATION)}
    draws = [np.random.default_rng(seed) for seed in range(DRAWS)]
    held = [held_out(settings, rows, parts, chance) for chance in draws]
    swaps = [swapped(settings, rows, parts, chance) for chance in draws]
    figures = {
        "reported": ask_reported(settings, now).figures(settings.tags.confidence),
        "held_out": {"photos": sum(of for of, _ in held), "tagged": sum(tagged for _, tagged in held)},
        "swapped": {"labels": sum(of for of, _ in swaps), "in_first_100": [hits for _, hits in swaps]},
    }
    print(json.dumps(figures, indent=1))


def held_out(settings: Settings, rows: TrainingSet, parts: Parts, chance: np.random.Generator) -> tuple[int, int]:
    """Photos of ten classes that were not learned, and how many of them were tagged."""
    out = chance.choice(len(rows.classes), HELD_OUT, replace=False)
    kept = np.setdiff1d(np.arange(len(rows.classes)), out)
    number = np.full(len(rows.classes), -1)
    number[kept] = np.arange(len(kept))
    inside = {part: (x[number[y] >= 0], number[y[number[y] >= 0]]) for part, (x, y) in parts.items()}
    made = learned(settings, rows, inside, [rows.classes[at] for at in kept])
    strange = np.concatenate([x[number[y] < 0] for x, y in parts.values()])
    return len(strange), made.tag(strange).reasons.count(None)


def swapped(settings: Settings, rows: TrainingSet, parts: Parts, chance: np.random.Generator) -> tuple[int, int]:
    """Training labels that were swapped, and how many are among the first hundred of the view ``tags_to_review``."""
    x, y = parts[TRAIN]
    wrong = chance.choice(len(y), int(SWAPPED * len(y)), replace=False)
    labels = y.copy()
    labels[wrong] = (y[wrong] + chance.integers(1, len(rows.classes), len(wrong))) % len(rows.classes)
    said = learned(settings, rows, {**parts, TRAIN: (x, labels)}, rows.classes).tag(x)
    sure = np.array([reason is None for reason in said.reasons])
    disagreeing = np.flatnonzero(sure & (said.best != labels))
    first = disagreeing[np.argsort(-said.probability[disagreeing], kind="stable")][:LISTED]
    return len(wrong), int(np.isin(first, wrong).sum())


def learned(settings: Settings, rows: TrainingSet, parts: Parts, classes: list[str]) -> Classifier:
    with tempfile.TemporaryDirectory() as folder:
        for part, (x, y) in parts.items():
            (Path(folder) / part).mkdir()
            table = pa.table({"label": pa.array(y, pa.int32()), "embedding": lists(x)})
            pyarrow.parquet.write_table(table, Path(folder) / part / "part-0.parquet")
        sizes = {part: len(y) for part, (_, y) in parts.items()}
        return tagger.learn(settings, replace(rows, folder=folder, classes=classes, **sizes))


if __name__ == "__main__":
    main()
