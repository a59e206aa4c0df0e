"""Whole runs through Airflow's own scheduler (``airflow standalone``): nights, backfills, tuning and evaluation."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.consistency.check import state
from tests.support.airflow_server import AirflowServer
from vitrine import facts, lake
from vitrine.settings import Settings, load_settings

NIGHT, BACKFILL = "nightly_reembedding", "backfill_backbone"
SMALL = {"backbone": "torchvision/squeezenet1_0", "input_size": 64}


def configure(folder: Path, min_value: float = 0.05) -> Settings:
    """A project folder whose nights embed 30 drawn photos."""
    (folder / "vitrine.toml").write_text(
        'difficulty = 0.3\n[nightly]\nencoders = ["efficientnet_lite0"]\n'
        '[[nightly.datasets]]\nname = "demo"\nlayout = "generated"\nsource = "6x5"\n'
        f"[gates]\nmin_value = {min_value}\n[airflow]\nnightly = ''\nretry_seconds = 1\n"
        + "".join(
            f'[encoders.{name}]\nbackbone = "{SMALL["backbone"]}"\ninput_size = {SMALL["input_size"]}\n'
            f'weights = "random:{seed}"\n'
            for seed, name in enumerate(("small", "other"))
        )
    )
    return load_settings(folder)


@pytest.fixture
def server(settings: Settings, tmp_path: Path) -> Iterator[AirflowServer]:
    with AirflowServer(configure(tmp_path)) as running:
        yield running


def run(server: AirflowServer, dag: str, conf: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run to its end, and its tasks' states: a list for a mapped one."""
    run_id = server.trigger(dag, conf)
    return server.wait(dag, run_id), states(server, dag, run_id)


