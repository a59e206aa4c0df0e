"""A standalone Spark cluster on this machine, for tests and benchmarks: each daemon is a process of its own."""

import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyspark

PLACE, HERE = "org.apache.spark.deploy", ("--host", "127.0.0.1", "--webui-port", "0")


@dataclass(frozen=True)
class Worker:
    """Of one core; with ``core``, of that one alone."""

    memory: str
    core: int | None = None
    env: dict[str, str] = field(default_factory=dict)


@dataclass
class Cluster:
    master: str
    workers: "list[subprocess.Popen[bytes]]"

    def lose(self, worker: int) -> None:
        """As with its machine: its executor and Python too."""
        kill(self.workers[worker])


@contextmanager
def cluster(folder: Path, workers: Sequence[Worker]) -> Iterator[Cluster]:
    """A master, and workers that have registered; their logs and files in ``folder``."""
    with ExitStack() as stack:
        log = folder / "master.log"
        stack.enter_context(_daemon(log, None, {}, f"{PLACE}.master.Master", *HERE, "--port", "0"))
        master, started = _said(log, r"spark://127\.0\.0\.1:[1-9]\d*"), []
        for number, worker in enumerate(workers):
            log = folder / f"worker{number}.log"
            options = ("--cores", "1", "--memory", worker.memory, "--work-dir", str(folder / f"work{number}"), master)
            daemon = _daemon(log, worker.core, worker.env, f"{PLACE}.worker.Worker", *HERE, *options)
            started.append(stack.enter_context(daemon))
            _said(log, "Successfully registered with master")
        yield Cluster(master, started)


@contextmanager
def _daemon(log: Path, core: int | None, env: dict[str, str], *arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
    """One of Spark's daemons, its output in ``log``; with all below it, it ends with the block."""
    command = [str(Path(pyspark.__file__).parent / "bin" / "spark-class"), *arguments]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            env=os.environ | env,
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
        )
    try:
        yield process
    finally:
        kill(process)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """The process and all below it."""
    if process.poll() is None:
        root = psutil.Process(process.pid)
        for member in [*root.children(recursive=True), root]:
            member.kill()
        process.wait(30)


def _said(log: Path, pattern: str) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := re.search(pattern, log.read_text()):
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f"{pattern} not in {log}:\n{log.read_text()[-2000:]}")
