"""Top-tuning, by the study's protocol: a search for a perceptron on frozen embeddings, then its long training.

Runs in a process of its own (``python -m training.top_tuning FOLDER``): TensorFlow and torch never share one.
``FOLDER`` holds ``request.json``; what comes of it is a head (``vitrine.encoders.heads``) and ``result.json``. Killed
anywhere, the same command goes on where it was and comes to the same head.
"""

import json
import math
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pyarrow.dataset

from training.trial_workers import SideBySide, load_tensorflow_beside
from training.tuning_process import run
from vitrine import files
from vitrine.encoders import heads
from vitrine.settings import TopSettings

if TYPE_CHECKING:  # TensorFlow takes seconds to load, and workers import this module too
    from training.perceptron import Recipe, Scaling, Trainer

_SAVE_SECONDS = 20.0


@dataclass(frozen=True)
class Request:
    """What is to be tuned: plain data, as ``request.json`` holds it."""

    training_set: str
    """The training set's folder."""
    rows: dict[str, int]
    """How many ``train/`` and ``validation/`` have."""
    classes: list[str]
    settings: dict[str, Any]
    """Of ``TopSettings``."""
    seed: int


def tune(folder: Path) -> dict[str, Any]:
    """Search, train, export; what ``result.json`` then says. A folder that has one is done."""
    done = folder / "result.json"
    if done.is_file():
        return dict(json.loads(done.read_text()))
    request = Request(**json.loads((folder / "request.json").read_text()))
    settings = TopSettings(**request.settings)
    load_tensorflow_beside()
    data = _arrays(Path(request.training_set), folder, request.rows)
    from training.perceptron import Rows

    train = Rows.open(data, "train")
    scaling = train.scaling() if settings.standardize else None
    clock = _Clock(folder / "seconds.json")
    recipe, score, trials = _search(folder, data, request, settings, scaling, clock)
    trainer, epochs, best = _train(folder, data, request, settings, recipe, scaling, clock)
    heads.save(_head(trainer, scaling, request.classes), folder)
    result = {
        "recipe": asdict(recipe),
        "search_val_accuracy": score,
        "val_accuracy": epochs[best]["val_accuracy"],
        "val_loss": epochs[best]["val_loss"],
        "best_epoch": best + 1,
        "epochs": epochs,
        "trials": trials,
        "seconds": clock.all(),
    }
    files.write_json(done, result)
    for path in (data, folder / "search", folder / "histories"):
        shutil.rmtree(path, ignore_errors=True)
    (folder / "training.npz").unlink(missing_ok=True)
    return result


