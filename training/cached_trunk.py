"""A network cut in two: the first part runs once on each photo, what it makes is kept on disk, and the rest learns
from that.

The cut lies between two parts of the network that follow each other. Whether they do is not read from its code but
tried: the rest has to make of what was kept what the whole network makes of the photo.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, Dataset

from training.photo_loader import Photos, seed_all
from vitrine import files

_BATCH = 16
_NEAR = 1e-3
"""How far, of the greatest output, the two parts' output may lie from the whole network's."""
_GREATEST = float(np.finfo(np.float16).max)


class _Reached(Exception):
    """The forward pass came to the cut."""

    def __init__(self, activations: torch.Tensor) -> None:
        self.activations = activations


@dataclass(frozen=True)
class _Part:
    """A part of the network that is run as a whole, in the order of the forward pass."""

    parent: nn.Module
    name: str
    module: nn.Module
    cost: float
    """Multiply-adds of a photo."""


class CutNetwork:
    """``network`` and where it is cut: what comes after costs at most ``share`` of its multiply-adds.

    Raises:
        ArithmeticError: its parts do not follow each other, or what would be left has no weights.
    """

    def __init__(self, network: nn.Module, photo: torch.Tensor, share: float) -> None:
        """``photo``: float32 (1, 3, H, W), as the network takes it."""
        self.network = network.eval()
        self._before, self._first = _cut(network, photo, share)
        with torch.inference_mode():
            whole, kept = network(photo), self.trunk(photo)
            with self._without_trunk():
                try:
                    again = network(kept)
                except (AssertionError, IndexError, RuntimeError, TypeError, ValueError):
                    again = whole.new_empty(0)
        if again.shape != whole.shape or not torch.allclose(again, whole, atol=_NEAR * float(whole.abs().max())):
            raise ArithmeticError(
                "the network's parts do not follow each other one by one, so that it cannot be cut: tune changes of "
                "low rank, or from a head"
            )

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        """What the first part makes of photos."""

        def stop(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            raise _Reached(given[0])

        hook = self._first.module.register_forward_pre_hook(stop)
        try:
            self.network(x)
        except _Reached as reached:
            return reached.activations
        finally:
            hook.remove()
        raise AssertionError("the forward pass did not come to the cut")

    def remove_trunk(self) -> None:
        """From now on the network takes what ``trunk`` made."""
        for part in self._before:
            part.parent._modules[part.name] = nn.Identity()

    @contextmanager
    def _without_trunk(self) -> Iterator[None]:
        self.remove_trunk()
        try:
            yield
        finally:
            for part in self._before:
                part.parent._modules[part.name] = part.module


def _cut(network: nn.Module, photo: torch.Tensor, share: float) -> tuple[list[_Part], _Part]:
    """The parts before the cut, and the first one after it."""
    opened: set[nn.Module] = set()
    while True:
        parts = _parts(network, photo, opened)
        costs = np.array([part.cost for part in parts])
        after = np.cumsum(costs[::-1])[::-1]
        at = next((at for at in range(1, len(parts)) if 0 < after[at] <= share * costs.sum()), None)
        if at is not None:
            return parts[:at], parts[at]
        last = next((part.module for part in reversed(parts) if part.cost), None)
        if last is None or not [*last.children()]:
            raise ArithmeticError(
                f"no part of the network has {share:g} of its multiply-adds or less: raise tune.partial share"
            )
        opened.add(last)  # it is too large: its own parts may follow each other too


def _parts(network: nn.Module, photo: torch.Tensor, opened: set[nn.Module]) -> list[_Part]:
    """In the order in which a forward pass comes to them; without those that it does not come to once."""
    found = [*_unfolded(network, opened)]
    order: list[int] = []
    costs = dict.fromkeys(range(len(found)), 0.0)
    hooks = []
    for number, (_, _, module) in enumerate(found):
        hooks.append(module.register_forward_pre_hook(lambda *_, number=number: order.append(number)))
        for each in module.modules():
            if isinstance(each, nn.Conv2d | nn.Linear):

                def count(layer: nn.Module, _: Any, output: torch.Tensor, number: int = number) -> None:
                    weight: Any = layer.weight
                    costs[number] += weight.numel() * output.numel() / weight.shape[0]

                hooks.append(each.register_forward_hook(count))
    try:
        with torch.inference_mode():
            network(photo)
    finally:
        for hook in hooks:
            hook.remove()
    return [_Part(*found[number], costs[number]) for number in order if order.count(number) == 1]


def _unfolded(module: nn.Module, opened: set[nn.Module]) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Parent, name and module of the children; sequences, lists and what is ``opened`` stand for their own."""
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential | nn.ModuleList) or child in opened:
            yield from _unfolded(child, opened)
        else:
            yield module, name, child


class Activations(Dataset[tuple[torch.Tensor, int]]):
    """What the first part made of the photos of one part of a training set, float16 on disk, and their labels.

    With several draws, of each photo as augmented so many times; ``turn_to`` says which is given. Asked again for the
    same photo right away, it gives the next one.
    """

    def __init__(self, paths: list[Path], labels: NDArray[Any], unreadable: torch.Tensor) -> None:
        self.arrays = [np.load(path, mmap_mode="r") for path in paths]
        self.labels, self.unreadable = labels, unreadable
        self.turn_to(0)

    def turn_to(self, draw: int) -> None:
        self.draw, self._last, self._again = draw, -1, 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        self._again = self._again + 1 if at == self._last else 0
        self._last = at
        kept = self.arrays[(self.draw + self._again) % len(self.arrays)][at]
        return torch.from_numpy(kept.astype(np.float32)), int(self.labels[at])


def keep(
    network: CutNetwork, photos: Photos, folder: Path, name: str, draws: int, seed: int, device: torch.device
) -> Activations:
    """Keep what the first part makes of ``photos``, ``draws`` times, in ``folder``; what is there already is not made
    again."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{name}-{number}.npy" for number in range(draws)]
    marks = folder / f"{name}-unreadable.npy"
    for number, path in enumerate(paths):
        if path.is_file():
            continue
        seed_all(seed * 1_000_003 + number)
        _write(network, photos, path, device)
        with files.whole(marks) as fresh, fresh.open("wb") as file:
            np.save(file, photos.unreadable.numpy())
        print(
            f"kept what the network's first part makes of {name}, {number + 1} of {draws}", file=sys.stderr, flush=True
        )
    return Activations(paths, photos.labels, torch.from_numpy(np.load(marks)))


def _write(network: CutNetwork, photos: Photos, path: Path, device: torch.device) -> None:
    # Written, not mapped: of a full disk, a write is an error, and a mapped page ends the process.
    with files.whole(path) as fresh, fresh.open("wb") as file:
        for x, _ in DataLoader(photos, _BATCH):
            with torch.inference_mode():
                made = network.trunk(x.to(device, memory_format=torch.channels_last)).float().cpu()
            if not file.tell():
                header = {"descr": "<f2", "fortran_order": False, "shape": (len(photos), *made.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(made.clamp(-_GREATEST, _GREATEST).numpy().astype("<f2").tobytes())
