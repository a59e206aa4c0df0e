"""The network as processors compute it: exported to OpenVINO once a machine, and read from there by every worker.

An export lies in the user's cache, under what decides it: the network's tensors and input, and the libraries' versions.
Beside it are the vectors that torch gave two pictures: a worker that finds them needs no forward pass by torch.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from spark_jobs.worker import probe
from spark_jobs.worker.encoder_plan import EncoderPlan
from vitrine import locks
from vitrine.encoders import processor
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.identity import fingerprint
from vitrine.encoders.networks import Built

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it reports each import to its maker
import openvino as ov  # noqa: E402

LEAST_COSINE = {"bf16": 0.999, "fp32": 0.9999}
"""Between a network's vectors at a precision, and those of the plain network in fp32."""
_LEAST_OF_EXPORT = 0.99999
_UNUSED_DAYS = 30
_MODEL, _REFERENCE, _FAILURE = "network.xml", "vectors.npy", "failure.txt"
_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


class CannotExport(Exception):
    """The network cannot be computed by OpenVINO here; says why."""


class Exported:
    """A network in OpenVINO."""

    engine = "openvino " + ov.__version__.split("-")[0]

    def __init__(self, model: "Path | ov.Model", precision: str, threads: int) -> None:
        """Raises:
        RuntimeError: the model cannot be read, or not be computed at ``precision`` on this processor.
        """
        options = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # workers would all pin themselves to the same cores
            "CPU_DENORMALS_OPTIMIZATION": True,  # denormals are slow and mean nothing here
        }
        self.model, self.precision, self.threads = model, precision, threads
        compiled = _core().compile_model(model, "CPU", options)
        if compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() != _PRECISIONS[precision]:
            raise RuntimeError(f"this processor does not compute in {precision}")
        self._request = compiled.create_infer_request()

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """float32 (B, 3, H, W), of any B -> float32 (B, D)."""
        return torch.from_numpy(self._request.infer([batch.contiguous().numpy()], share_inputs=True)[0])


def read(model: "Path | ov.Model") -> "ov.Model":
    """The graph of an ``Exported.model``.

    Raises:
        RuntimeError: its file cannot be read.
    """
    return _core().read_model(model) if isinstance(model, Path) else model.clone()


@functools.cache
def _core() -> ov.Core:
    return ov.Core()


def open_exported(built: Built, plan: EncoderPlan, precisions: Sequence[str]) -> tuple[Exported, str]:
    """``built`` in OpenVINO, exported where it is not yet, at the first of ``precisions`` that it bears.

    bf16 that the plan asks for by name is taken as it is. An export that was damaged is removed.

    Raises:
        CannotExport: the export fails, or its vectors are not the network's.
    """
    folder = _folder(built, plan.backbone)
    try:
        if not folder.is_dir():
            with locks.held_file(folder.with_suffix(".lock")):  # so that two workers do not both export
                if not folder.is_dir():
                    _export(built, folder, plan.threads)
        if (folder / _FAILURE).is_file():
            raise CannotExport((folder / _FAILURE).read_text())
        reference = np.load(folder / _REFERENCE)
        os.utime(folder)
    except (OSError, RuntimeError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise CannotExport(f"{folder}: {_line(error)}") from error
    why = "its vectors are not the network's"
    for precision in precisions:
        try:
            network = Exported(folder / _MODEL, precision, plan.threads)
            vectors = _vectors(network, probe.pictures(built))
        except RuntimeError as error:
            why = _line(error)
            continue
        if plan.precision == "bf16" or probe.agree(vectors, reference, LEAST_COSINE[precision]):
            return network, precision
    if precisions[-1] == "fp32":  # as it was once: the next worker exports it anew
        shutil.rmtree(folder, ignore_errors=True)
    raise CannotExport(f"{folder}: {why}")


def _folder(built: Built, backbone: Backbone) -> Path:
    libraries = ("openvino", "torch", "torchvision", "timm", "open_clip_torch")
    decisive = [
        fingerprint(built).encoder_version,
        type(built.network).__name__,
        backbone.spelled,
        built.input_shape,
        processor.model(),
        [importlib.metadata.version(library) for library in libraries],
    ]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "vitrine" / "networks" / hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:24]


def _export(built: Built, folder: Path, threads: int) -> None:
    """Make ``folder`` in one rename: an export with its reference, or why there is none."""
    fresh = folder.with_suffix(".part")
    shutil.rmtree(fresh, ignore_errors=True)  # of a worker that was killed
    fresh.mkdir()
    try:
        pictures = probe.pictures(built)
        with torch.inference_mode():
            reference = _vectors(built.network, pictures)
        try:
            model = _converted(built, pictures)
            if not probe.agree(_vectors(Exported(model, "fp32", threads), pictures), reference, _LEAST_OF_EXPORT):
                raise CannotExport("the export gives other vectors than the network")
        except (MemoryError, OSError):
            raise
        except Exception as error:  # what a converter meets in a network that it does not know has no common class
            (fresh / _FAILURE).write_text(_line(error))
        else:
            ov.save_model(model, fresh / _MODEL, compress_to_fp16=False)
            np.save(fresh / _REFERENCE, reference)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    for other in folder.parent.iterdir():
        with suppress(OSError):  # another worker removes it too
            if other.stat().st_mtime < time.time() - _UNUSED_DAYS * 86400:
                shutil.rmtree(other) if other.is_dir() else other.unlink()


def _converted(built: Built, pictures: torch.Tensor) -> ov.Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's tracer, on conditions that inputs of one size decide alike
        model = ov.convert_model(built.network, example_input=pictures)
    model.reshape([-1, 3, *built.input_shape])
    return model


def _vectors(network: "torch.nn.Module | Exported", pictures: torch.Tensor) -> np.ndarray:
    """float64 (B, D), of one picture at a time: a trace may hold the size that it saw."""
    return torch.cat([network(picture[None]) for picture in pictures]).double().numpy()


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
