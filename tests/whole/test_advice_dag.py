"""The DAG ``advise`` in Airflow's own scheduler: the rows that it leaves, and what nights promote afterwards."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_server import AirflowServer
from vitrine import lake
from vitrine.settings import Settings, load_settings

CONFIG = """
[nightly]
encoders = ["other"]
[[nightly.datasets]]
name = "demo"
layout = "generated"
source = "12x4"

[encoders.small]
backbone = "torchvision/squeezenet1_0"
input_size = 64
weights = "random:0"

[encoders.other]
backbone = "torchvision/squeezenet1_0"
input_size = 64
weights = "random:1"

[gates]
min_value = 0
min_above_chance = 0

[airflow]
nightly = ""
retry_seconds = 1
"""
FORM = {"dataset": "demo", "encoders": ["small"], "margin": 0.9}


def states(server: AirflowServer, run_id: str) -> dict[str, Any]:
    return {task["task_id"]: task["state"] for task in server.tasks("advise", run_id)}


def rows(settings: Settings) -> list[dict[str, Any]]:
    return lake.rows(settings, "SELECT * FROM advice ORDER BY advised_at, encoder, strategy")


@pytest.mark.long
def test_an_advice_is_a_row_and_applied_it_comes_first_in_the_nights(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    settings = load_settings(tmp_path)
    command = [sys.executable, "-m", "vitrine", "ingest", "12x4", "--dataset", "demo", "--layout", "generated"]
    command += ["--test-share", "0.25"]
    assert subprocess.run(command).returncode == 0
    with AirflowServer(settings) as server:
        # A budget in which nothing can be measured: undecided is an answer, too.
        run_id = server.trigger("advise", FORM | {"budget": "1s"})
        ended = server.wait("advise", run_id)
        assert ended["state"] == "success", server.task_log("advise", run_id, "advise")[-3000:]
        assert states(server, run_id) == {
            **{"advise": "success", "backfills": "success", "backfill": "skipped"},
            "apply": "skipped",
        }
        assert [(row["encoder"], row["verdict"]) for row in rows(settings)] == [("small", "left out")]

        server.ask("PATCH", "/api/v2/dags/backfill_backbone", {"is_paused": False})
        run_id = server.trigger("advise", FORM | {"apply": True})
        ended = server.wait("advise", run_id, seconds=1200)
        logs = "\n".join(server.task_log("advise", run_id, task)[-3000:] for task in ("advise", "backfill", "apply"))
        assert ended["state"] == "success", logs
    chosen = [row for row in rows(settings) if row["verdict"] == "chosen"]
    assert {(row["dataset"], row["encoder"], row["use"], row["photos"]) for row in chosen} == {
        ("demo", "small", "search", 48)
    }
    assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in chosen)
    assert len(chosen) == 2  # the advice, and what was applied: found again on vectors that are all there
    figures = lake.rows(settings, "SELECT figures FROM runs WHERE verb = 'advise' AND state = 'done'")
    assert {json.loads(row["figures"])["state"] for row in figures} == {"decided", "undecided"}
    counted = lake.rows(settings, "SELECT count(DISTINCT image_id) AS n FROM embeddings WHERE encoder = 'small'")
    assert counted[0]["n"] == 48
    assert load_settings(tmp_path).nightly.encoders[1:] == ("other",)
