"""Top-tuning's search beside the same protocol written plainly: KerasTuner's BayesianOptimization and ``model.fit``.

Both search the same space from the same seed, so that they try the same recipes; 30 epochs and 2 executions a trial,
the stopping of hopeless trials switched off, every start (TensorFlow's too) included. Vitrine runs at the precision of
the plain one and at its default. The data is drawn: classes are clusters on the sphere. Runs are interleaved; scores
say whether all learn the same.

    python benchmarks/top_search.py --rows 20000 --dim 768 --trials 3 --batch-sizes 32 128 512
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from training.top_tuning import load_tensorflow_beside
from vitrine.tuning_sections import TopSettings

CLASSES, EPOCHS, EXECUTIONS, SEED = 100, 30, 2, 0


def draw(folder: Path, rows: int, dim: int) -> None:
    """Arrays as top-tuning keeps them: ``train`` and a tenth as many of ``validation``."""
    random = np.random.default_rng(SEED)
    centres = random.standard_normal((CLASSES, dim), dtype=np.float32)
    folder.mkdir()
    for part, count in (("train", rows), ("validation", rows // 10)):
        labels = random.integers(CLASSES, size=count).astype(np.int32)
        x = centres[labels] + 4 * random.standard_normal((count, dim), dtype=np.float32)
        np.save(folder / f"{part}_x.npy", x / np.linalg.norm(x, axis=1, keepdims=True))
        np.save(folder / f"{part}_y.npy", labels)


def protocol(trials: int, batch_size: int, precision: str = "fp32") -> TopSettings:
    how = {"epochs": EPOCHS, "executions": EXECUTIONS, "stop_hopeless": False, "precision": precision}
    return TopSettings(trials=trials, batch_size=batch_size, **how)


def ours(data: Path, folder: Path, trials: int, batch_size: int, precision: str) -> list[float]:
    load_tensorflow_beside()
    # Not at the top: TensorFlow's load is timed, and goes on beside that of the workers, as in top-tuning itself.
    from training.perceptron import LabelledVectors
    from training.top_search import Search
    from training.trial_workers import SideBySide

    settings = protocol(trials, batch_size, precision)
    side_by_side = SideBySide(data, CLASSES, LabelledVectors.open(data, "train").scaling(), EXECUTIONS, precision)
    search = Search(folder, settings, SEED, side_by_side)
    search.search(verbose=0)
    side_by_side.close()
    return [trial["val_accuracy"] for trial in search.trials()]


def plain(data: Path, folder: Path, trials: int, batch_size: int) -> list[float]:
    import keras
    import keras_tuner

    # Not at the top: TensorFlow's load is timed, and the other way has to start its workers' before its own.
    from training.top_search import recipe_of, space

    settings = protocol(trials, batch_size)
    x, y, vx, vy = (np.load(data / f"{part}_{name}.npy") for part in ("train", "validation") for name in ("x", "y"))
    mean, spread = x.mean(0), x.std(0)
    x, vx = (x - mean) / spread, (vx - mean) / spread

    def build(hp: Any) -> keras.Model:
        recipe = recipe_of(hp.values, settings)
        hidden = [keras.layers.Dense(recipe.units, activation="relu") for _ in range(recipe.layers)]
        model = keras.Sequential([keras.Input((x.shape[1],)), *hidden, keras.layers.Dense(CLASSES)])
        rate, momentum = recipe.learning_rate, recipe.momentum
        optimizers = {
            "sgd": lambda: keras.optimizers.SGD(10 * rate, momentum=momentum, nesterov=momentum > 0),
            "rmsprop": lambda: keras.optimizers.RMSprop(rate, momentum=momentum),
            "adam": lambda: keras.optimizers.Adam(rate, beta_1=recipe.beta_1),
        }
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizers[recipe.optimizer](), loss, metrics=["accuracy"])
        return model

    tuner = keras_tuner.BayesianOptimization(
        build,
        objective="val_accuracy",
        max_trials=trials,
        executions_per_trial=EXECUTIONS,
        num_initial_points=max(3, trials // 4),
        seed=SEED + 1,
        hyperparameters=space(settings),
        directory=str(folder),
        project_name="plain",
    )
    tuner.search(x, y, validation_data=(vx, vy), epochs=EPOCHS, batch_size=batch_size, verbose=0)
    return [trial.score for _, trial in sorted(tuner.oracle.trials.items())]


WAYS = {"plain": plain, "fp32": partial(ours, precision="fp32"), "auto": partial(ours, precision="auto")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 128, 512])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as made:
        data = Path(made) / "data"
        draw(data, given.rows, given.dim)
        print(f"{given.rows} x {given.dim}, {CLASSES} classes, {given.trials} trials, {os.cpu_count()} cores\n")
        print("| batch | way | seconds | times as fast | scores |\n|---|---|---|---|---|")
        for batch_size in given.batch_sizes:
            seconds: dict[str, float] = {}
            for way in WAYS:
                folder = Path(made) / f"{way}-{batch_size}"
                folder.mkdir()
                task = json.dumps([way, str(data), str(folder), given.trials, batch_size])
                started = time.monotonic()
                done = subprocess.run([sys.executable, __file__, "--run", task], capture_output=True, text=True)
                seconds[way] = time.monotonic() - started
                if done.returncode:
                    raise SystemExit(done.stderr[-3000:])
                scores = " ".join(f"{score:.3f}" for score in json.loads((folder / "scores.json").read_text()))
                name = way if way == "plain" else f"Vitrine, {way}"
                times = seconds["plain"] / seconds[way]
                print(f"| {batch_size} | {name} | {seconds[way]:.1f} | {times:.2f} | {scores} |", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.argv[1:2] == ["--run"]:
        way, data, folder, trials, batch_size = json.loads(sys.argv[2])
        scores = WAYS[way](Path(data), Path(folder), trials, batch_size)
        (Path(folder) / "scores.json").write_text(json.dumps(scores))
    else:
        main()
