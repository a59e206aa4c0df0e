"""The forward pass, as fast as the device allows: precision, memory layout, batch size."""

import copy
import functools
import hashlib
import json
import os
import warnings
from pathlib import Path

import numpy as np
import torch

from spark_jobs.worker.encoder_plan import EncoderPlan
from vitrine import files
from vitrine.encoders import processor
from vitrine.encoders.networks import Built

_SIZES = {"cpu": (1, 2, 4, 8, 16, 32), "cuda": (16, 32, 64, 128, 256, 512)}
_TRIES = 3  # the first of a size is slower
_LEAST_COSINE = {"bf16": 0.999, "fp32": 0.9999}


def resolve_precision(asked: str, device: str) -> str:
    """``auto`` is bf16 where the device computes it in hardware, else fp32."""
    if asked != "auto":
        return asked
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    flags = torch.backends.cpu.get_cpu_capability()
    has_bf16 = flags.startswith("AVX512") and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16" if has_bf16 and processor.has_bf16() else "fp32"


def prepare(built: Built, device: str, asked: str) -> tuple[torch.nn.Module, str]:
    """The network on its device, as fast as it stays true to itself, and the precision that it computes with.

    ``auto`` takes bf16 only where the network bears it: small networks without normalised activations do not.
    """
    network = built.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    convolutional = any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    probe = _probe(built).to(device)
    for precision in dict.fromkeys((resolve_precision(asked, device), "fp32")):
        frozen = _frozen(network, probe, device, precision) if convolutional else None
        if frozen is not None and _agree(frozen, network, probe, device, precision):
            return frozen, precision
        if precision == asked or precision == "fp32" or _agree(network, network, probe, device, precision):
            break
    return network, precision


def _probe(built: Built) -> torch.Tensor:
    """Two smooth pictures of random colours, (2, 3, H, W): rounding moves their vectors more than those of photos."""
    colours = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(0)) * 4 - 2
    return torch.nn.functional.interpolate(colours, size=built.input_shape, mode="bicubic")


def _agree(network: torch.nn.Module, plain: torch.nn.Module, probe: torch.Tensor, device: str, precision: str) -> bool:
    """Does ``network`` give what ``plain`` gives in fp32? By one photo at a time: a trace may hold the size it saw."""
    try:
        found = [finish(start(network, photo[None], device, precision))[0] for photo in probe]
    except RuntimeError:  # a trace that holds more than it should, an operation that there is in fp32 only
        return False
    right = [finish(start(plain, photo[None], device, "fp32"))[0] for photo in probe]
    return all(
        a @ b >= _LEAST_COSINE[precision] * np.linalg.norm(a) * np.linalg.norm(b)
        for a, b in zip(found, right, strict=True)
    )


def _frozen(network: torch.nn.Module, probe: torch.Tensor, device: str, precision: str) -> torch.nn.Module | None:
    """``network`` traced: batch norms and activations folded into the convolutions, weights in their own layout.

    Costs half a second a worker and brings 1.1 to 1.6 times the photos a second on processors; ``torch.compile``
    brought a few per cent more, for 20 to 60 seconds of compiling. None: it cannot be traced.
    """
    kind = _dtype(precision)
    photos = probe.contiguous(memory_format=torch.channels_last).to(kind)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch calls its tracer deprecated
            traced = torch.jit.freeze(torch.jit.trace(copy.deepcopy(network).to(kind), photos, check_trace=False))
            return torch.jit.optimize_for_inference(traced) if device == "cpu" else traced
    except (RuntimeError, AttributeError, TypeError, ValueError):
        return None


def _dtype(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" else torch.float32


def start(network: torch.nn.Module, batch: torch.Tensor, device: str, precision: str) -> torch.Tensor:
    """``network`` of ``batch``, float32 (B, 3, H, W) on the CPU, as (B, D) on ``device``.

    A GPU may still be at work when this returns: copying runs in a stream of its own, beside the batch before.

    Raises:
        torch.OutOfMemoryError: the batch does not fit the device.
    """
    kind = device.split(":")[0]
    if kind == "cuda" and batch.device.type == "cpu":
        batch = _to_gpu(batch, device)
    frozen = isinstance(network, torch.jit.ScriptModule)  # computes in the type of its weights
    batch = batch.contiguous(memory_format=torch.channels_last)
    mixed = precision == "bf16" and not frozen
    with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=mixed):
        output: torch.Tensor = network(batch.to(_dtype(precision)) if frozen else batch)
        return output


def _to_gpu(batch: torch.Tensor, device: str) -> torch.Tensor:
    computing, copying = torch.cuda.current_stream(device), _copying(device)
    with torch.cuda.stream(copying):
        there = batch.pin_memory().to(device, non_blocking=True)
    computing.wait_stream(copying)
    there.record_stream(computing)  # else its memory would be handed out again too early
    return there


@functools.cache
def _copying(device: str) -> "torch.cuda.Stream":
    return torch.cuda.Stream(device)


def finish(output: torch.Tensor) -> np.ndarray:
    """What ``start`` gave, as float64 (B, D) on the CPU; waits for the GPU."""
    with torch.inference_mode():
        return np.asarray(output.float().cpu().numpy(), dtype=np.float64)


class BatchSize:
    """How many photos go through the network at once: found while it works, kept for this machine and network.

    The first batches grow; each size is timed on photos of the work itself, until two sizes in turn bring no more
    photos a second or the memory is full. The smallest size that is as good as the best is kept.
    """

    def __init__(self, network: torch.nn.Module, plan: EncoderPlan, device: str) -> None:
        self._left = list(_SIZES[device.split(":")[0]])
        self._file = _kept_file(network, plan, device)
        self._times: list[float] = []
        self._rates: dict[int, float] = {}
        self._found = plan.batch_size
        if self._found is None and self._file.is_file():
            self._found = int(json.loads(self._file.read_text())["batch_size"])

    @property
    def now(self) -> int:
        """The size that the next batch should have."""
        return self._found or self._left[0]

    @property
    def settled(self) -> bool:
        """Has the search ended?"""
        return self._found is not None

    def took(self, photos: int, seconds: float) -> None:
        """Note what a batch took; one that is smaller than asked for tells nothing."""
        if self._found is not None or photos != self.now:
            return
        self._times.append(seconds)
        if len(self._times) == _TRIES:
            self._rates[photos] = photos / min(self._times)
            self._times = []
            del self._left[0]
            sizes = list(self._rates)
            if not self._left or len(sizes) - sizes.index(max(sizes, key=self._rates.__getitem__)) > 2:
                self._keep()

    def too_large(self, photos: int) -> int:
        """A batch of ``photos`` did not fit the memory: the size to go on with, half of it or what was found best."""
        half = max(1, photos // 2)
        if self._found is None and self._rates:
            self._keep()
        self._found = min(half, self._found or half)
        return self._found

    def _keep(self) -> None:
        best = max(self._rates.values())
        self._found = next(size for size, rate in self._rates.items() if rate >= 0.97 * best)
        files.write_json(self._file, {"batch_size": self._found, "photos_per_second": self._rates})


def _kept_file(network: torch.nn.Module, plan: EncoderPlan, device: str) -> Path:
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor.model()
    facts = [type(network).__name__, repr(plan), name, os.cpu_count(), torch.__version__]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "vitrine" / "batch_sizes" / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]}.json"
