"""The forward pass, as fast as the device allows: precision, memory layout, batch size."""

import copy
import functools
import hashlib
import json
import os
import platform
import warnings
from pathlib import Path

import numpy as np
import torch

from spark_jobs.plan import EncoderPlan
from vitrine.networks import Built

_SIZES = {"cpu": (1, 2, 4, 8, 16, 32), "cuda": (16, 32, 64, 128, 256, 512)}
_TRIES = 3  # the first of a size is slower


def resolve_precision(asked: str, device: str) -> str:
    """``auto`` is bf16 where the device computes it in hardware, else fp32."""
    if asked != "auto":
        return asked
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    flags = torch.backends.cpu.get_cpu_capability()
    has_bf16 = flags.startswith("AVX512") and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16" if has_bf16 and "avx512_bf16" in _cpu_flags() else "fp32"


def _cpu_flags() -> str:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            return next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return ""


def prepare(built: Built, device: str, precision: str) -> torch.nn.Module:
    """The network on its device, in the layout that its convolutions like; convolutional ones frozen into one graph."""
    network = built.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules()):
        return _frozen(network, built, device, precision)
    return network


def _frozen(network: torch.nn.Module, built: Built, device: str, precision: str) -> torch.nn.Module:
    """``network`` traced: batch norms and activations folded into the convolutions, weights in their own layout.

    Costs half a second a worker and brings 1.1 to 1.6 times the photos a second on processors; ``torch.compile``
    brought a few per cent more, for 20 to 60 seconds of compiling. What cannot be traced stays as it is.
    """
    kind = _dtype(precision)
    shape = (2, 3, *built.input_shape)
    photos = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device, memory_format=torch.channels_last)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch calls its tracer deprecated
            traced = torch.jit.freeze(
                torch.jit.trace(copy.deepcopy(network).to(kind), photos.to(kind), check_trace=False)
            )
            if device == "cpu":
                traced = torch.jit.optimize_for_inference(traced)
            one = photos[:1]  # a trace may hold the batch size that it saw
            found, right = traced(one.to(kind)).float(), network(one)
            same = torch.nn.functional.cosine_similarity(found, right) > (0.9999 if precision == "fp32" else 0.999)
    except (RuntimeError, AttributeError, TypeError, ValueError):
        return network
    return traced if bool(same) else network


def _dtype(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" else torch.float32


def start(network: torch.nn.Module, batch: torch.Tensor, device: str, precision: str) -> torch.Tensor:
    """``network`` of ``batch``, float32 (B, 3, H, W) on the CPU, as (B, D) on ``device``.

    A GPU may still be at work when this returns: copying runs in a stream of its own, beside the batch before.

    Raises:
        torch.OutOfMemoryError: the batch does not fit the device.
    """
    kind = device.split(":")[0]
    if kind == "cuda":
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
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_text(json.dumps({"batch_size": self._found, "photos_per_second": self._rates}))
        fresh.replace(self._file)


def _kept_file(network: torch.nn.Module, plan: EncoderPlan, device: str) -> Path:
    cpu = next((line for line in _cpu_model() if line), platform.processor())
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else cpu
    facts = [type(network).__name__, repr(plan), name, os.cpu_count(), torch.__version__]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "vitrine" / "batch_sizes" / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]}.json"


def _cpu_model() -> list[str]:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            return [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        return []
