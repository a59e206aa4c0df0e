"""Full tuning, by timm's A2 procedure with timm's own parts: all weights of a network, on photos.

Source: Wightman, Touvron, Jégou, ResNet strikes back (arXiv 2110.00476), table 2, A2. Runs in processes of its own
(``python -m training.full_tuning FOLDER``), one or several; ``FOLDER`` holds ``request.json``, and what comes of it are
``model.safetensors`` and ``result.json``. Killed anywhere, the same command goes on after its last whole epoch, and
comes to the same weights.
"""

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from timm.data import Mixup
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from training import head_first
from training.classifier_layer import Classifier, loss_of
from training.photo_loader import Photos, RepeatedShuffle, augmented, loader, seed_all
from training.training_set import TRAIN, VALIDATION
from training.tuning_process import RESULT, FullTuningRequest, read_result, run
from vitrine import files
from vitrine.encoders import processor, tuned
from vitrine.encoders.allocator import keep_freed_memory
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.networks import build
from vitrine.encoders.projected import named
from vitrine.tuning_sections import FullSettings, NetworkSettings


class Tuner:
    """One process's part of a tuning: the network, its classifier, and all that an epoch needs."""

    kind: type[NetworkSettings] = FullSettings
    measure = "val_accuracy"
    """What the best epoch is chosen by: the name of ``score`` in ``result.json``."""

    def __init__(self, folder: Path, learns: bool = True) -> None:
        """``learns``: false for an estimate, which needs nothing that takes long."""
        self.folder, self.learns = folder, learns
        self.request = FullTuningRequest.read(folder)
        self.settings: Any = self.kind(**self.request.settings)
        self.rank = distributed.get_rank() if distributed.is_initialized() else 0
        self.ranks = distributed.get_world_size() if distributed.is_initialized() else 1
        local = int(os.environ.get("LOCAL_RANK", "0"))
        self.device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
        if self.device.type == "cpu":
            torch.set_flush_denormal(True)
            keep_freed_memory()
        self.bf16 = self._computes_bf16()
        torch.manual_seed(self.request.seed)
        self._backbone = Backbone(**{**self.request.backbone, "facts": None})
        self.built = build(self._backbone, drop_path=self.settings.drop_path)
        network: Any = self.made()
        network.to(self.device, memory_format=torch.channels_last)  # processors and tensor cores are quicker with it
        if self.ranks > 1 and self.device.type == "cuda":
            network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self.network, self.dim = network, self.built.dim
        self.prepare()
        self.fitting_seconds = 0.0
        begun = (folder / "last.pt").is_file()
        if learns and self.fits_first and not begun and self.rank == 0:  # other processes get it from this one
            started = time.monotonic()
            self.fit()
            self.fitting_seconds = round(time.monotonic() - started, 3)
            print(f"the last layer is fitted, {self.fitting_seconds:.0f} s", file=sys.stderr, flush=True)
        self.ema = ModelEmaV3(network, decay=self.settings.ema) if self.settings.ema else None
        self.optimizer = create_optimizer_v2(
            network,
            self.settings.optimizer,
            lr=self.settings.scaled_learning_rate,
            weight_decay=self.settings.weight_decay,
            layer_decay=self.settings.layer_decay,
        )
        self.loss = self.loss_of_step()
        self.mixup = self._mixup()
        self.parallel: Any = self._parallel()

    def made(self) -> Any:
        """The module that learns: the network, ``self.built``, and a layer on it."""
        return Classifier(self.built, len(self.request.classes), self.settings)

    def loss_of_step(self) -> Any:
        """What takes the module's output, and what the photos come with, to a number."""
        return loss_of(self.settings, self.network)

    @property
    def fits_first(self) -> bool:
        """Is the layer fitted to the frozen network before all learns?"""
        return self.request.from_head

    @property
    def passes_beside(self) -> int:
        """Forward passes of photos beside those of the epochs."""
        rows = self.request.rows
        return rows[TRAIN] + head_first.photos_asked(rows) if self.request.from_head else 0

    def fit(self) -> None:
        seed_all(self.request.seed)  # it meets augmented photos next, and has to tell them apart
        learned = head_first.features(self.built, self.augmented(), head_first.FITTED, self.device)
        aside = head_first.features(self.built, self.plain(VALIDATION), head_first.ROWS[VALIDATION], self.device)
        self.network.start_from(learned, aside)

    def _computes_bf16(self) -> bool:
        if self.settings.precision != "auto":
            return self.settings.precision == "bf16"
        on_gpu = self.device.type == "cuda"
        return torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else processor.has_bf16()

    def _mixup(self) -> Mixup | None:
        mixed = {name: getattr(self.settings, name, 0) for name in ("mixup", "cutmix")}
        if not any(mixed.values()):
            return None
        return Mixup(mixed["mixup"], mixed["cutmix"], label_smoothing=0.0, num_classes=len(self.request.classes))

    def _parallel(self) -> torch.nn.Module:
        if self.ranks == 1:
            return self.network
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(self.network, device_ids=devices)

    def prepare(self) -> None:
        """What is to be done with the network before it learns."""

    def photos(self, part: str, transform: Any) -> Photos:
        how = self.built.min_side, self.request.max_pixels, self.built.managed
        return Photos(self.request.training_set, part, transform, *how)

    def plain(self, part: str) -> Any:
        """A part's photos as embedding sees them."""
        return self.photos(part, self.built.transform)

    def augmented(self) -> Any:
        """The training part's photos as they are learned from."""
        return self.photos(TRAIN, augmented(self.built, self.settings.rand_augment, self.settings.crop))

    def epoch(self, number: int, photos: Any, scheduler: CosineLRScheduler, steps: int) -> float:
        """Every photo's share of steps once; the mean loss.

        Raises:
            ArithmeticError: the loss is no number any more.
        """
        settings, mine = self.settings, self.settings.batch_size // self.ranks
        sampler = RepeatedShuffle(len(photos), settings.repeats, self.rank, self.ranks, self.request.seed)
        sampler.epoch = number
        self.parallel.train()
        if settings.keep_statistics:
            head_first.keep_statistics(self.network)
        total, seen = 0.0, 0
        batches = loader(photos, sampler, mine, settings.workers, self.request.seed, number)
        for step, (x, y) in enumerate(batches):
            x, y = self.placed(x), y.to(self.device, non_blocking=True)
            if self.mixup and len(x) % 2 == 0:
                x, y = self.mixup(x, y)
            scheduler.step_update(number * steps + step)
            loss = self.step(x, y)
            if not math.isfinite(loss):
                raise ArithmeticError(
                    f"the loss of epoch {number + 1} is {loss}: try a smaller [tune.{settings.strategy}] learning_rate "
                    f"than {settings.learning_rate:g}; the last whole epoch is kept"
                )
            total, seen = total + loss * len(x), seen + len(x)
        return total / max(seen, 1)

    def step(self, x: torch.Tensor, y: torch.Tensor) -> float:
        """One step of the optimiser, its gradients gathered over parts that the memory holds."""
        part = self.settings.micro_batch or len(x)
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for first in range(0, len(x), part):
            last = first + part >= len(x)
            share = len(x[first : first + part]) / len(x)
            with self._without_sync(last), self._mixed():
                loss = self.loss(self.parallel(x[first : first + part]).float(), y[first : first + part]) * share
            with self._without_sync(last):
                loss.backward()
            total += float(loss.detach())
        self.optimizer.step()
        if self.ema:
            self.ema.update(self.network)
        return total

    def placed(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.device, non_blocking=True, memory_format=torch.channels_last)

    def _without_sync(self, last: bool) -> Any:
        parallel = isinstance(self.parallel, DistributedDataParallel)
        return self.parallel.no_sync() if parallel and not last else contextlib.nullcontext()

    def _mixed(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def score(self, photos: Any) -> float:
        """Mean of ``right`` over the validation part, by the averaged weights where there are some."""
        network = self.learned
        network.eval()
        total, count = 0.0, 0
        size = self.settings.micro_batch or self.settings.batch_size // self.ranks
        with torch.inference_mode(), self._mixed():
            for x, y in torch.utils.data.DataLoader(photos, size, num_workers=self.settings.workers):
                total += float(self.right(network(self.placed(x)).float().cpu(), y).sum())
                count += len(y)
        return total / count

    def right(self, made: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """How right each photo of the validation part is, (B,): whether its class is told."""
        return made.argmax(1) == y

    def unreadable(self, *parts: Any) -> int:
        """How many photos of ``parts`` could not be read so far, by any of the processes."""
        marked = torch.cat([part.unreadable for part in parts]).to(self.device, torch.int32)
        if self.ranks > 1:
            distributed.all_reduce(marked, distributed.ReduceOp.MAX)
        return int(marked.sum())

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])

    @property
    def learned(self) -> Any:
        """The module with the averaged weights, where there are some."""
        return self.ema.module if self.ema else self.network

    def weights(self) -> dict[str, torch.Tensor]:
        """The network without its classifier, as its source names the tensors."""
        return named(self.learned.network, self._backbone.source)

    def judged(self, weights: Path) -> dict[str, Any]:
        """What is found out of the best epoch's ``weights`` in the end; it goes into ``result.json``."""
        return {}

    def start(self) -> dict[str, torch.Tensor]:
        """``weights`` as they were before."""
        return named(build(self._backbone).network, self._backbone.source)

    def found_again(self, weights: dict[str, torch.Tensor]) -> float:
        """How well photos left aside are found by the network with these weights: mMP@5."""
        path = self.folder / "between.safetensors"
        save_file(weights, path)
        built = build(replace(self._backbone, weights=str(path), encoder_version=None, revision=None))
        path.unlink()
        return head_first.found_again(
            *(head_first.features(built, self.plain(part), most, self.device) for part, most in head_first.ROWS.items())
        )


