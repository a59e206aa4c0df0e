"""Airflow under the home: the environment that its commands need, and ``make airflow``."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from vitrine import surroundings
from vitrine.settings import Settings, find_config, load_settings

DAGS = Path(__file__).resolve().parents[2] / "dags"
_POOL = """
import sys
from airflow.utils import db
from airflow.models.pool import Pool
db.initdb()
Pool.create_or_update_pool(sys.argv[1], slots=int(sys.argv[2]), description=sys.argv[3], include_deferred=False)
"""


def environment(settings: Settings, *, alone: bool = False) -> dict[str, str]:
    """A child's environment with Airflow's home, DAGs and Spark connection. Connections and pages that the caller has
    set go first, unless they are another Airflow's, or ``alone``."""
    home = settings.home / "airflow"
    home.mkdir(parents=True, exist_ok=True)
    config = find_config()
    wanted = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps(
            {"conn_type": "spark", "host": settings.spark.master or "local[*,4]", "extra": {"deploy-mode": "client"}}
        ),
        "VITRINE_HOME": str(settings.home),
        # A night's verbs follow each other: on this machine they share a JVM, which ends with this process.
        "VITRINE_SPARK__KEEP_JVM_SECONDS": "60",
        "VITRINE_SPARK__KEEP_JVM_FOR": str(os.getpid()),
        "PYTHONWARNINGS": "ignore",
    }
    if config:
        wanted["VITRINE_CONFIG"] = str(config)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    given = surroundings.without_other_airflow(surroundings.for_child(), alone=alone)
    if not settings.spark.master:
        given = surroundings.without_other_sparks(given)
    return wanted | given | {"PATH": path, "VITRINE_HOME": str(settings.home)}


def standalone_environment(settings: Settings, port: int = 8080) -> dict[str, str]:
    """As ``environment``, for ``airflow standalone`` on ``port`` of this machine alone, open to who is on it."""
    url = f"http://127.0.0.1:{port}"
    wanted = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        # The scheduler, its workers and the jobs share one machine: fewer processes beside the work, and DAG files
        # that change with the settings only are not read every half minute.
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
        "AIRFLOW__CORE__PARALLELISM": str(max(4, os.cpu_count() or 1)),
        # By this connection a night's summary becomes a note on its run.
        f"AIRFLOW_CONN_{settings.airflow.api_connection.upper()}": json.dumps({"conn_type": "http", "host": url}),
    }
    return wanted | environment(settings)


def prepare(settings: Settings, env: dict[str, str]) -> None:
    """Airflow's database, and in it the pool that ``[airflow]`` names: a task whose pool is missing never starts."""
    about = "Vitrine: what computes vectors or tunes"
    options = settings.airflow
    command = [sys.executable, "-c", _POOL, options.pool, str(options.pool_slots), about]
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Become ``airflow standalone``: scheduler, DAG processor, triggerer and UI; its pages are open on this machine."""
    settings = load_settings()
    env = standalone_environment(settings)
    prepare(settings, env)
    airflow = shutil.which("airflow", path=env["PATH"])
    assert airflow is not None
    os.execve(airflow, [airflow, "standalone"], env)  # noqa: S606


if __name__ == "__main__":
    main()
