"""``vitrine demo``: one night on a catalog that it draws itself, run by Airflow, then what came of it."""

import json
import re
import subprocess
import sys
import time
from typing import Any

from vitrine import airflow_home, lake
from vitrine.errors import VitrineError
from vitrine.settings import Settings

DATASET, ENCODER = "demo", "efficientnet_lite0"
_SAID = re.compile(r"(starting|end) task.*?task_id='?([\w.]+)|\b(listing|reading|embedding) demo\S*.*")


def demo(settings: Settings, source: str) -> dict[str, Any]:
    """Run the nightly DAG on ``source`` by ``airflow dags test``; where the report is, metrics, an online lookup.

    Raises:
        VitrineError: the night failed; the message says where its log is.
    """
    started = time.monotonic()
    env = airflow_home.environment(settings)
    dataset = {"name": DATASET, "source": source, "layout": "generated"}
    env["VITRINE_NIGHTLY"] = json.dumps({"encoders": [ENCODER], "datasets": [dataset]})
    log = settings.home / "logs" / "demo.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    _airflow(["db", "migrate"], env, log)
    _airflow(["dags", "test", "nightly_reembedding"], env, log)
    _check_night(settings, log, started)
    return _outcome(settings) | {"seconds": round(time.monotonic() - started, 1), "log": str(log)}


def _airflow(arguments: list[str], env: dict[str, str], log: Any) -> None:
    print(f"airflow {' '.join(arguments)}", file=sys.stderr, flush=True)
    with (
        log.open("a") as file,
        subprocess.Popen(
            ["airflow", *arguments],  # noqa: S607
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            _tell(line)
    if process.returncode:
        raise VitrineError(f"airflow {arguments[0]} ended with {process.returncode}; its log is {log}")


def _tell(line: str) -> None:
    """The lines of Airflow's log that say how far the night is."""
    found = _SAID.search(line)
    if found:
        print(f"  {line.strip()[:150]}", file=sys.stderr, flush=True)


def _check_night(settings: Settings, log: Any, started: float) -> None:
    if not lake.serving(settings, DATASET):
        raise VitrineError(f"the night ended and nothing serves; its log is {log}")


def _outcome(settings: Settings) -> dict[str, Any]:
    from vitrine import feature_store

    serves = lake.serving(settings, DATASET)
    assert serves is not None
    found = lake.rows(
        settings,
        "SELECT metric, value FROM metrics WHERE slice = 'all' AND "
        f"dataset = {lake.quote(DATASET)} AND encoder_version = {lake.quote(serves['encoder_version'])} "
        f"AND catalog_version = {lake.quote(lake.catalog_version(settings, DATASET))}",
    )
    metrics = {row["metric"]: row["value"] for row in found}
    image = lake.rows(settings, f"SELECT min(image_id) AS id FROM catalog WHERE dataset = {lake.quote(DATASET)}")[0]
    online = feature_store.lookup(settings, DATASET, [image["id"]])[0]
    vector = online.pop("embedding")
    return {
        "report": str(settings.reports / "report.html"),
        "metrics": {name: metrics[name] for name in ("mMP@5", "mR@1", "MAP@100") if name in metrics},
        "lookup": {**online, "embedding": f"[{vector[0]:.4f}, {vector[1]:.4f}, ...] ({len(vector)} floats)"},
    }
