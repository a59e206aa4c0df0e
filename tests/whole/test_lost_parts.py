"""Parts that go away under a verb: one clear line, and the next run ends right."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.small_shop import CONFIG


def vitrine(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vitrine", *arguments],
        cwd=folder,
        env=os.environ | {"SPARK_LOCAL_DIRS": str(folder / "spark")} | env,
        capture_output=True,
        text=True,
        timeout=300,
    )


def is_one_line(done: subprocess.CompletedProcess[str]) -> bool:
    ours = [line for line in done.stderr.splitlines() if line.startswith("vitrine: ")]
    return done.returncode == 1 and len(ours) == 1 and "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_online_store_that_is_away(settings, tmp_path: Path):
    from tests.vitrine.cli.test_command_line import seed

    (tmp_path / "vitrine.toml").write_text(CONFIG)
    seed(settings)
    store = {"type": "redis", "connection_string": "127.0.0.1:9"}
    away = vitrine(tmp_path, "features", VITRINE_FEAST__ONLINE_STORE=json.dumps(store))
    assert is_one_line(away), away.stderr
    assert vitrine(tmp_path, "features").returncode == 0
    checked = vitrine(tmp_path, "check", "--dataset", "shop", "--json")
    found = [each for each in json.loads(checked.stdout)["differences"] if each["name"].startswith("online.")]
    assert found == [], checked.stderr
