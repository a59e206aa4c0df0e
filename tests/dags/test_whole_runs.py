"""Whole runs through Airflow's own scheduler (``airflow standalone``): nights, backfills, tuning and evaluation."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vitrine import lake
from vitrine.airflow_server import AirflowServer
from vitrine.settings import Settings, load_settings

NIGHT, BACKFILL = "nightly_reembedding", "backfill_backbone"
SMALL = {"backbone": "torchvision/squeezenet1_0", "input_size": 64}


def configure(folder: Path, min_value: float = 0.05) -> Settings:
    """A project folder whose nights embed 30 drawn photos."""
    (folder / "vitrine.toml").write_text(
        'difficulty = 0.3\n[nightly]\nencoders = ["efficientnet_lite0"]\n'
        '[[nightly.datasets]]\nname = "demo"\nlayout = "generated"\nsource = "6x5"\n'
        f"[gates]\nmin_value = {min_value}\n[airflow]\nretry_seconds = 1\n"
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
    return [lake.figures(row["figures"]) for row in rows]


@pytest.mark.slow
def test_a_refused_night_the_one_that_serves_and_one_without_change(server: AirflowServer, tmp_path: Path) -> None:
    settings = configure(tmp_path, min_value=1)  # a gate that nothing passes
    ended, tasks = run(server, NIGHT)
    assert ended["state"] == "failed", server.log.read_text()[-3000:]
    assert tasks["demo.encoder.evaluate"] == ["failed"] and tasks["demo.encoder.promote"] == ["upstream_failed"]
    tries = {task["task_id"]: task["try_number"] for task in server.tasks(NIGHT, ended["dag_run_id"])}
    assert tries["demo.encoder.evaluate"] == 1, "a refusal is not tried again"
    assert "30 photos" in ended["note"] and "gates that refused: metrics efficientnet_lite0" in ended["note"]
    assert lake.serving(settings, "demo") is None
    assert (settings.reports / "report.html").is_file(), "the report is written all the same"

    configure(tmp_path)
    ended, tasks = run(server, NIGHT)
    assert ended["state"] == "success", server.task_log(NIGHT, ended["dag_run_id"], "summary")[-3000:]
    assert tasks["demo.encoder.promote"] == ["success"]
    embeds = figures(settings, "embed")
    assert [(one["embedded"], one["unchanged"]) for one in embeds] == [(30, 0), (0, 30)]
    serves = lake.serving(settings, "demo")
    assert serves and f"serves: efficientnet_lite0 ({serves['encoder_version']})" in ended["note"]
    events = server.ask("GET", "/api/v2/assets/events")["asset_events"]
    extra = {event["uri"]: event["extra"] for event in events}
    assert extra["vitrine://demo/served"]["encoder_version"] == serves["encoder_version"]
    assert extra["vitrine://demo/embeddings"]["delta_version"] >= 1

    before = len(figures(settings, "embed"))
    ended, tasks = run(server, NIGHT)
    assert ended["state"] == "success"
    assert {tasks[f"demo.encoder.{task}"] for task in ("embed", "evaluate", "promote")} == {"skipped"}
    assert len(figures(settings, "embed")) == before, "nothing changed: no Spark beyond the ingest's"
    assert "nothing to embed" in ended["note"]
    spent = [float(word) for word in ended["note"].split() if word.replace(".", "").isdigit()][-1]
    assert spent < 60, "seconds of work"


@pytest.mark.long
def test_a_backfill_in_pieces_beside_another_one_paused_stopped_and_gone_on_with(
    server: AirflowServer, tmp_path: Path
) -> None:
    settings = load_settings(tmp_path)
    command = [sys.executable, "-m", "vitrine", "ingest", "6x5", "--dataset", "demo", "--layout", "generated", "--gate"]
    assert subprocess.run(command).returncode == 0
    form = {"datasets": ["demo"], "pilot_rows": 4, "chunk_rows": 14}

    refused, tasks = run(server, BACKFILL, form | {"encoder": "small", "budget_seconds": 1})
    assert refused["state"] == "failed" and tasks["plan"] == "failed" and tasks["pilot"] == "success"
    assert (tasks["embed_spare"], tasks["went_well"]) == ("upstream_failed", "upstream_failed")

    stopped = server.trigger(BACKFILL, form | {"encoder": "small"})
    while "running" not in states(server, BACKFILL, stopped).get("embed_spare", []):
        time.sleep(1)
    server.ask("PATCH", f"/api/v2/dags/{BACKFILL}/dagRuns/{stopped}", {"state": "failed"})

    one = server.trigger(BACKFILL, form | {"encoder": "small"})
    two = server.trigger(BACKFILL, form | {"encoder": "other", "priority": "night"})
    server.ask("PATCH", f"/api/v2/dags/{BACKFILL}", {"is_paused": True})
    time.sleep(10)
    assert "embed_night" not in {name for name, state in states(server, BACKFILL, two).items() if state == "running"}
    server.ask("PATCH", f"/api/v2/dags/{BACKFILL}", {"is_paused": False})
    ended = [server.wait(BACKFILL, run_id) for run_id in (one, two)]
    assert [run["state"] for run in ended] == ["success", "success"], server.log.read_text()[-3000:]
    assert states(server, BACKFILL, two)["embed_night"] == ["success"] * 2
    assert states(server, BACKFILL, two)["embed_spare"] == "skipped"
    for name in ("small", "other"):
        found = lake.rows(settings, f"SELECT image_id FROM embeddings WHERE encoder = '{name}'")
        assert len(found) == len({row["image_id"] for row in found}) == 30
    again = [one for one in figures(settings, "embed") if one.get("embedded")]
    assert sum(one["embedded"] for one in again) <= 60, "no photo was embedded twice"


@pytest.mark.long
def test_a_tuning_hands_its_encoder_to_the_evaluation(server: AirflowServer, tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    source = ["6x8", "--dataset", "demo", "--layout", "generated", "--test-share", "0.3"]
    assert subprocess.run([sys.executable, "-m", "vitrine", "ingest", *source]).returncode == 0
    server.ask("PATCH", "/api/v2/dags/evaluation", {"is_paused": False})
    form = {"encoders": ["small"], "datasets": ["demo"], "quick": True}
    ended, _ = run(server, "tuning", form)
    assert ended["state"] == "success", server.task_log("tuning", ended["dag_run_id"], "tune")[-3000:]
    runs: list[dict[str, Any]] = []
    while not runs:
        runs = server.ask("GET", "/api/v2/dags/evaluation/dagRuns")["dag_runs"]
    ended = server.wait("evaluation", runs[0]["dag_run_id"])
    assert ended["state"] == "success" and ended["run_type"] == "asset_triggered"
    measured = lake.rows(settings, "SELECT DISTINCT encoder FROM metrics WHERE dataset = 'demo'")
    assert [row["encoder"] for row in measured] == ["small__top__demo"]


@pytest.mark.long
def test_the_demo_runs_one_night(settings: Settings) -> None:
    command = [sys.executable, "-m", "vitrine", "demo", "--source", "6x5", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    shown = json.loads(ended.stdout)
    assert shown["metrics"]["mMP@5"] > 0.3
    assert shown["lookup"]["product_id"].startswith("demo/")
    assert Path(shown["report"]).stat().st_size > 100_000
