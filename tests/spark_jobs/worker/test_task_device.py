"""Which device a task takes."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from spark_jobs.worker import task_device as resources
from spark_jobs.worker.task_device import task_device
from vitrine.errors import VitrineError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with two GPUs, where Spark gave the task address 1."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(resources, "gpu_addresses", lambda: ["1"])
    return monkeypatch


def test_the_task_takes_the_address_that_spark_gave(machine: pytest.MonkeyPatch):
    assert task_device("auto") == task_device("cuda") == "cuda:1"
    assert task_device("cpu") == "cpu"


@pytest.mark.parametrize("address", ["2", "-1", "GPU-1b7c"])
def test_an_address_that_is_none(machine: pytest.MonkeyPatch, address: str):
    machine.setattr(resources, "gpu_addresses", lambda: [address])
    with pytest.raises(VitrineError, match=f"GPU address '{address}', and this machine has 2: 0 to 1"):
        task_device("auto")


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(resources, "gpu_addresses", lambda: ["0"])
    assert task_device("auto") == "cpu"
    with pytest.raises(
        VitrineError, match=r"asks for a GPU, and torch finds none here .*gave the task 0.*\[embed\] device"
    ):
        task_device("cuda")


@contextmanager
def process(gpu_tasks: int) -> Iterator[str]:
    """The device that another process computes on for as long as the block lasts."""
    context = multiprocessing.get_context("fork")  # as Spark's daemon makes its workers
    ours, its = context.Pipe()

    def work() -> None:
        its.send(task_device("auto", gpu_tasks))
        its.recv()

    worker = context.Process(target=work)
    worker.start()
    yield ours.recv()
    ours.send("end")
    worker.join()


def test_without_addresses_processes_share_the_gpus_evenly(machine: pytest.MonkeyPatch, tmp_path: Path):
    machine.setattr(resources, "gpu_addresses", lambda: [])
    machine.setattr(resources.tempfile, "gettempdir", lambda: str(tmp_path))
    with process(1) as first:
        with process(1) as second:
            assert (first, second) == ("cuda:0", "cuda:1")
            with process(1) as third:  # of another run on this machine
                assert third in ("cuda:0", "cuda:1")
        with process(1) as again:  # its place was left
            assert again == "cuda:1"
    with process(2) as a, process(2) as b, process(2) as c, process(2) as d:
        assert [a, b, c, d] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
