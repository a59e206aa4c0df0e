"""Top-tuning, by the study's protocol: a search for a perceptron on frozen embeddings, then its long training.

In the tuning's folder ``request.json`` says what is asked for; what comes of it is a head (``vitrine.encoders.heads``)
and ``result.json``. Killed anywhere, the same command goes on where it was and comes to the same head.
"""

import json
import math
import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from training.perceptron import LabelledVectors, Recipe, Trainer, resolve_precision, save_state, use_threads
from training.top_search import Search
from training.training_set import TRAIN, VALIDATION, open_part
from training.trial_workers import SideBySide
from training.tuning_process import RESULT, TuningRequest, read_result
from vitrine import files, vectors
from vitrine.encoders import heads
from vitrine.tuning_sections import TopSettings

_SAVE_SECONDS, _SHOW_SECONDS = 20.0, 10.0
Epochs = list[dict[str, float]]


def tune(folder: Path) -> dict[str, Any]:
    """Search, train, export; what ``result.json`` then says. A folder that has one is done."""
    if result := read_result(folder):
        return result
    tuner = _Tuner(folder)
    recipe, score, trials = tuner.search()
    trainer, epochs, best = tuner.train(recipe)
    heads.save(_head(trainer, tuner.request.classes), folder)
    result = {
        "recipe": asdict(recipe),
        "search_val_accuracy": score,
        "val_accuracy": epochs[best]["val_accuracy"],
        "val_loss": epochs[best]["val_loss"],
        "best_epoch": best + 1,
        "epochs": epochs,
        "trials": trials,
        "seconds": tuner.clock.all(),
    }
    files.write_json(folder / RESULT, result)
    for path in (tuner.data, folder / "search", folder / "histories"):
        shutil.rmtree(path, ignore_errors=True)
    (folder / "training.npz").unlink(missing_ok=True)
    return result


