"""The forward pass, as fast as the device allows: precision, memory layout, batch size."""

import copy
import hashlib
import json
import os
import platform
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from vitrine.networks import Built

if TYPE_CHECKING:
    from spark_jobs.encoder import EncoderPlan

_SIZES = {"cpu": (1, 2, 4, 8, 16, 32, 64), "cuda": (16, 32, 64, 128, 256, 512)}
_SEARCH_SECONDS = 4.0


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
            traced = torch.jit.freeze(torch.jit.trace(copy.deepcopy(network).to(kind), photos.to(kind)))
            if device == "cpu":
                traced = torch.jit.optimize_for_inference(traced)
            fewer = photos[:1]  # a trace may hold the batch size that it saw
            pairs = ((network(x), traced(x.to(kind)).float()) for x in (photos, fewer, photos))
            least = 0.9999 if precision == "fp32" else 0.999
            same = all(torch.nn.functional.cosine_similarity(*pair).min() > least for pair in pairs)
    except (RuntimeError, AttributeError, TypeError, ValueError, torch.jit.TracingCheckError):
        return network
    return traced if same else network


def _dtype(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" else torch.float32


def run(network: torch.nn.Module, batch: torch.Tensor, device: str, precision: str) -> np.ndarray:
    """``network`` of ``batch``, float32 (B, 3, H, W) on the CPU, as float64 (B, D).

    Raises:
        torch.OutOfMemoryError: the batch does not fit the device.
    """
    kind = device.split(":")[0]
    if kind == "cuda":
        batch = batch.pin_memory()
    frozen = isinstance(network, torch.jit.ScriptModule)  # computes in the type of its weights
    batch = batch.to(device, memory_format=torch.channels_last, non_blocking=True)
    mixed = precision == "bf16" and not frozen
    with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=mixed):
        output = network(batch.to(_dtype(precision)) if frozen else batch)
        return np.asarray(output.float().cpu().numpy(), dtype=np.float64)


def find_batch_size(network: torch.nn.Module, built: Built, device: str, plan: "EncoderPlan") -> int:
    """The batch size with the most photos a second, by a search of some seconds; kept for this machine and network.

    Sizes are tried upwards until the rate falls for the second time, the time is over, or the memory is.
    """
    kept = _kept_file(network, plan, device)
    if kept.is_file():
        return int(json.loads(kept.read_text())["batch_size"])
    rates: dict[int, float] = {}
    until = time.monotonic() + _SEARCH_SECONDS
    for size in _SIZES[device.split(":")[0]]:
        try:
            rates[size] = _rate(network, torch.rand(size, 3, *built.input_shape), device, plan.precision)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        falling = [rate for rate in rates.values() if rate < 0.97 * max(rates.values())]
        if time.monotonic() > until or (size > max(rates, key=rates.__getitem__) and len(falling) > 1):
            break
    if not rates:
        raise torch.OutOfMemoryError("not even the smallest batch fits the device")
    best = max(rates.values())
    size = next(size for size, rate in rates.items() if rate >= 0.97 * best)  # the smallest that is as good
    kept.parent.mkdir(parents=True, exist_ok=True)
    fresh = kept.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text(json.dumps({"batch_size": size, "photos_per_second": rates}))
    fresh.replace(kept)
    return size


def _rate(network: torch.nn.Module, batch: torch.Tensor, device: str, asked: str) -> float:
    precision = resolve_precision(asked, device)
    run(network, batch, device, precision)
    times: list[float] = []
    while len(times) < 2 or (sum(times) < 0.15 and len(times) < 20):
        started = time.monotonic()
        run(network, batch, device, precision)
        times.append(time.monotonic() - started)
    return len(batch) / min(times)


def _kept_file(network: torch.nn.Module, plan: "EncoderPlan", device: str) -> Path:
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
