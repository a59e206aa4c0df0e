"""Photos to unit-length vectors: pure PyTorch, no Spark. Reading and decoding run beside the forward pass."""

import functools
import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from spark_jobs.worker.batch_size import BatchSize
from spark_jobs.worker.cost import Cost
from spark_jobs.worker.encoder_plan import EncoderPlan
from spark_jobs.worker.exported import Exported
from spark_jobs.worker.precision import finish_forward, prepare, start_forward
from spark_jobs.worker.shared_trunk import Joined, begin_alike, gives_the_same
from spark_jobs.worker.worker_daemon import preloaded
from vitrine import images, photo_files
from vitrine.encoders.allocator import keep_freed_memory
from vitrine.encoders.networks import Built, build
from vitrine.images import ImageError

T = TypeVar("T")
Refusal = tuple[str, str, str]
"""Key, code, reason."""
WantedPhoto = tuple[str, list[str], Sequence[int]]
"""Key, uris of the same picture, and which of the encoders want it."""
Group = Sequence[tuple[str, "torch.Tensor | ImageError"]]
"""A batch: keys, and the network's input, or why there is none."""


@dataclass(frozen=True)
class Vectors:
    """One batch's outcome: ``keys[i]`` has ``vectors[i]``, float32 of unit length, or a refusal."""

    keys: list[str]
    vectors: np.ndarray
    refused: list[Refusal]


@dataclass(frozen=True)
class Started:
    """One batch that is in the network."""

    keys: list[str]
    outputs: list[torch.Tensor]
    """(B, D), in parts, on the device that computes them."""
    refused: list[Refusal]


class Encoder:
    """A network that is loaded once and then fed; keep one a worker process (``kept``)."""

    def __init__(self, plan: EncoderPlan, device: str = "cpu", built: Built | None = None) -> None:
        self.plan, self.device = plan, device
        if device == "cpu":
            torch.set_num_threads(plan.threads)
            keep_freed_memory()
        torch.set_flush_denormal(True)  # denormals are slow on CPUs and mean nothing here
        self.built = built or build(plan.backbone)
        self.network, self.precision = prepare(self.built, plan, device)
        self.batch_size = BatchSize(self.network, device, plan)
        self.computes_beside = device != "cpu"
        """Is the next batch made ready while this one is computed?"""

    @property
    def names(self) -> list[str]:
        """Of the encoders that ``compute`` gives vectors of."""
        return [self.plan.backbone.name]

    def compute(self, group: Group) -> list[Vectors]:
        """One batch through the network."""
        return [self.finish(self.start(group))]

    def start(self, group: Group) -> "Started":
        """One batch into the network; what cannot be read is refused."""
        keys, tensors, refused = _parted(group)
        return Started(keys, self._forward(torch.stack(tensors)) if tensors else [], refused)

    def finish(self, started: "Started") -> Vectors:
        """One batch out of the network; a photo whose vector is not finite is refused."""
        if not started.keys:
            return Vectors([], np.empty((0, self.built.dim), np.float32), started.refused)
        vectors = np.concatenate([finish_forward(output) for output in started.outputs])
        norms = np.linalg.norm(vectors, axis=1)
        fine = np.isfinite(norms) & (norms > 1e-12)
        bad = [
            (key, "bad_vector", "the network's output has no finite length: NaN, infinity or all zero")
            for key, ok in zip(started.keys, fine, strict=True)
            if not ok
        ]
        keys = [key for key, ok in zip(started.keys, fine, strict=True) if ok]
        return Vectors(keys, (vectors[fine] / norms[fine, None]).astype(np.float32), started.refused + bad)

    def _forward(self, batch: torch.Tensor) -> list[torch.Tensor]:
        """The network's output, (B, D) in parts; a batch that does not fit the memory is halved, for good."""
        try:
            return [start_forward(self.network, batch, self.device, self.precision)]
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            torch.cuda.empty_cache()
            smaller = self.batch_size.too_large(len(batch))
            return [output for part in batch.split(smaller) for output in self._forward(part)]

    def encode(self, photos: Iterable[tuple[str, list[str]]], *, keys_are_contents: bool = False) -> Iterator[Vectors]:
        """As ``encode``, with this encoder alone."""
        wanted = ((key, uris, (0,)) for key, uris in photos)
        for _, done in encode([self], wanted, keys_are_contents=keys_are_contents):
            yield done


def _parted(group: Group) -> tuple[list[str], list[torch.Tensor], list[Refusal]]:
    """Keys and inputs of what could be read, and the refusals."""
    good = [(key, tensor) for key, tensor in group if isinstance(tensor, torch.Tensor)]
    refused = [(key, error.code, str(error)) for key, error in group if isinstance(error, ImageError)]
    return [key for key, _ in good], [tensor for _, tensor in good], refused


