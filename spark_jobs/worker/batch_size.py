"""How many photos go through a network at once."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

import torch

from spark_jobs.worker.encoder_plan import EncoderPlan
from spark_jobs.worker.exported import Exported
from vitrine import files
from vitrine.encoders import processor

_SIZES = {"cpu": (1, 2, 4, 8, 16, 32), "cuda": (16, 32, 64, 128, 256, 512)}
_TRIES = 3  # the first of a size is slower


class BatchSize:
    """How many photos go through the network at once: found while it works, kept for this machine and network.

    The first batches grow; each size is timed on photos of the work itself, until two sizes in turn bring no more
    photos a second or the memory is full. The smallest size that is as good as the best is kept.
    """

    def __init__(self, network: torch.nn.Module | Exported, device: str, *plans: EncoderPlan) -> None:
        """``plans``: of the encoders that ``network`` computes, with the same options."""
        self._untried = list(_SIZES[device.split(":")[0]])
        self._file = _kept_file(network, device, *plans)
        self._times: list[float] = []
        self._rates: dict[int, float] = {}
        self._chosen = plans[0].batch_size
        if self._chosen is None and self._file.is_file():
            self._chosen = int(json.loads(self._file.read_text())["batch_size"])

    @property
    def now(self) -> int:
        """The size that the next batch should have."""
        return self._chosen or self._untried[0]

    @property
    def settled(self) -> bool:
        """Has the search ended?"""
        return self._chosen is not None

    def took(self, photos: int, seconds: float) -> None:
        """Note what a batch took; one that is smaller than asked for tells nothing."""
        if self._chosen is not None or photos != self.now:
            return
        self._times.append(seconds)
        if len(self._times) == _TRIES:
            self._rates[photos] = photos / min(self._times)
            self._times = []
            del self._untried[0]
            sizes = list(self._rates)
            if not self._untried or len(sizes) - sizes.index(max(sizes, key=self._rates.__getitem__)) > 2:
                self._keep()

    def too_large(self, photos: int) -> int:
        """A batch of ``photos`` did not fit the memory: the size to go on with, half of it, or less."""
        half = max(1, photos // 2)
        if self._chosen is None and self._rates:
            self._keep()
        self._chosen = min(half, self._chosen or half)
        return self._chosen

    def _keep(self) -> None:
        best = max(self._rates.values())
        self._chosen = next(size for size, rate in self._rates.items() if rate >= 0.97 * best)
        with suppress(OSError):  # then the next process measures again
            files.write_json(self._file, {"batch_size": self._chosen, "photos_per_second": self._rates})


def _kept_file(network: torch.nn.Module | Exported, device: str, *plans: EncoderPlan) -> Path:
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor.model()
    engine = network.engine if isinstance(network, Exported) else torch.__version__
    decisive = [type(network).__name__, " + ".join(map(repr, plans)), name, os.cpu_count(), engine]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "vitrine" / "batch_sizes" / f"{hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:24]}.json"
