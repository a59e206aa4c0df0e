"""The replay of the ladder's decisions, on the probes and tunings that are kept: the script itself."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.project import PROJECT, load_script

SCRIPT = PROJECT / "benchmarks" / "ladder.py"
CURVES = PROJECT / "benchmarks" / "ladder_curves.parquet"


@pytest.fixture(scope="module")
def replay() -> ModuleType:
    return load_script(SCRIPT)


def test_what_is_kept_is_decided_on_again(
    replay: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "vitrine.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    for name, value in (("GAINS", (0.01,)), ("CONFIDENCES", (0.9,)), ("BUDGETS", {"as full": 1.0})):
        monkeypatch.setattr(replay, name, value)
    monkeypatch.setattr(sys, "argv", ["ladder.py", str(CURVES)])
    replay.main()
    said = capsys.readouterr().out
    assert "| ladder | as full | " in said and "| successive halving | as full | " in said
    rows = [line.split("|") for line in said.splitlines() if line.startswith(("| ladder |", "| always "))]
    regrets = {row[1].strip(): float(row[3]) for row in rows}
    assert regrets["ladder"] <= min(regrets["always top"], regrets["always full"])


def test_a_strategy_beyond_the_budget_is_not_had(replay: ModuleType):
    rows = [
        {"strategy": name, "kind": kind, "share": 1.0, "probe_seed": 0, "photos": 9, "seconds": seconds}
        | {"known": [worth], "known_class": [0], "new": [], "new_class": []}
        for name, seconds, worth in (("pretrained", 0.0, 0.2), ("linear", 1.0, 0.5), ("full", 100.0, 0.9))
        for kind in ("judged", "asked")
    ]
    run = replay.Run("task", 0, rows)
    assert run.strategies == ["linear", "full"] and run.cost("linear") == 1.0
    assert run.cost("full") == pytest.approx(100 + 1.9 * 100)  # a network of its own embeds the catalog
    assert (run.best(0.5), run.best(2.0), run.best(1000.0)) == (0.2, 0.5, 0.9)
    assert replay.always("full")(run, 50.0).strategy == "pretrained"
    assert replay.full_if_more(8)(run, 1000.0).strategy == "full"
