"""The nightly DAG: its shape, how it imports, and one whole night through Airflow."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitrine import lake
from vitrine.settings import Settings

PROJECT = Path(__file__).resolve().parents[2]
_LOOK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import nightly_reembedding as module
from airflow.dag_processing.dagbag import DagBag
heavy = [name for name in ("pyspark", "torch", "feast", "pymilvus", "pandas", "deltalake") if name in sys.modules]
bag = DagBag(sys.argv[1])
print(json.dumps({
    "errors": {key: str(value) for key, value in bag.import_errors.items()},
    "heavy": heavy,
    "tasks": {task.task_id: sorted(task.downstream_task_ids) for task in module.dag.tasks},
    "arguments": {task.task_id: list(getattr(task, "application_args", None) or getattr(task, "op_args", []))
                  for task in module.dag.tasks},
}))
"""


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    from vitrine.airflow_home import environment

    nightly = {
        "encoders": ["efficientnet_lite0", "second"],
        "datasets": [{"name": "shop", "source": "a b", "layout": "folder"}],
    }
    return environment(settings) | {"VITRINE_NIGHTLY": json.dumps(nightly)}


def test_the_dag_has_the_tasks_in_their_order(environment: dict[str, str]) -> None:
    subprocess.run(["airflow", "db", "migrate"], env=environment, check=True, capture_output=True)
    result = subprocess.run(
        [sys.executable, "-c", _LOOK, str(PROJECT / "dags")], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["errors"] == {}
    assert found["heavy"] == [], "the scheduler parses DAGs all day: they import nothing heavy"
    tasks, arguments = found["tasks"], found["arguments"]
    chain = ["ingest", "embed__second", "index__second", "evaluate__second", "gate_metrics__second", "features"]
    for before, after in itertools.pairwise(chain):
        assert f"shop.{after}" in tasks[f"shop.{before}"]
    assert tasks["shop.gate_metrics__efficientnet_lite0"] == ["shop.promote"]
    assert tasks["shop.promote"] == ["shop.features"]
    assert sorted(tasks["shop.features"]) == ["night_went_well", "report"]
    assert arguments["shop.ingest"] == ["ingest", "a b", "--dataset", "shop", "--layout", "folder", "--gate"]
    assert arguments["shop.promote"] == ["promote", "efficientnet_lite0", "--dataset", "shop", "--if-new"]


@pytest.mark.slow
def test_a_whole_night_and_the_one_after(settings: Settings) -> None:
    env = os.environ | {"VITRINE_DIFFICULTY": "0.3"}
    command = [sys.executable, "-m", "vitrine", "demo", "--source", "6x5", "--json"]
    # A gate that nothing passes: the night fails there, nothing serves, and the report is written all the same.
    first = subprocess.run(command, env=env | {"VITRINE_GATES__MIN_VALUE": "1"}, capture_output=True, text=True)
    assert first.returncode == 3, first.stderr[-3000:]
    assert "refused tonight: gate" in first.stderr
    assert lake.serving(settings, "demo") is None
    night = lake.rows(settings, "SELECT verb, state FROM runs ORDER BY started_at")
    assert [row["verb"] for row in night] == ["ingest", "gate", "embed", "gate", "index", "evaluate", "gate", "report"]
    assert [row["state"] for row in night if row["state"] != "done"] == ["refused"]

    # The next night, with gates as they should be, embeds nothing again, and its encoder serves.
    second = subprocess.run(command, env=env, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr[-3000:]
    shown = json.loads(second.stdout)
    assert shown["metrics"]["mMP@5"] > 0.3
    assert shown["lookup"]["product_id"].startswith("demo/")
    assert Path(shown["report"]).stat().st_size > 100_000
    assert lake.serving(settings, "demo")
    night = lake.rows(settings, "SELECT verb, figures FROM runs ORDER BY started_at DESC LIMIT 10")
    embed = next(lake.figures(row["figures"]) for row in night if row["verb"] == "embed")
    assert (embed["embedded"], embed["unchanged"]) == (0, 30)