class Together:
    """Encoders whose networks begin alike, computed as one network."""

    computes_beside = False

    def __init__(self, members: dict[int, Encoder], network: Joined) -> None:
        """``members``: by number, in the order of the outputs of ``network``."""
        self.members, self.network = members, network
        self.batch_size = BatchSize(network, "cpu", *(encoder.plan for encoder in members.values()))

    @property
    def names(self) -> list[str]:
        return [encoder.plan.backbone.name for encoder in self.members.values()]

    def compute(self, group: Group) -> list[Vectors]:
        """As ``Encoder.compute``, of each member."""
        keys, tensors, refused = _parted(group)
        outputs = self.network.all(torch.stack(tensors)) if tensors else [torch.empty(0)] * len(self.members)
        return [
            encoder.finish(Started(keys, [output], refused))
            for encoder, output in zip(self.members.values(), outputs, strict=True)
        ]


@functools.lru_cache(maxsize=1)
def together(encoders: tuple[Encoder, ...]) -> list[Together]:
    """Those of ``encoders`` whose networks begin alike, joined; each is in one at most. Made once for the same ones."""
    made, left = [], dict(enumerate(encoders))
    while left:
        number = min(left)
        first = left.pop(number)
        members = {number: first} | {other: encoder for other, encoder in left.items() if _share(first, encoder)}
        left = {other: encoder for other, encoder in left.items() if other not in members}
        networks = [encoder.network for encoder in members.values() if isinstance(encoder.network, Exported)]
        if len(networks) > 1:
            with suppress(RuntimeError):  # then each is computed by itself
                joined = Joined(networks)
                if gives_the_same(joined, networks, first.built):
                    made.append(Together(members, joined))
    return made


def _share(first: Encoder, second: Encoder) -> bool:
    """Do both take the same input, in OpenVINO, and begin alike?"""
    (mine, how), (other, too) = (
        (each.network, (each.plan.backbone.spelled, each.built.preprocessing, each.built.managed, each.precision))
        for each in (first, second)
    )
    return isinstance(mine, Exported) and isinstance(other, Exported) and how == too and begin_alike(mine, other)


def encode(
    encoders: Sequence[Encoder],
    photos: Iterable[WantedPhoto],
    *,
    keys_are_contents: bool = False,
    cost: Cost | None = None,
) -> Iterator[tuple[int, Vectors]]:
    """The vectors of ``photos`` by each encoder that wants them: (number of the encoder, batch), in the order given
    but that photos which all of several encoders want, whose networks begin alike, are batches of their own.

    A photo is read once, and decoded once for all encoders that need it at one size; threads do both, a bounded number
    of photos ahead of the networks. A photo that none of its uris gives, or whose vector is not finite, costs its own
    row only. ``keys_are_contents``: the keys are sha256 in hex; a file that is another by now is refused as
    ``changed``.
    """
    cost = Cost() if cost is None else cost
    turns = [_Turns([number], encoder, cost) for number, encoder in enumerate(encoders)]
    shared = [_Turns([*each.members], each, cost) for each in (together(tuple(encoders)) if len(encoders) > 1 else [])]
    cost.precisions |= {encoder.plan.backbone.name: encoder.precision for encoder in encoders}

    def window() -> int:
        return 2 * max(mine.encoder.batch_size.now for mine in (*turns, *shared))

    threads = max(encoder.plan.threads for encoder in encoders)
    with cost.metered(), ThreadPoolExecutor(threads, "decode") as pool:
        load = _Loader(encoders, keys_are_contents, cost)
        for key, inputs in _ahead(pool, load, photos, window):
            cost.photos += 1
            for mine in shared:
                if inputs.keys() >= set(mine.numbers):
                    same = [inputs.pop(number) for number in mine.numbers]
                    yield from mine.take(key, same[0])
            for number, tensor in inputs.items():
                yield from turns[number].take(key, tensor)
        for mine in (*shared, *turns):
            yield from mine.end()