def estimate(folder: Path) -> dict[str, Any]:
    """What ``tune`` would take: an epoch of the middle of the search's space is timed on the rows themselves.

    Returns:
        ``search_seconds``, and ``training_seconds`` where all of ``final_epochs`` were needed, without starts.
    """
    from training.perceptron import Recipe, Rows, Trainer, resolve_precision, use_threads

    request = Request(**json.loads((folder / "request.json").read_text()))
    settings = TopSettings(**request.settings)
    use_threads(max(1, (os.cpu_count() or 1) // settings.executions))
    parts = [Rows.open(_arrays(Path(request.training_set), folder, request.rows), part) for part in request.rows]
    rate, momentum, beta_1 = (sum(getattr(settings, name)) / 2 for name in ("learning_rate", "momentum", "beta_1"))
    layers, units = (sum(getattr(settings, name)) // 2 for name in ("layers", "units"))
    recipe = Recipe(layers, units, settings.optimizers[0], rate, momentum, beta_1, settings.batch_size)

    def epoch_seconds(precision: str) -> float:
        trainer = Trainer(parts[0], parts[1], len(request.classes), recipe, None, request.seed, precision)
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


def _arrays(source: Path, folder: Path, rows: dict[str, int]) -> Path:
    """The training set as arrays that processes map from one file; never more than a batch in memory."""
    made = folder / "arrays"
    if made.is_dir():
        return made
    fresh = folder / f"arrays.{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    for part, count in rows.items():
        files = sorted(str(path) for path in (source / part).glob("*.parquet"))
        x: Any = None
        y = np.lib.format.open_memmap(fresh / f"{part}_y.npy", "w+", np.int32, (count,))
        at = 0
        for batch in pyarrow.dataset.dataset(files).to_batches(columns=["embedding", "label"], batch_size=8192):
            if not len(batch):
                continue
            vectors = batch["embedding"].flatten().to_numpy().reshape(len(batch), -1)
            if x is None:
                x = np.lib.format.open_memmap(fresh / f"{part}_x.npy", "w+", np.float32, (count, vectors.shape[1]))
            x[at : at + len(batch)], y[at : at + len(batch)] = vectors, batch["label"].to_numpy()
            at += len(batch)
        if at != count:
            raise ValueError(f"{source / part} has {at} rows, not {count}: remove it, and it is written again")
        x.flush()
        y.flush()
    fresh.replace(made)
    return made


def _search(
    folder: Path, data: Path, request: Request, settings: TopSettings, scaling: "Scaling | None", clock: _Clock
) -> tuple["Recipe", float, list[dict[str, Any]]]:
    from training.perceptron import Recipe
    from training.top_search import Search

    kept = folder / "searched.json"
    if not kept.is_file():
        side_by_side = SideBySide(data, len(request.classes), scaling, settings.executions, settings.precision)
        try:
            search = Search(folder, settings, request.seed, side_by_side)
            search.search(verbose=0)
            recipe, score = search.best()
            found = {"recipe": asdict(recipe), "score": score, "trials": search.trials()}
        finally:
            side_by_side.close()
        clock.add("search")
        files.write_json(kept, found)
    said = json.loads(kept.read_text())
    return Recipe(**said["recipe"]), said["score"], said["trials"]


def _train(
    folder: Path,
    data: Path,
    request: Request,
    settings: TopSettings,
    recipe: "Recipe",
    scaling: "Scaling | None",
    clock: _Clock,
) -> tuple["Trainer", list[dict[str, float]], int]:
    """The long training: the epoch that validates best is kept. Returns its trainer, all epochs, and which."""
    from training.perceptron import Rows, Trainer, save_state, use_threads

    use_threads(os.cpu_count() or 1)
    parts = Rows.open(data, "train"), Rows.open(data, "validation")
    trainer = Trainer(*parts, len(request.classes), recipe, scaling, request.seed)
    epochs: list[dict[str, float]] = []
    best, best_state = 0, trainer.state()
    kept = folder / "training.npz"
    if kept.is_file():
        with np.load(kept, allow_pickle=False) as saved:
            epochs, best = json.loads(str(saved["epochs"])), int(saved["best"])
            count = len(best_state)
            trainer.restore([saved[f"state_{at}"] for at in range(count)])
            best_state = [saved[f"state_{at}"] for at in range(count, 2 * count)]
    saved_at = said_at = time.monotonic()
    while len(epochs) < settings.final_epochs and (not epochs or len(epochs) - 1 - best < settings.patience):
        epoch = trainer.epoch(len(epochs))
        if not math.isfinite(epoch.loss) or not math.isfinite(epoch.val_loss):
            break  # it diverged: what was best before stays
        epochs.append(asdict(epoch))
        if len(epochs) == 1 or _rank(epochs[-1]) > _rank(epochs[best]):
            best, best_state = len(epochs) - 1, trainer.state()
        now = time.monotonic()
        if now - saved_at > _SAVE_SECONDS:
            clock.add("training")
            save_state(kept, [*trainer.state(), *best_state], epochs=json.dumps(epochs), best=best)
            saved_at = now
        if now - said_at > 10:
            print(f"epoch {len(epochs)}: validation accuracy {epoch.val_accuracy:.4f}", file=sys.stderr, flush=True)
            said_at = now
    if not epochs:
        raise ArithmeticError(f"the loss of the best trial's settings is no number from the first epoch on: {recipe}")
    trainer.restore(best_state)
    clock.add("training")
    return trainer, epochs, best


def _rank(epoch: dict[str, float]) -> tuple[float, float]:
    """As the search ranks: by accuracy; the less loss among equals."""
    return epoch["val_accuracy"], -epoch["val_loss"]


def _head(trainer: "Trainer", scaling: "Scaling | None", classes: list[str]) -> heads.Head:
    """The network as matrices, its input's scaling folded into the first one."""
    layers = [(np.asarray(layer.kernel), np.asarray(layer.bias)) for layer in trainer.model.layers]
    if scaling:
        weight, bias = (value.astype(np.float64) for value in layers[0])
        weight = scaling.inverse.astype(np.float64)[:, None] * weight
        layers[0] = (weight.astype(np.float32), (bias - scaling.mean.astype(np.float64) @ weight).astype(np.float32))
    *hidden, classifier = layers
    return heads.Head(tuple(hidden), classifier, tuple(classes))


def main(folder: Path, estimating: bool) -> None:
    run(tune, estimate, folder, estimating)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] == ["--estimate"])
