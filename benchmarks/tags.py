"""What tags are worth where the truth is known: classes held out, and training labels swapped.

    python benchmarks/tags.py --dataset shop --label category --encoder efficientnet_lite0
    python benchmarks/tags.py --dataset shop --label category --encoder efficientnet_lite0 squeezenet \\
        --kinds discriminants ridge perceptron

Run where vitrine.toml is, once the encoders have embedded the data set. The second form prints a table: what each kind
of classifier says of the split that is reported. Accuracy has its 95 % interval by product, the precision of the tags
the lower bound that the gate asks for (``[tags] independent``).
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from evaluation.classification.classification_metrics import NAMES, classification_intervals
from evaluation.classification.tag_answers import ask_reported
from evaluation.gates.tags import precision_of
from training import tagger
from training.training_set import TRAIN, VALIDATION, TrainingSet, first_ids, first_rows
from vitrine.cli.training_sets import training_sets
from vitrine.encoders.classifiers import UNLIKE, Classifier
from vitrine.settings import Settings, load_settings
from vitrine.vectors import Floats, lists

HELD_OUT, SWAPPED, LISTED, DRAWS = 10, 0.05, 100, 5
Parts = dict[str, tuple[Floats, np.ndarray, np.ndarray]]
"""Vectors, classes and image ids."""


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--dataset", required=True)
    asked.add_argument("--label", required=True)
    asked.add_argument("--encoder", required=True, nargs="+")
    asked.add_argument("--kinds", nargs="+", default=[], help="A row of figures for each encoder and kind, no more.")
    given = asked.parse_args()
    settings = load_settings()
    if given.kinds:
        print(
            "| encoder | kind | accuracy | coverage | precision of tags | seconds |\n|---|---|---|---|---|---|",
            flush=True,
        )
    for encoder in given.encoder:
        (rows,) = training_sets(settings, [(given.dataset, encoder)], given.label, None).values()
        parts = {part: read(rows, part) for part in (TRAIN, VALIDATION)}
        for kind in given.kinds:
            print(of_kind(settings, rows, parts, kind), flush=True)
        if not given.kinds:
            print(json.dumps(with_faults(settings, rows, parts), indent=1))


def of_kind(settings: Settings, rows: TrainingSet, parts: Parts, kind: str) -> str:
    """A row of the table: what a classifier of this kind alone says of the reported split."""
    alone = settings.model_copy(update={"tags": settings.tags.model_copy(update={"kinds": (kind,)})})
    started = time.monotonic()
    made = learned(alone, rows, parts, rows.classes)
    took = time.monotonic() - started
    answers = ask_reported(alone, made)
    figures = precision_of(answers, alone.tags)
    low, high = classification_intervals(answers.predictions, answers.products)[NAMES.index("accuracy")]
    tags = f"{figures['precision']:.3f} (from {figures['low']:.3f})" if made.about.can_tag else "no threshold"
    columns = [rows.encoder, kind, f"{figures['accuracy']:.3f} ({low:.3f} to {high:.3f})", f"{figures['coverage']:.3f}"]
    return f"| {' | '.join([*columns, tags, f'{took:.1f}'])} |"


def with_faults(settings: Settings, rows: TrainingSet, parts: Parts) -> dict[str, Any]:
    """What it says of the reported split, of classes held out, and of swapped labels."""
    now = learned(settings, rows, parts, rows.classes)
    held = [held_out(settings, rows, parts, np.random.default_rng(seed)) for seed in range(DRAWS)]
    return {
        "validation": now.about.validation,
        "reported": precision_of(ask_reported(settings, now), settings.tags),
        "held_out": held,
        "swapped": [swapped(settings, rows, parts, np.random.default_rng(seed)) for seed in range(2)],
        "held_out_total": {name: sum(draw[name] for draw in held) for name in ("photos", "not_too_far", "tagged")},
    }


def read(rows: TrainingSet, part: str) -> tuple[Floats, np.ndarray, np.ndarray]:
    ids = first_ids(rows.folder, part, 10**9).to_numpy(zero_copy_only=False)
    return (*first_rows(rows.folder, part, 10**9), ids)


def held_out(settings: Settings, rows: TrainingSet, parts: Parts, chance: np.random.Generator) -> dict[str, Any]:
    """Photos of ten classes that were not learned, how many of them were not too far, and tagged; and what became of
    the reported split's photos of the others."""
    out = chance.choice(len(rows.classes), HELD_OUT, replace=False)
    kept = np.setdiff1d(np.arange(len(rows.classes)), out)
    number = np.full(len(rows.classes), -1)
    number[kept] = np.arange(len(kept))
    inside = {
        part: (x[number[y] >= 0], number[y[number[y] >= 0]], ids[number[y] >= 0]) for part, (x, y, ids) in parts.items()
    }
    made = learned(settings, rows, inside, [rows.classes[at] for at in kept])
    said = made.tag(np.concatenate([x[number[y] < 0] for x, y, _ in parts.values()]))
    answers = ask_reported(settings, made)
    known = answers.tagged[answers.known]
    return {
        "photos": len(said.best),
        "not_too_far": len(said.best) - said.reasons.count(UNLIKE),
        "tagged": said.reasons.count(None),
        "rule": made.about.rule,
        "coverage_of_known": float(known.mean()),
        "precision_of_known": float(answers.right[answers.known][known].mean()) if known.any() else None,
    }


def swapped(settings: Settings, rows: TrainingSet, parts: Parts, chance: np.random.Generator) -> dict[str, int]:
    """Training labels that were swapped, and how many are among the first hundred of the view ``tags_to_review``."""
    x, y, ids = parts[TRAIN]
    wrong = chance.choice(len(y), int(SWAPPED * len(y)), replace=False)
    labels = y.copy()
    labels[wrong] = (y[wrong] + chance.integers(1, len(rows.classes), len(wrong))) % len(rows.classes)
    said = learned(settings, rows, {**parts, TRAIN: (x, labels, ids)}, rows.classes).tag(x)
    sure = np.array([reason is None for reason in said.reasons])
    disagreeing = np.flatnonzero(sure & (said.best != labels))
    first = disagreeing[np.argsort(-said.probability[disagreeing], kind="stable")][:LISTED]
    return {"labels": len(wrong), "in_first_100": int(np.isin(first, wrong).sum())}


def learned(settings: Settings, rows: TrainingSet, parts: Parts, classes: list[str]) -> Classifier:
    with tempfile.TemporaryDirectory() as folder:
        for part, (x, y, ids) in parts.items():
            (Path(folder) / part).mkdir()
            table = pa.table({"image_id": ids, "label": pa.array(y, pa.int32()), "embedding": lists(x)})
            pyarrow.parquet.write_table(table, Path(folder) / part / "part-0.parquet")
        sizes = {part: len(y) for part, (_, y, _) in parts.items()}
        return tagger.learn(settings, replace(rows, folder=folder, classes=classes, **sizes))


if __name__ == "__main__":
    main()
