"""Parts that go away under a verb: one clear line, and the next run ends right."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vitrine import lake
from vitrine.check_cli import state
from vitrine.settings import load_settings

CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64

[nightly]
encoders = ["small"]
datasets = [{name = "shop", source = "photos"}]
"""


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


def test_an_online_store_that_is_away(settings, tmp_path: Path):
    from tests.test_cli import seed

    (tmp_path / "vitrine.toml").write_text(CONFIG)
    seed(settings)
    store = {"type": "redis", "connection_string": "127.0.0.1:9"}
    away = vitrine(tmp_path, "features", VITRINE_FEAST__ONLINE_STORE=json.dumps(store))
    assert is_one_line(away), away.stderr
    assert vitrine(tmp_path, "features").returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, which some embeddings fill."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small file system here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.long
def test_a_full_disk(small_disk: Path, tmp_path: Path, draw: Callable[..., Path]):
    draw(3, 3)
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    home = {"VITRINE_HOME": str(small_disk)}
    assert vitrine(tmp_path, "ingest", "photos", "--dataset", "shop", **home).returncode == 0
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:  # all but some kilobytes
        free = shutil.disk_usage(small_disk).free
        file.write(b"x" * (free - 20_000))
    for verb in (("embed", "--encoder", "small"), ("index", "--encoder", "small"), ("features",)):
        full = vitrine(tmp_path, *verb, **home)
        assert full.returncode in (1, 2) and "Traceback" not in full.stderr, full.stderr
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=300m", str(small_disk)], check=True)
    for verb in (
        ("embed", "--encoder", "small"),
        ("promote", "small", "--dataset", "shop", "--force", "--reason", "test"),
    ):
        done = vitrine(tmp_path, *verb, **home)
        assert done.returncode == 0, done.stderr
    settings = load_settings(tmp_path).model_copy(update={"home": small_disk})
    assert len(lake.rows(settings, "SELECT * FROM embeddings")) == 9
    assert state(settings, "shop")["differences"] == []