def states(server: AirflowServer, dag: str, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for task in server.tasks(dag, run_id):
        if task["map_index"] < 0:
            found[task["task_id"]] = task["state"]
        else:
            found.setdefault(task["task_id"], []).append(task["state"])
    return found


def figures(settings: Settings, verb: str) -> list[dict[str, Any]]:
    rows = lake.rows(settings, f"SELECT figures FROM runs WHERE verb = '{verb}' ORDER BY started_at")
    return [json.loads(row["figures"]) for row in rows]


@pytest.mark.long
def test_a_night_that_serves_and_one_without_change(server: AirflowServer, tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    ended, tasks = run(server, NIGHT)
    assert ended["state"] == "success", server.task_log(NIGHT, ended["dag_run_id"], "summary")[-3000:]
    assert tasks["demo.encoder.promote"] == ["success"]
    assert [(one["embedded"], one["unchanged"]) for one in figures(settings, "embed")] == [(30, 0)]
    serves = facts.serving(settings, "demo")
    assert serves and f"serves: efficientnet_lite0 ({serves['encoder_version']})" in ended["note"]
    assert (settings.reports / "report.html").is_file()
    events = server.ask("GET", "/api/v2/assets/events")["asset_events"]
    extra = {event["uri"]: event["extra"] for event in events}
    assert extra["vitrine://demo/served"]["encoder_version"] == serves["encoder_version"]
    assert extra["vitrine://demo/embeddings"]["delta_version"] >= 1

    ended, tasks = run(server, NIGHT)
    assert ended["state"] == "success"
    assert {tasks[f"demo.encoder.{task}"] for task in ("embed", "evaluate", "promote")} == {"skipped"}
    assert len(figures(settings, "embed")) == 1, "nothing changed: no Spark beyond the ingest's"
    assert "nothing to embed" in ended["note"]


@pytest.mark.long
def test_a_refused_night_serves_nothing_and_the_next_makes_up_for_it(server: AirflowServer, tmp_path: Path) -> None:
    settings = configure(tmp_path, min_value=1)  # a gate that nothing passes
    ended, tasks = run(server, NIGHT)
    assert ended["state"] == "failed", server.log.read_text()[-3000:]
    assert tasks["demo.encoder.evaluate"] == ["failed"] and tasks["demo.encoder.promote"] == ["upstream_failed"]
    tries = {task["task_id"]: task["try_number"] for task in server.tasks(NIGHT, ended["dag_run_id"])}
    assert tries["demo.encoder.evaluate"] == 1, "a refusal is not tried again"
    assert "30 photos" in ended["note"] and "gates that refused: metrics efficientnet_lite0" in ended["note"]
    assert facts.serving(settings, "demo") is None
    assert (settings.reports / "report.html").is_file(), "the report is written all the same"

    configure(tmp_path)
    ended, tasks = run(server, NIGHT)
    assert ended["state"] == "success", server.task_log(NIGHT, ended["dag_run_id"], "summary")[-3000:]
    assert [(one["embedded"], one["unchanged"]) for one in figures(settings, "embed")] == [(30, 0), (0, 30)]
    assert facts.serving(settings, "demo")


@pytest.mark.long
def test_a_scheduler_that_is_killed_three_times_in_a_night(settings: Settings, tmp_path: Path) -> None:
    settings = configure(tmp_path)
    soon = {  # at once instead of after five minutes
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
        "VITRINE_AIRFLOW__RETRIES": "5",  # a machine under other load may miss a heartbeat too
    }
    run_id = ""
    chance = random.Random(date.today().toordinal())
    for task in ("demo.ingest", "demo.encoder.embed", "demo.encoder.evaluate"):
        with AirflowServer(settings, soon) as server:
            run_id = run_id or server.trigger(NIGHT)
            wait_until_it_runs(server, run_id, task)
            time.sleep(chance.uniform(0, 15))
            server.kill()
    with AirflowServer(settings, soon) as server:
        ended = server.wait(NIGHT, run_id)
        tries = {task["task_id"]: task["try_number"] for task in server.tasks(NIGHT, run_id)}
        assert ended["state"] == "success", server.log.read_text()[-3000:]
    assert max(tries.values()) > 1, tries
    assert "30 photos" in ended["note"] and facts.serving(settings, "demo")
    assert embedded(settings, "efficientnet_lite0") == 30
    assert state(settings, "demo")["differences"] == []


def wait_until_it_runs(server: AirflowServer, run_id: str, task: str) -> None:
    until = time.monotonic() + 300
    while {"running", "success"}.isdisjoint(np.ravel(states(server, NIGHT, run_id).get(task) or "none")):
        assert time.monotonic() < until, f"{task} does not start: {states(server, NIGHT, run_id)}"
        time.sleep(0.2)


def ingest(*more: str) -> None:
    command = [sys.executable, "-m", "vitrine", "ingest", "--dataset", "demo", "--layout", "generated", *more]
    assert subprocess.run(command).returncode == 0


def embedded(settings: Settings, encoder: str) -> int:
    found = lake.rows(settings, f"SELECT image_id FROM embeddings WHERE encoder = '{encoder}'")
    assert len(found) == len({row["image_id"] for row in found}), "nothing twice"
    return len(found)


FORM = {"datasets": ["demo"], "pilot_rows": 4, "chunk_rows": 14}


@pytest.mark.long
def test_a_backfill_beyond_its_budget_or_stopped_is_gone_on_with(server: AirflowServer, tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    ingest("6x5", "--gate")
    refused, tasks = run(server, BACKFILL, FORM | {"encoder": "small", "budget_seconds": 1})
    assert refused["state"] == "failed" and tasks["plan"] == "failed" and tasks["pilot"] == "success"
    assert (tasks["embed_spare"], tasks["went_well"]) == ("upstream_failed", "upstream_failed")
    assert embedded(settings, "small") == 4

    stopped = server.trigger(BACKFILL, FORM | {"encoder": "small"})
    while "running" not in (states(server, BACKFILL, stopped).get("embed_spare") or ()):  # None: not mapped yet
        time.sleep(1)
    server.ask("PATCH", f"/api/v2/dags/{BACKFILL}/dagRuns/{stopped}", {"state": "failed"})
    assert 8 <= embedded(settings, "small") < 30

    last, _ = run(server, BACKFILL, FORM | {"encoder": "small"})
    assert last["state"] == "success", server.log.read_text()[-3000:]
    assert embedded(settings, "small") == 30


@pytest.mark.long
def test_two_backfills_side_by_side_and_paused(server: AirflowServer, tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    ingest("6x5", "--gate")
    runs = [
        server.trigger(BACKFILL, FORM | {"encoder": encoder, "priority": priority})
        for encoder, priority in (("small", "spare"), ("other", "night"))
    ]
    server.ask("PATCH", f"/api/v2/dags/{BACKFILL}", {"is_paused": True})
    time.sleep(10)
    assert all(server.run(BACKFILL, run_id)["state"] in ("queued", "running") for run_id in runs)
    server.ask("PATCH", f"/api/v2/dags/{BACKFILL}", {"is_paused": False})
    assert [server.wait(BACKFILL, run_id)["state"] for run_id in runs] == ["success", "success"]
    assert [states(server, BACKFILL, run_id)["embed_spare"] for run_id in runs] == [["success"] * 2, "skipped"]
    assert [states(server, BACKFILL, run_id)["embed_night"] for run_id in runs] == ["skipped", ["success"] * 2]
    assert (embedded(settings, "small"), embedded(settings, "other")) == (30, 30)


@pytest.mark.long
def test_a_tuning_hands_its_encoder_to_the_evaluation(server: AirflowServer, tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    ingest("6x8", "--test-share", "0.3")
    server.ask("PATCH", "/api/v2/dags/evaluation", {"is_paused": False})
    form = {"encoders": ["small"], "datasets": ["demo"], "quick": True}
    ended, _ = run(server, "tuning", form)
    assert ended["state"] == "success", server.task_log("tuning", ended["dag_run_id"], "tune")[-3000:]
    runs: list[dict[str, Any]] = []
    until = time.monotonic() + 60
    while not runs and time.monotonic() < until:
        time.sleep(1)
        runs = server.ask("GET", "/api/v2/dags/evaluation/dagRuns")["dag_runs"]
    ended = server.wait("evaluation", runs[0]["dag_run_id"])
    assert ended["state"] == "success" and ended["run_type"] == "asset_triggered"
    measured = lake.rows(settings, "SELECT DISTINCT encoder FROM metrics WHERE dataset = 'demo'")
    assert [row["encoder"] for row in measured] == ["small__top__demo"]

    form = {"encoders": ["small"], "datasets": ["demo"], "classify": ["product_id", "category"]}
    ended, tasks = run(server, "evaluation", form)
    assert ended["state"] == "success" and tasks["measure.classify"] == ["success"]
    scored = lake.rows(settings, "SELECT DISTINCT relevant, classifier FROM metrics WHERE encoder = 'small'")
    assert {(row["relevant"], row["classifier"]) for row in scored if row["classifier"]} == {
        (label, name)
        for label in ("product_id", "category")
        for name in ("linear_probe", "nearest_neighbours", "discriminants")
    }


@pytest.mark.slow
def test_the_demo_runs_one_night(settings: Settings) -> None:
    command = [sys.executable, "-m", "vitrine", "demo", "--source", "6x5", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    shown = json.loads(ended.stdout)
    assert shown["metrics"]["mMP@5"] > 0.3
    assert shown["lookup"]["product_id"].startswith("demo/")
    assert Path(shown["report"]).stat().st_size > 100_000
