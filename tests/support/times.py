"""A pytest plugin for ``scripts/test_times.py``: notes how long each fixture took, and each process that started."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_noted: dict[str, list[tuple[str, Any]]] = {"fixtures": [], "starts": []}
_file = ["collection"]
_started = subprocess.Popen.__init__


@pytest.hookimpl(hookwrapper=True)
def pytest_fixture_setup(fixturedef: Any) -> Iterator[None]:
    """Without the fixtures that it asks for: they are set up before."""
    began = time.monotonic()
    yield
    name = f"{fixturedef.argname} ({fixturedef.scope}, {fixturedef.baseid or 'pytest'})"
    _noted["fixtures"].append((name, time.monotonic() - began))


def pytest_runtest_setup(item: pytest.Item) -> None:
    _file[0] = item.location[0]


def _start(process: Any, args: Any, *more: Any, **options: Any) -> None:
    words = [args] if isinstance(args, str) else [str(word) for word in args]
    program = Path(words[0]).name
    if program.startswith("python"):
        modules = [word for word in words[1:4] if not word.startswith("-")]
        program = " ".join(["python", *modules[:2]])[:40].split("\n")[0]
    _noted["starts"].append((_file[0], program))
    _started(process, args, *more, **options)


def pytest_configure() -> None:
    subprocess.Popen.__init__ = _start  # type: ignore[method-assign]


def pytest_sessionfinish() -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    (Path(os.environ["VITRINE_TEST_TIMES"]) / f"{worker}.json").write_text(json.dumps(_noted))
