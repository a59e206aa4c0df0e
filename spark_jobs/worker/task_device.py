"""Which device a task computes on: the one that Spark gave it."""

import contextlib
import functools
import os
import socket
import tempfile
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from vitrine.errors import VitrineError

RESOURCE = "gpu"
_held: list[FileLock] = []
"""Let go of when the process ends, however it does."""


def gpu_addresses() -> list[str]:
    """The GPU addresses that Spark's resource scheduling gave this task; none where it schedules no GPUs."""
    from pyspark import TaskContext

    context = TaskContext.get()
    given = context.resources().get(RESOURCE) if context else None
    return list(given.addresses) if given else []


def task_device(asked: str, gpu_tasks: int = 1) -> str:
    """``cpu`` or ``cuda:N``: what ``[embed] device`` asks for, on the address that Spark gave the task.

    ``auto`` computes on the processor where there is no usable GPU. Where Spark schedules no GPUs, each process takes a
    place for as long as it lives, of the ``gpu_tasks`` that each GPU of this machine has.

    Raises:
        VitrineError: a GPU is asked for and there is none, or the address is none of this machine's.
    """
    addresses = gpu_addresses()
    if asked == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        if asked == "cuda":
            raise VitrineError(
                "device = 'cuda' asks for a GPU, and torch finds none here "
                f"(Spark gave the task {', '.join(addresses) or 'no address'}): run on GPU executors, or set "
                "[embed] device to 'auto' or 'cpu'"
            )
        return "cpu"
    count = torch.cuda.device_count()
    address = addresses[0] if addresses else str(_place(count * gpu_tasks) % count)
    if not address.isdigit() or int(address) >= count:
        raise VitrineError(
            f"Spark gave the task GPU address {address!r}, and this machine has {count}: 0 to {count - 1}; "
            "see the discovery script of spark.worker.resource.gpu"
        )
    torch.cuda.set_device(int(address))
    return f"cuda:{address}"


def task_place(device: str) -> str:
    """Where this task computes, in words: host, the address that Spark gave, device."""
    addresses = gpu_addresses()
    given = f" gpu {','.join(addresses)}" if addresses else ""
    return f"{socket.gethostname()}{given}: {device}"


@functools.cache
def _place(places: int) -> int:
    """The first place that no other process of this machine holds, which is this one's from now on; where all are
    held, a process shares one."""
    folder = Path(tempfile.gettempdir()) / f"vitrine-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for place in range(places):
        lock = FileLock(folder / f"{place}.lock")
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
            _held.append(lock)
            return place
    return os.getpid()
