"""The tables' upkeep."""

import json
import os
import time
from datetime import timedelta

import pytest

from spark_jobs.maintain_tables import _remove_old_runs, maintain
from vitrine import lake
from vitrine.runs import record
from vitrine.settings import Settings
from vitrine.tables import RUNS


def test_maintain_compacts_and_keeps_every_row(settings: Settings, spark: object) -> None:
    for number in range(6):
        with record(settings, f"verb{number}"):
            pass
    before = sorted(row["verb"] for row in lake.rows(settings, "SELECT verb FROM runs"))
    for name, age in (("new", 0), ("old", 31 * 86_400)):
        checkpoint = settings.home / "staging" / name
        checkpoint.mkdir(parents=True)
        os.utime(checkpoint, (time.time() - age,) * 2)
    tunings = settings.home / "models" / "top"
    for name, done in (("half", False), ("done", True), ("again", False)):
        (tunings / name).mkdir(parents=True)
        (tunings / name / ("result.json" if done else "request.json")).touch()
        for path in (tunings / name, *(tunings / name).iterdir()):
            os.utime(path, (time.time() - 31 * 86_400,) * 2)
    (tunings / "again" / "search").touch()  # somebody went on with it
    figures = maintain(settings, keep_days=30)
    assert figures["checkpoints_removed"] == 1 and (settings.home / "staging" / "new").is_dir()
    assert figures["tunings_removed"] == 1 and {path.name for path in tunings.iterdir()} == {"done", "again"}
    assert figures["tables"]["runs"] == "6 -> 1 files"
    assert sorted(row["verb"] for row in lake.rows(settings, "SELECT verb FROM runs")) == before
    files = len(list(RUNS.path(settings).glob("*.parquet")))
    assert files == 7, "what time travel may still want is kept"


def test_old_runs_leave_but_the_newest_of_each_job(settings: Settings, spark: object) -> None:
    row = {"state": "done", "seconds": 1.0, "peak_mib": 1.0, "dataset": "d", "verb": "gate"}
    for run_id, gate, days in (
        ("a", "catalog", 900),
        ("b", "catalog", 500),
        ("c", "metrics", 500),
        ("d", "metrics", 1),
    ):
        figures = json.dumps({"gate": gate})
        started = lake.now() - timedelta(days=days)
        lake.append(settings, RUNS, [row | {"run_id": run_id, "figures": figures, "started_at": started}])
    assert _remove_old_runs(spark, settings, 400) == 2
    assert sorted(row["run_id"] for row in lake.rows(settings, "SELECT run_id FROM runs")) == ["b", "d"]


def test_a_failed_job_is_recorded_with_its_error(settings: Settings) -> None:
    with pytest.raises(RuntimeError), record(settings, "embed", "shop", "x") as run:
        run.figures["images"] = 1
        raise RuntimeError("no such luck")
    row = lake.rows(settings, "SELECT * FROM runs")[0]
    assert (row["state"], row["dataset"]) == ("failed", "shop")
    assert json.loads(row["figures"])["error"] == "RuntimeError: no such luck"
