"""Airflow under the home: the environment that its commands need, and ``make airflow``."""

import json
import os
import shutil
import sys
from pathlib import Path

from vitrine.settings import Settings, find_config, load_settings

DAGS = Path(__file__).resolve().parent.parent / "dags"


def environment(settings: Settings) -> dict[str, str]:
    """This process's environment with Airflow's home, DAGs and Spark connection; what is set already goes first."""
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
        "PYTHONWARNINGS": "ignore",
    }
    if config:
        wanted["VITRINE_CONFIG"] = str(config)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return wanted | os.environ | {"PATH": path, "VITRINE_HOME": str(settings.home)}


def main() -> None:
    """Become ``airflow standalone``: scheduler, DAG processor, triggerer and UI, with the login in its output."""
    env = environment(load_settings())
    env.setdefault("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "True")  # bound to this machine, for trying out
    env.setdefault("AIRFLOW__API__HOST", "127.0.0.1")
    airflow = shutil.which("airflow", path=env["PATH"])
    assert airflow is not None
    os.execve(airflow, [airflow, "standalone"], env)  # noqa: S606


if __name__ == "__main__":
    main()
