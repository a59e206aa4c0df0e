"""Which device a task computes on: the one that Spark gave it."""

import os
import socket

import torch

from vitrine.errors import VitrineError

RESOURCE = "gpu"


def gpu_addresses() -> list[str]:
    """The GPU addresses that Spark's resource scheduling gave this task; none where it schedules no GPUs."""
    from pyspark import TaskContext

    context = TaskContext.get()
    given = context.resources().get(RESOURCE) if context else None
    return list(given.addresses) if given else []


def task_device(asked: str) -> str:
    """``cpu`` or ``cuda:N``: what ``[embed] device`` asks for, on the address that Spark gave the task.

    ``auto`` computes on the processor where there is no usable GPU.

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
    # Without scheduled addresses (local mode), tasks take the machine's GPUs in turn.
    address = addresses[0] if addresses else str(_slot() % count)
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


def _slot() -> int:
    from pyspark import TaskContext

    context = TaskContext.get()
    return context.partitionId() if context else os.getpid()
