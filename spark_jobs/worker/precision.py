"""The forward pass, as fast as the device allows: its precision, and how the network lies in memory."""

import copy
import functools
import sys
import warnings

import numpy as np
import torch

from spark_jobs.worker import probe
from spark_jobs.worker.encoder_plan import EncoderPlan
from spark_jobs.worker.exported import LEAST_COSINE, CannotExport, Exported, open_exported
from vitrine.encoders import processor
from vitrine.encoders.int8_network import Int8Network
from vitrine.encoders.networks import Built

Network = torch.nn.Module | Exported
INT8 = "int8"


def resolve_precision(asked: str, device: str) -> str:
    """``auto`` is bf16 where the device computes it in hardware, else fp32."""
    if asked != "auto":
        return asked
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    flags = torch.backends.cpu.get_cpu_capability()
    has_bf16 = flags.startswith("AVX512") and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16" if has_bf16 and processor.has_bf16() else "fp32"


def prepare(built: Built, plan: EncoderPlan, device: str) -> tuple[Network, str]:
    """The network on its device, as fast as it stays true to itself, and the precision that it computes with.

    ``auto`` takes bf16 only where the network bears it: small networks without normalised activations do not.
    Processors compute by OpenVINO, and by torch where it cannot: then one line on stderr says why. A network in eight
    bits is computed by onnxruntime, on the processor, whatever the device and the precision that is asked for.
    """
    if isinstance(built.network, Int8Network):
        return built.network, INT8
    first = resolve_precision(plan.precision, device)
    precisions = list(dict.fromkeys((first, "fp32"))) if plan.precision == "auto" else [first]
    if device == "cpu":
        try:
            return open_exported(built, plan, precisions)
        except CannotExport as error:
            print(f"{plan.backbone.name}: torch computes it, and not OpenVINO ({error})", file=sys.stderr)
    network = built.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    convolutional = any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    pictures = probe.pictures(built).to(device)
    for precision in precisions:
        frozen = _frozen(network, pictures, device, precision) if convolutional else None
        if frozen is not None and _agree(frozen, network, pictures, device, precision):
            return frozen, precision
        if precision == precisions[-1] or _agree(network, network, pictures, device, precision):
            break
    return network, precision


def _agree(network: Network, plain: Network, pictures: torch.Tensor, device: str, precision: str) -> bool:
    """Does ``network`` give what ``plain`` gives in fp32? One picture at a time: a trace may hold the size it saw."""
    try:
        vectors = [finish_forward(start_forward(network, picture[None], device, precision)) for picture in pictures]
    except RuntimeError:  # a trace that holds more than it should, an operation that there is in fp32 only
        return False
    reference = [finish_forward(start_forward(plain, picture[None], device, "fp32")) for picture in pictures]
    return probe.agree(np.concatenate(vectors), np.concatenate(reference), LEAST_COSINE[precision])


def _frozen(network: torch.nn.Module, pictures: torch.Tensor, device: str, precision: str) -> torch.nn.Module | None:
    """``network`` traced: batch norms and activations folded into the convolutions, weights in their own layout.

    Costs half a second a worker and brings 1.1 to 1.6 times the photos a second on processors; ``torch.compile``
    brought a few per cent more, for 20 to 60 seconds of compiling. None: it cannot be traced.
    """
    kind = _dtype(precision)
    photos = pictures.contiguous(memory_format=torch.channels_last).to(kind)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch calls its tracer deprecated
            traced = torch.jit.freeze(torch.jit.trace(copy.deepcopy(network).to(kind), photos, check_trace=False))
            return torch.jit.optimize_for_inference(traced) if device == "cpu" else traced
    except (RuntimeError, AttributeError, TypeError, ValueError):
        return None


def _dtype(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bf16" else torch.float32


def start_forward(network: Network, batch: torch.Tensor, device: str, precision: str) -> torch.Tensor:
    """``network`` of ``batch``, float32 (B, 3, H, W) on the CPU, as (B, D) on ``device``.

    A GPU may still be at work when this returns: copying runs in a stream of its own, beside the batch before.

    Raises:
        torch.OutOfMemoryError: the batch does not fit the device.
    """
    if isinstance(network, Exported | Int8Network):
        return network(batch)
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


def finish_forward(output: torch.Tensor) -> np.ndarray:
    """What ``start_forward`` gave, as float64 (B, D) on the CPU; waits for the GPU."""
    with torch.inference_mode():
        return np.asarray(output.float().cpu().numpy(), dtype=np.float64)
