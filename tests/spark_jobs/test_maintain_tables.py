"""The tables' upkeep."""

import hashlib
import json
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from evaluation.consistency.copies import check_copies
from evaluation.consistency.differences import Differences
from spark_jobs.maintain_tables import _remove_copies, _remove_old_runs, maintain
from vitrine import lake, photo_store
from vitrine.runs import record
from vitrine.setting_sections import SourceSettings
from vitrine.settings import Settings
from vitrine.tables import CATALOG, RUNS


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


def test_the_photo_store_loses_what_no_catalog_has_and_beyond_its_limit_the_oldest(settings: Settings) -> None:
    contents = [bytes([number]) * 1_000 for number in range(8)]
    shas = [hashlib.sha256(data).hexdigest() for data in contents]
    now = lake.now()
    row = {"product_id": "d/p", "size": 1_000, "width": 1, "height": 1}
    row |= {"modified_at": now, "content_seen_at": now, "updated_at": now}
    for number, dataset in ((0, "d"), (1, "d"), (2, "e"), (3, "e"), (4, "e")):
        uri = "HTTPS://shop.example/1.jpg" if number < 4 else "/photos/1.jpg"
        photo = {"image_id": f"{dataset}/{number}", "dataset": dataset, "uri": uri, "content_sha256": shas[number]}
        lake.append(settings, CATALOG, [row | photo])
    paths = [Path(photo_store.place(settings.photos, sha)) for sha in shas]
    for number, data in enumerate(contents):
        photo_store.put(settings.photos, shas[number], data)
        age = 3_600 if number == 7 else 86_400 * (10 - number)
        os.utime(paths[number], (time.time() - age,) * 2)
    (left := paths[5].with_name(".killed.tmp")).touch()
    os.utime(left, (1, 1))
    assert _remove_copies(settings) == {"photos_removed": 4, "photos_bytes": 4_000}
    assert [path.exists() for path in paths] == [True] * 4 + [False] * 3 + [True] and not left.exists()
    assert lost(settings, "d") == lost(settings, "e") == []
    small = settings.model_copy(update={"sources": SourceSettings(keep_gb=2.5e-6)})
    assert _remove_copies(small) == {"photos_removed": 2, "photos_bytes": 2_000}
    assert [path.exists() for path in paths[:4]] == [False, False, True, True]
    assert lost(settings, "d") == ["d/0", "d/1"] and lost(small, "d") == []
    paths[2].write_bytes(b"cut")
    assert lost(settings, "e") == lost(small, "e") == ["e/2"]


def lost(settings: Settings, dataset: str) -> list[str]:
    differences = Differences()
    check_copies(settings, differences, dataset)
    assert {each["name"] for each in differences.as_list()} <= {"photos.lost"}
    return [image_id for each in differences.as_list() for image_id in each["ids"]]
