"""What a job shows of its progress, on a terminal and in a log."""

import io
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from spark_jobs import progress as module
from spark_jobs.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def spark(*stages: tuple[int, int]) -> Any:
    """A session with stages of which some tasks have ended."""
    infos = [SimpleNamespace(numCompletedTasks=ended, numTasks=count) for ended, count in stages]
    tracker = SimpleNamespace(getActiveStageIds=lambda: range(len(infos)), getStageInfo=infos.__getitem__)
    return SimpleNamespace(sparkContext=SimpleNamespace(statusTracker=lambda: tracker))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "_LINE_SECONDS", 0.1)


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]):
    with progress(spark((1, 2), (3, 4)), "embedding shop", 200):
        time.sleep(0.5)
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert printed.out == "" and 1 <= len(lines) <= 4
    assert set(lines) <= {"embedding shop: 150 of 200, 0 s", "embedding shop: 150 of 200, 1 s"}


def test_a_terminal_gets_a_bar_and_standard_output_stays_what_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress(spark(), "listing shop"):
        print("a result")
        time.sleep(0.3)
    assert capsys.readouterr().out == "a result\n"
    assert "listing shop" in terminal.getvalue() and "100%" in terminal.getvalue()
