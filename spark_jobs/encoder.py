"""Photos to unit-length vectors: pure PyTorch, no Spark. Decoding runs beside the forward pass."""

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from vitrine import images
from vitrine.backbones import Backbone
from vitrine.images import ImageError
from vitrine.networks import Built, build

T = TypeVar("T")


@dataclass(frozen=True)
class EncoderPlan:
    """Everything a worker needs to make vectors: plain data."""

    backbone: Backbone
    batch_size: int
    precision: str
    max_pixels: int
    threads: int


@dataclass(frozen=True)
class Vectors:
    """One batch's outcome: ``keys[i]`` has ``vectors[i]``, float32 of unit length, or a refusal (key, code, reason)."""

    keys: list[str]
    vectors: np.ndarray
    refused: list[tuple[str, str, str]]


def resolve_precision(asked: str, device: str) -> str:
    """``auto`` is bf16 where the processor computes it in hardware, else fp32."""
    if asked != "auto":
        return asked
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    flags = torch.backends.cpu.get_cpu_capability()
    has_bf16 = flags.startswith("AVX512") and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16" if has_bf16 and "avx512_bf16" in _cpu_flags() else "fp32"


def _cpu_flags() -> str:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            return next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return ""


class Encoder:
    """A network that is loaded once and then fed; keep one a worker process (``kept``)."""

    def __init__(self, plan: EncoderPlan) -> None:
        self.plan = plan
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.precision = resolve_precision(plan.precision, self.device)
        if self.device == "cpu":
            torch.set_num_threads(plan.threads)
        torch.set_flush_denormal(True)  # denormals are slow on CPUs and mean nothing here
        self.built: Built = build(plan.backbone)
        self.network = self.built.network.to(self.device).to(memory_format=torch.channels_last)

    def encode(self, photos: Iterable[tuple[str, list[str]]], *, keys_are_contents: bool = False) -> Iterator[Vectors]:
        """The vectors of ``photos``, pairs of (key, uris of the same picture), batch by batch in the order given.

        A photo that none of its uris gives, or whose vector is not finite, costs its own row only.
        ``keys_are_contents``: the keys are sha256 in hex; a file that is another by now is refused as ``changed``.
        """
        size = self.plan.batch_size
        for group in prefetched(self._decoded(photos, size, keys_are_contents), depth=2):
            good = [(key, tensor) for key, tensor in group if isinstance(tensor, torch.Tensor)]
            refused = [(key, error.code, str(error)) for key, error in group if isinstance(error, ImageError)]
            if not good:
                yield Vectors([], np.empty((0, self.built.dim), np.float32), refused)
                continue
            vectors = self._forward(torch.stack([tensor for _, tensor in good]))
            norms = np.linalg.norm(vectors, axis=1)
            fine = np.isfinite(norms) & (norms > 1e-12)
            refused += [
                (key, "bad_vector", "the network's output has no finite length: NaN, infinity or all zero")
                for (key, _), ok in zip(good, fine, strict=True)
                if not ok
            ]
            keys = [key for (key, _), ok in zip(good, fine, strict=True) if ok]
            yield Vectors(keys, (vectors[fine] / norms[fine, None]).astype(np.float32), refused)

    def _decoded(
        self, photos: Iterable[tuple[str, list[str]]], size: int, check: bool
    ) -> Iterator[list[tuple[str, "torch.Tensor | ImageError"]]]:
        group: list[tuple[str, torch.Tensor | ImageError]] = []
        for key, uris in photos:
            group.append((key, self._first_input(uris, key if check else None)))
            if len(group) == size:
                yield group
                group = []
        if group:
            yield group

    def _first_input(self, uris: list[str], content: str | None) -> "torch.Tensor | ImageError":
        refused: ImageError | None = None
        for uri in uris:
            try:
                return self._input(uri, content)
            except ImageError as error:
                refused = refused or error
        return refused or ImageError("missing", "no uri")

    def _input(self, uri: str, content: str | None) -> torch.Tensor:
        data = images.read(uri)
        photo = images.decode(data, self.plan.max_pixels, self.built.min_side)
        if content and hashlib.sha256(data).hexdigest() != content:
            raise ImageError("changed", "the file is another one since it was ingested")
        # Transforms first bring the short side to the input's size: a strip of one pixel would fill the memory.
        if max(photo.size) / min(photo.size) * self.built.min_side**2 > images.DEFAULT_MAX_PIXELS:
            raise ImageError("too_large", f"{photo.width} x {photo.height} pixels are too long and narrow to scale")
        tensor: torch.Tensor = self.built.transform(photo)
        return tensor

    def _forward(self, batch: torch.Tensor) -> np.ndarray:
        batch = batch.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        half = self.precision == "bf16"
        with torch.inference_mode(), torch.autocast(self.device, torch.bfloat16, enabled=half):
            return np.asarray(self.network(batch).float().cpu().numpy(), dtype=np.float64)


def prefetched(items: Iterator[T], depth: int) -> Iterator[T]:
    """``items``, made by a thread at most ``depth`` ahead; its exceptions are raised here."""
    ready: queue.Queue[tuple[T | None, BaseException | None, bool]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(entry: tuple[T | None, BaseException | None, bool]) -> None:
        while not stopped.is_set():
            try:
                ready.put(entry, timeout=0.5)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                if stopped.is_set():
                    return
                put((item, None, False))
            put((None, None, True))
        except BaseException as error:
            put((None, error, True))

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            item, error, last = ready.get()
            if error is not None:
                raise error
            if last:
                return
            yield item  # type: ignore[misc]
    finally:
        stopped.set()


_kept: dict[EncoderPlan, Encoder] = {}


def kept(plan: EncoderPlan, make: Callable[[EncoderPlan], Encoder] = Encoder) -> Encoder:
    """The encoder of ``plan``, built once in this process: a worker's later tasks find it ready."""
    if plan not in _kept:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        _kept.clear()  # another plan's network would only hold memory
        _kept[plan] = make(plan)
    return _kept[plan]
