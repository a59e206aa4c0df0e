"""Partial tuning: the network's last part, on what its first part makes of each photo, which is kept on disk.

Runs as full tuning does (``python -m training.partial_tuning FOLDER``), from a fitted classifier and back towards the
start (``training.head_first``); what comes of it is a whole network. The activations lie in ``FOLDER/activations``
until the end: killed, the same command makes only those that are missing.
"""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from timm.scheduler import CosineLRScheduler

from training import full_tuning, head_first
from training.cached_trunk import Activations, CutNetwork, keep
from training.full_tuning import Tuner, seconds_a_photo
from training.training_set import TRAIN, VALIDATION
from training.tuning_process import run
from vitrine.encoders.projected import named
from vitrine.tuning_sections import NetworkSettings, PartialSettings


class PartialTuner(Tuner):
    """A tuner whose network takes what its first part made, once ``prepare`` is through."""

    kind: type[NetworkSettings] = PartialSettings

    def prepare(self) -> None:
        # Copies: what learns is changed in place.
        self._start = {key: value.clone() for key, value in named(self.built.network, self._backbone.source).items()}
        photo = torch.randn(1, 3, *self.built.input_shape, generator=torch.Generator().manual_seed(0))
        assert isinstance(self.settings, PartialSettings)
        self.cut = CutNetwork(self.built.network, self.placed(photo), self.settings.share)
        if self.learns:
            self._kept = {part: self._keep(part, super(PartialTuner, self).plain(part)) for part in (TRAIN, VALIDATION)}
            self._augmented = self._keep("augmented", super().augmented(), self.settings.draws)
            self.cut.remove_trunk()

    def _keep(self, name: str, photos: Any, draws: int = 1) -> Activations:
        return keep(self.cut, photos, self.folder / "activations", name, draws, self.request.seed, self.device)

    def plain(self, part: str) -> Activations:
        return self._kept[part]

    def augmented(self) -> Activations:
        return self._augmented

    def epoch(self, number: int, photos: Activations, scheduler: CosineLRScheduler, steps: int) -> float:
        photos.turn_to(number)
        return super().epoch(number, photos, scheduler, steps)

    def weights(self) -> dict[str, torch.Tensor]:
        return self._start | super().weights()

    def start(self) -> dict[str, torch.Tensor]:
        return self._start

    def found_again(self, weights: dict[str, torch.Tensor]) -> float:
        network = self.built.network
        mine = named(network, self._backbone.source)
        own = zip(network.state_dict(), mine, strict=True)
        network.load_state_dict({key: weights[name] for key, name in own})
        parts = (
            head_first.features(self.built, self._kept[part], most, self.device)
            for part, most in head_first.ROWS.items()
        )
        return head_first.found_again(*parts)


def tune(folder: Path) -> dict[str, Any]:
    """As ``full_tuning.tune``."""
    result = full_tuning.tune(folder, PartialTuner)
    shutil.rmtree(folder / "activations", ignore_errors=True)
    return result


def estimate(folder: Path, steps: int = 2) -> dict[str, Any]:
    """As ``full_tuning.estimate``: the first part is timed on some photos, and the rest on what it made of them."""
    tuner = PartialTuner(folder, learns=False)
    settings = tuner.settings
    assert isinstance(settings, PartialSettings)
    photos = Tuner.augmented(tuner)
    some = range(min(len(photos), (steps + 1) * settings.batch_size))
    started = time.monotonic()
    batches = torch.utils.data.DataLoader(torch.utils.data.Subset(photos, some), 16)
    with torch.inference_mode():
        made = torch.cat([tuner.cut.trunk(tuner.placed(x)).float().cpu() for x, _ in batches])
    trunk = (time.monotonic() - started) / len(some)
    tuner.cut.remove_trunk()
    labels = torch.tensor(photos.labels[: len(some)].tolist())
    rest = seconds_a_photo(tuner, torch.utils.data.TensorDataset(made, labels), steps)
    asked = tuner.request.rows
    whole = trunk * (asked[TRAIN] * (settings.draws + 1) + asked[VALIDATION])
    whole += rest * (asked[TRAIN] * settings.epochs + (asked[TRAIN] + head_first.photos_asked(asked)) / 3)
    return {"photos_per_second": round(1 / rest, 2), "training_seconds": round(whole, 1)}


if __name__ == "__main__":
    run(tune, estimate, sys.argv[1:])