def estimate(folder: Path) -> dict[str, Any]:
    """What ``tune`` would take: an epoch of the middle of the search's space is timed on the rows themselves.

    Returns:
        ``search_seconds``, and ``training_seconds`` where all of ``final_epochs`` were needed, without starts.
    """
    request = TuningRequest.read(folder)
    settings = TopSettings(**request.settings)
    use_threads(max(1, (os.cpu_count() or 1) // settings.executions))
    data = _arrays(folder, request)
    train, validation = (LabelledVectors.open(data, part) for part in (TRAIN, VALIDATION))
    rate, momentum, beta_1 = (sum(getattr(settings, name)) / 2 for name in ("learning_rate", "momentum", "beta_1"))
    layers, units = (sum(getattr(settings, name)) // 2 for name in ("layers", "units"))
    recipe = Recipe(layers, units, settings.optimizers[0], rate, momentum, beta_1, settings.batch_size)

    def epoch_seconds(precision: str) -> float:
        trainer = Trainer(train, validation, len(request.classes), recipe, None, request.seed, precision)
        trainer.epoch(0)  # makes the graph
        started = time.monotonic()
        trainer.epoch(1)
        return time.monotonic() - started

    seconds = epoch_seconds("fp32")
    side_by_side = min(settings.executions, os.cpu_count() or 1)
    epochs = settings.trials * settings.epochs * settings.executions / side_by_side
    return {
        "epoch_seconds": round(seconds, 4),
        "search_seconds": round(epochs * epoch_seconds(resolve_precision(settings.precision)), 1),
        "training_seconds": round(settings.final_epochs * seconds, 1),
    }


class _Clock:
    """Seconds by step, kept over interruptions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spent: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
        self._at = time.monotonic()

    def add(self, step: str) -> None:
        now = time.monotonic()
        self.spent[step] = self.spent.get(step, 0.0) + now - self._at
        self._at = now
        files.write_json(self.path, self.spent)

    def all(self) -> dict[str, float]:
        return {step: round(seconds, 3) for step, seconds in self.spent.items()}


class _Tuner:
    """The two steps of a tuning, each of which goes on where it was killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.request = folder, TuningRequest.read(folder)
        self.settings = TopSettings(**self.request.settings)
        self.data = _arrays(folder, self.request)
        self.parts = LabelledVectors.open(self.data, TRAIN), LabelledVectors.open(self.data, VALIDATION)
        self.scaling = self.parts[0].scaling() if self.settings.standardize else None
        self.clock = _Clock(folder / "seconds.json")

    def search(self) -> tuple[Recipe, float, list[dict[str, Any]]]:
        """The best recipe, its validation accuracy, and all trials."""
        path, settings = self.folder / "searched.json", self.settings
        if not path.is_file():
            classes = len(self.request.classes)
            side_by_side = SideBySide(self.data, classes, self.scaling, settings.executions, settings.precision)
            try:
                search = Search(self.folder, settings, self.request.seed, side_by_side)
                search.search(verbose=0)
                recipe, score = search.best()
                outcome = {"recipe": asdict(recipe), "score": score, "trials": search.trials()}
            finally:
                side_by_side.close()
            self.clock.add("search")
            files.write_json(path, outcome)
        outcome = json.loads(path.read_text())
        return Recipe(**outcome["recipe"]), outcome["score"], outcome["trials"]

    def train(self, recipe: Recipe) -> tuple[Trainer, Epochs, int]:
        """The long training: the epoch that validates best is kept. Returns its trainer, all epochs, and which.

        Raises:
            ArithmeticError: the loss is no number from the first epoch on.
        """
        use_threads(os.cpu_count() or 1)
        settings, classes = self.settings, len(self.request.classes)
        trainer = Trainer(*self.parts, classes, recipe, self.scaling, self.request.seed)
        path = self.folder / "training.npz"
        epochs, best, best_state = _resume(trainer, path)
        saved_at = shown_at = time.monotonic()
        while len(epochs) < settings.final_epochs and (not epochs or len(epochs) - 1 - best < settings.patience):
            epoch = trainer.epoch(len(epochs))
            if not math.isfinite(epoch.loss) or not math.isfinite(epoch.val_loss):
                break  # it diverged: what was best before stays
            epochs.append(asdict(epoch))
            if len(epochs) == 1 or _rank(epochs[-1]) > _rank(epochs[best]):
                best, best_state = len(epochs) - 1, trainer.state()
            now = time.monotonic()
            if now - saved_at > _SAVE_SECONDS:
                self.clock.add("training")
                save_state(path, [*trainer.state(), *best_state], epochs=json.dumps(epochs), best=best)
                saved_at = now
            if now - shown_at > _SHOW_SECONDS:
                accuracy = f"validation accuracy {epoch.val_accuracy:.4f}"
                print(f"epoch {len(epochs)}: {accuracy}", file=sys.stderr, flush=True)
                shown_at = now
        if not epochs:
            raise ArithmeticError(
                f"the loss of the best trial's settings is no number from the first epoch on: {recipe}"
            )
        trainer.restore(best_state)
        self.clock.add("training")
        return trainer, epochs, best


def _resume(trainer: Trainer, path: Path) -> tuple[Epochs, int, list[Any]]:
    """Bring ``trainer`` to what ``path`` keeps, if it is there; the epochs so far, the best one, and its state."""
    state = trainer.state()
    if not path.is_file():
        return [], 0, state
    with np.load(path, allow_pickle=False) as saved:
        count = len(state)
        trainer.restore([saved[f"state_{at}"] for at in range(count)])
        best_state = [saved[f"state_{at}"] for at in range(count, 2 * count)]
        return json.loads(str(saved["epochs"])), int(saved["best"]), best_state


def _rank(epoch: dict[str, float]) -> tuple[float, float]:
    """As the search ranks: by accuracy; the less loss among equals."""
    return epoch["val_accuracy"], -epoch["val_loss"]


def _arrays(folder: Path, request: TuningRequest) -> Path:
    """The training set as arrays that processes map from one file; never more than a batch in memory."""
    made = folder / "arrays"
    if made.is_dir():
        return made
    fresh = folder / f"arrays.{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    for part, count in request.rows.items():
        x: Any = None
        y = np.lib.format.open_memmap(fresh / f"{part}_y.npy", "w+", np.int32, (count,))
        at = 0
        rows = open_part(request.training_set, part)
        for batch in rows.to_batches(columns=["embedding", "label"], batch_size=8192):
            if not len(batch):
                continue
            block = vectors.matrix(batch["embedding"])
            if x is None:
                x = np.lib.format.open_memmap(fresh / f"{part}_x.npy", "w+", np.float32, (count, block.shape[1]))
            x[at : at + len(batch)], y[at : at + len(batch)] = block, batch["label"].to_numpy()
            at += len(batch)
        if at != count:
            place = Path(request.training_set) / part
            raise ValueError(f"{place} has {at} rows, not {count}: remove it, and it is written again")
        x.flush()
        y.flush()
    fresh.replace(made)
    return made


def _head(trainer: Trainer, classes: list[str]) -> heads.Head:
    """The network as matrices, its input's scaling folded into the first one."""
    *dense, last = trainer.model.layers
    layers = [(np.asarray(layer.kernel), np.asarray(layer.bias)) for layer in dense]
    if scaling := trainer.scaling:
        weight, bias = (value.astype(np.float64) for value in layers[0])
        weight = scaling.inverse.astype(np.float64)[:, None] * weight
        layers[0] = (weight.astype(np.float32), (bias - scaling.mean.astype(np.float64) @ weight).astype(np.float32))
    kernel = np.asarray(last.kernel)
    if trainer.recipe.loss == "cosine":
        weight = trainer.recipe.temperature * kernel / np.linalg.norm(kernel, axis=0)
        classifier = (weight.astype(np.float32), np.zeros(len(classes), np.float32))
        return heads.Head(tuple(layers), classifier, tuple(classes), cosine=True)
    return heads.Head(tuple(layers), (kernel, np.asarray(last.bias)), tuple(classes))
