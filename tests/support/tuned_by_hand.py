"""Tuned encoders as tuning leaves them, of random numbers: nothing is learned, all the rest is real."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from safetensors.torch import save_file

from vitrine.encoders import by_name, heads, tuned
from vitrine.settings import Settings


def make_head(
    settings: Settings, name: str, strategy: str, base: str, widths: tuple[int, ...], shorter: int | None = None
) -> None:
    """A head on ``base``, which may be several joined, of layers from each of ``widths`` to the next; ``shorter``: to
    how many dimensions a codec on it brings its vectors."""
    random = np.random.default_rng(len(name))
    layers = tuple(
        (random.normal(size=(inputs, units)).astype(np.float32), random.normal(size=units).astype(np.float32))
        for inputs, units in pairwise(widths)
    )
    no_classes = np.zeros((widths[-1], 0), np.float32), np.zeros(0, np.float32)
    head = heads.Head(layers, no_classes, (), activation="relu" if strategy == "top" else "linear")
    if shorter:
        head = head.shortened(
            random.normal(size=(widths[-1], shorter)).astype(np.float32),
            random.normal(size=shorter).astype(np.float32),
        )
    folder = _folder(settings, strategy, name)
    heads.save(head, folder)
    base_version = by_name.joined_version(settings, base)
    version = heads.version(base_version, head)
    _register(settings, folder, name=name, strategy=strategy, base=base, encoder_version=version, dim=head.dim)


def make_full(settings: Settings, name: str, base: str, seed: int) -> None:
    """``base``, a SqueezeNet 1.0 of 64 pixels, with weights of its own."""
    folder = _folder(settings, "full", name)
    torch.manual_seed(seed)
    save_file(torchvision.models.squeezenet1_0(weights=None).state_dict(), folder / tuned.WEIGHTS)
    about = {"name": name, "strategy": "full", "base": base, "dim": 512, "input_size": 64}
    _register(settings, folder, encoder_version="", **about)
    _register(settings, folder, encoder_version=by_name.version(settings, name), **about)


def _folder(settings: Settings, strategy: str, name: str) -> Path:
    folder = settings.home / "models" / strategy / name
    folder.mkdir(parents=True)
    return folder


def _register(settings: Settings, folder: Path, **about: Any) -> None:
    about |= {"base_version": by_name.joined_version(settings, about["base"]), "source_dataset": "shop", "seed": 0}
    about |= {"label": "product_id", "training_set": "x", "family": "supervised", "licence": "MIT", "cost": {}}
    about |= {"backbone": "torchvision/squeezenet1_0", "folder": str(folder.relative_to(settings.home))}
    tuned.register(settings, tuned.Tuned(**about))