def tune(folder: Path, kind: type[Tuner] = Tuner) -> dict[str, Any]:
    """Train for the epochs that the request asks for; what ``result.json`` then says. A folder that has one is done."""
    if result := read_result(folder):
        return result
    with _processes():
        tuner = kind(folder)
        epochs = _train(tuner)
        best = max(range(len(epochs)), key=lambda at: epochs[at][tuner.measure])
        result = {
            tuner.measure: epochs[best][tuner.measure],
            "best_epoch": best + 1,
            "epochs": epochs,
            "unreadable": max(epoch["unreadable"] for epoch in epochs),
            "dim": tuner.dim,
            "processes": tuner.ranks,
            "gpus": tuner.ranks if tuner.device.type == "cuda" else 0,
            "seconds": {"training": round(sum(epoch["seconds"] for epoch in epochs), 3)},
        }
        if tuner.rank == 0:
            kept = folder / "best.safetensors"
            result |= tuner.judged(kept if kept.is_file() else folder / tuned.WEIGHTS)
            if tuner.request.from_head:
                started, way = time.monotonic(), (tuner.start(), load_file(kept))
                result["interpolation"] = head_first.go_back(*way, tuner.found_again, folder / tuned.WEIGHTS)
                result["seconds"]["interpolation"] = round(time.monotonic() - started, 3)
            elif kept.is_file():  # not so where a run was killed right after this line
                kept.replace(folder / tuned.WEIGHTS)
            if tuner.fits_first:
                result["seconds"]["fitting"] = tuner.fitting_seconds
            files.write_json(folder / RESULT, result)
            for path in (kept, folder / "last.pt"):
                path.unlink(missing_ok=True)
    return result


