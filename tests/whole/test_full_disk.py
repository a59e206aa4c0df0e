"""A home on a disk that is full: one line, and once there is room the same verbs end as if nothing had been."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kill_harness import NIGHT, agrees, differences, lay, make_project, run, state

MIB = 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 100 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no file system may be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, left: int) -> Path:
    """A file that takes the disk's room but for ``left`` bytes."""
    ballast = folder / "ballast"
    stat = os.statvfs(folder)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, stat.f_bavail * stat.f_frsize - left)
    return ballast


def fails(project: Path, disk: Path, left: int, given: tuple[str, ...], spark: Path) -> bool:
    """Does the verb fail where ``left`` bytes of the disk are left? Then in one line that says why."""
    ballast = fill(disk, left)
    done = subprocess.run(
        [sys.executable, "-m", "vitrine", *given],
        cwd=project,
        env=os.environ | {"SPARK_LOCAL_DIRS": str(spark)},
        capture_output=True,
        text=True,
    )
    ballast.unlink()
    ours = [line for line in done.stderr.splitlines() if line.startswith("vitrine: ")]
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr[-3000:]
    if done.returncode:
        assert len(ours) == 1, done.stderr[-3000:]
        assert "a disk is full" in ours[0] or "No space left on device" in ours[0], ours
    return bool(done.returncode)


@pytest.mark.parametrize(
    "verbs", [["ingest"], pytest.param(list(NIGHT), marks=pytest.mark.long)], ids=["ingest", "all of a night"]
)
def test_verbs_of_a_night_on_a_full_disk(spark: object, small_disk: Path, tmp_path: Path, verbs: list[str]) -> None:
    twin, project = make_project(tmp_path / "twin"), make_project(small_disk / "project")
    lay(tmp_path / "photos", 0)
    failed = set()
    for verb in verbs:
        given = tuple(part.replace("../photos", str(tmp_path / "photos")) for part in NIGHT[verb])
        run(twin, given)
        for left in (0, 8192, 65536) if len(verbs) > 1 else (8192,):
            if fails(project, small_disk, left, given, tmp_path / "spark"):
                failed.add(verb)
        run(project, given)
    assert failed == set(verbs)
    if len(verbs) > 1:
        assert differences(state(twin), state(project)) == []
    assert (agrees(twin), agrees(project)) == ([], [])
