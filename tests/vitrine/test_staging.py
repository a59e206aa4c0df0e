"""The folder of vectors that wait for their commit; on S3, tests/whole/test_s3_lake.py."""

import os
import time
from pathlib import Path

import pytest

from vitrine import staging
from vitrine.settings import Settings


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"home": tmp_path / "a home #1, 100%"})


def write(settings: Settings, name: str, age: float = 0) -> Path:
    path = Path(settings.staging) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_what_tasks_left_is_seen_and_cleared_with_what_killed_ones_left(settings: Settings) -> None:
    assert not staging.left(settings, "d", "v") and not staging.has_vectors(settings, "d", "v")
    staging.clear(settings, "d", "v")  # nothing there
    write(settings, "d/_temporary/0/_temporary/attempt_1/encoder_version=v/part-0.parquet")  # of a task that was killed
    assert not staging.left(settings, "d", "v")
    write(settings, "d/encoder_version=v/.part-0.snappy.parquet.crc")
    assert staging.left(settings, "d", "v") and not staging.has_vectors(settings, "d", "v")
    write(settings, "d/encoder_version=v/part-0.snappy.parquet")
    other = write(settings, "d/encoder_version=w/part-0.snappy.parquet")
    assert staging.has_vectors(settings, "d", "v")
    staging.clear(settings, "d", "v")
    assert not staging.left(settings, "d", "v") and other.exists()
    staging.clear(settings, "d", "w")
    assert list(Path(settings.staging).iterdir()) == []


def test_what_nobody_touched_is_removed(settings: Settings) -> None:
    month = 31 * 86_400
    assert staging.remove_stale(settings, time.time()) == 0
    for name, age in (("old/a", month), ("goes on/old", month), ("goes on/_temporary/new", 0)):
        write(settings, name, age)
    assert staging.remove_stale(settings, time.time() - 30 * 86_400) == 1
    assert [path.name for path in Path(settings.staging).iterdir()] == ["goes on"]