def estimate(folder: Path, steps: int = 2, kind: type[Tuner] = Tuner) -> dict[str, Any]:
    """What ``tune`` would take in one process: some steps, after a first one, are timed on the photos themselves.

    Returns:
        ``training_seconds`` of all epochs, without the validation and starts.
    """
    tuner = kind(folder, learns=False)
    photos = tuner.augmented()
    each = seconds_a_photo(tuner, photos, steps)
    # A forward pass alone takes about a third of a step.
    seconds = each * (len(photos) * tuner.settings.epochs + tuner.passes_beside / 3)
    return {"photos_per_second": round(1 / each, 2), "training_seconds": round(seconds, 1)}


def seconds_a_photo(tuner: Tuner, photos: Any, steps: int) -> float:
    """Of a step, reading and augmenting included; a first one is left out."""
    settings = tuner.settings
    sampler = RepeatedShuffle(len(photos), settings.repeats, 0, 1, tuner.request.seed)
    size = min(settings.micro_batch or settings.batch_size, len(photos))
    batches = iter(loader(photos, sampler, size, settings.workers, tuner.request.seed, 0))
    tuner.parallel.train()
    tuner.mixup = None
    seconds = []
    for _ in range(min(steps + 1, max(1, len(photos) // size))):
        started = time.monotonic()
        x, y = next(batches)
        tuner.step(tuner.placed(x), y.to(tuner.device))
        seconds.append(time.monotonic() - started)
    return (sum(seconds[1:]) / len(seconds[1:]) if seconds[1:] else seconds[0]) / size


def _train(tuner: Tuner) -> list[dict[str, float]]:
    settings, folder = tuner.settings, tuner.folder
    train, validation = tuner.augmented(), tuner.plain(VALIDATION)
    steps = max(1, len(train) // settings.batch_size)
    scheduler = CosineLRScheduler(
        tuner.optimizer,
        t_initial=settings.epochs * steps,
        lr_min=settings.least_learning_rate,
        warmup_t=min(settings.warmup_epochs, settings.epochs - 1) * steps,
        warmup_lr_init=settings.warmup_learning_rate,
        t_in_epochs=False,
    )
    epochs: list[dict[str, float]] = []
    if (folder / "last.pt").is_file():
        kept = torch.load(folder / "last.pt", map_location=tuner.device, weights_only=True)
        tuner.fitting_seconds = kept.get("fitting_seconds", 0.0)
        tuner.restore(kept["state"])
        epochs = kept["epochs"]
    while len(epochs) < settings.epochs:
        started = time.monotonic()
        loss = tuner.epoch(len(epochs), train, scheduler, steps)
        epoch = {"loss": loss, tuner.measure: tuner.score(validation), "seconds": time.monotonic() - started}
        epoch["unreadable"] = tuner.unreadable(train, validation)
        epochs.append({key: round(value, 6) for key, value in epoch.items()})
        if tuner.rank == 0:
            _keep(tuner, epochs)
            measured = f"validation {tuner.measure.removeprefix('val_')} {epochs[-1][tuner.measure]:.4f}"
            said = "loss {loss:.4f}, {measured}, {seconds:.0f} s".format(**epochs[-1], measured=measured)
            print(f"epoch {len(epochs)} of {settings.epochs}: {said}", file=sys.stderr, flush=True)
    return epochs


def _keep(tuner: Tuner, epochs: list[dict[str, float]]) -> None:
    """Write the best weights, then the last state, which says whose they are; each file is whole at any moment."""
    best = max((epoch[tuner.measure] for epoch in epochs[:-1]), default=-math.inf)
    try:
        if epochs[-1][tuner.measure] > best:
            with files.whole(tuner.folder / "best.safetensors") as fresh:
                save_file(tuner.weights(), fresh)
        with files.whole(tuner.folder / "last.pt") as fresh:
            torch.save({"state": tuner.state(), "epochs": epochs, "fitting_seconds": tuner.fitting_seconds}, fresh)
    except (SafetensorError, RuntimeError) as error:  # what the libraries make of a full disk
        raise OSError(f"cannot write the checkpoint of epoch {len(epochs)} into {tuner.folder}: {error}") from None


@contextlib.contextmanager
def _processes() -> Iterator[None]:
    """Join the other processes, where torchrun or Spark's TorchDistributor started several."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several:
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        if several:
            distributed.destroy_process_group()


if __name__ == "__main__":
    run(tune, estimate, sys.argv[1:])