class _Turns:
    """One network's batches: gathered, computed, and on a GPU handed on when the next one is in the network."""

    def __init__(self, numbers: list[int], encoder: Encoder | Together, cost: Cost) -> None:
        """``numbers``: of the encoders that ``encoder`` gives vectors of."""
        self.numbers, self.encoder, self.cost = numbers, encoder, cost
        self._waiting: list[tuple[str, torch.Tensor | ImageError]] = []
        self._started: deque[Started] = deque()

    def take(self, key: str, tensor: "torch.Tensor | ImageError") -> Iterator[tuple[int, Vectors]]:
        self._waiting.append((key, tensor))
        if len(self._waiting) >= self.encoder.batch_size.now:
            yield from self._compute()

    def end(self) -> Iterator[tuple[int, Vectors]]:
        if self._waiting:
            yield from self._compute()
        while self._started:
            yield self._finished()

    def _compute(self) -> Iterator[tuple[int, Vectors]]:
        group, self._waiting = self._waiting, []
        encoder, size = self.encoder, self.encoder.batch_size
        if isinstance(encoder, Encoder) and encoder.computes_beside and size.settled:
            self._started.append(self._timed(lambda: encoder.start(group))[0])
            if len(self._started) > 1:
                yield self._finished()
        else:
            done, seconds = self._timed(lambda: encoder.compute(group))
            size.took(len(done[0].keys), seconds)
            yield from zip(self.numbers, done, strict=True)

    def _finished(self) -> tuple[int, Vectors]:
        encoder = self.encoder
        assert isinstance(encoder, Encoder)
        return self.numbers[0], self._timed(lambda: encoder.finish(self._started.popleft()))[0]

    def _timed(self, step: Callable[[], T]) -> tuple[T, float]:
        started = time.monotonic()
        done = step()
        seconds = time.monotonic() - started
        for name in self.encoder.names:  # what is shared is shared evenly
            self.cost.forward(name, seconds / len(self.numbers))
        return done, seconds


_Inputs = dict[int, "torch.Tensor | ImageError"]


def _ahead(
    pool: ThreadPoolExecutor, load: "_Loader", photos: Iterable[WantedPhoto], window: Callable[[], int]
) -> Iterator[tuple[str, _Inputs]]:
    """What ``load`` makes of ``photos``, in their order, at most ``window()`` ahead of who takes them."""
    pending: deque[tuple[str, Future[_Inputs]]] = deque()
    try:
        for key, uris, wanted in photos:
            pending.append((key, pool.submit(load, key, uris, wanted)))
            while len(pending) >= window():
                key, future = pending.popleft()
                yield key, future.result()
        while pending:
            key, future = pending.popleft()
            yield key, future.result()
    finally:
        for _, future in pending:
            future.cancel()


class _Loader:
    """One photo's inputs for the encoders that want it, in a thread."""

    def __init__(self, encoders: Sequence[Encoder], check: bool, cost: Cost) -> None:
        self.encoders, self.check, self.cost = encoders, check, cost

    def __call__(self, key: str, uris: list[str], wanted: Sequence[int]) -> _Inputs:
        inputs: _Inputs = {}
        for uri in uris or [""]:
            missing = [number for number in wanted if not isinstance(inputs.get(number), torch.Tensor)]
            if not missing:
                break
            for number, loaded in self._load(uri, key, missing).items():
                if isinstance(loaded, torch.Tensor) or number not in inputs:
                    inputs[number] = loaded  # the first refusal is kept, unless another copy is good
        return inputs

    def _load(self, uri: str, key: str, wanted: Sequence[int]) -> _Inputs:
        try:
            data = photo_files.read(uri, self.encoders[wanted[0]].plan.sources)
        except ImageError as error:
            return dict.fromkeys(wanted, error)
        self.cost.bytes_read += len(data)
        inputs: _Inputs = {}
        how = {number: (self.encoders[number].built.min_side, self.encoders[number].built.managed) for number in wanted}
        for side, managed in set(how.values()):
            same = [number for number in wanted if how[number] == (side, managed)]
            inputs |= self._decode(data, side, managed, same)
        if self.check and hashlib.sha256(data).hexdigest() != key:
            changed = ImageError("changed", "the file is another one since it was ingested")
            return {n: loaded if isinstance(loaded, ImageError) else changed for n, loaded in inputs.items()}
        return inputs

    def _decode(self, data: bytes, side: int, managed: bool, wanted: Sequence[int]) -> _Inputs:
        pixels = min(self.encoders[number].plan.max_pixels for number in wanted)
        try:
            photo = images.decode(data, pixels, side, managed)
        except ImageError as error:
            return dict.fromkeys(wanted, error)
        made: dict[str, torch.Tensor | ImageError] = {}
        for built in (self.encoders[number].built for number in wanted):
            if built.preprocessing not in made:
                try:
                    made[built.preprocessing] = built.input(photo)
                except ImageError as error:
                    made[built.preprocessing] = error
        return {number: made[self.encoders[number].built.preprocessing] for number in wanted}


_kept: dict[tuple[EncoderPlan, str], Encoder] = {}


def kept(plans: Sequence[EncoderPlan], device: str = "cpu") -> list[Encoder]:
    """The encoders of ``plans``, each built once in this process: a worker's later tasks find them ready."""
    wanted = [(plan, device) for plan in plans]
    for other in _kept.keys() - set(wanted):
        del _kept[other]  # its network would only hold memory
        together.cache_clear()  # so would what it was joined with
    for plan, on in wanted:
        if (plan, on) not in _kept:
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
            _kept[plan, on] = Encoder(plan, on, preloaded(plan.backbone))
    return [_kept[key] for key in wanted]
