"""``airflow standalone`` for as long as a block lasts, and what is asked of its API: for tests and benchmarks."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from vitrine.cli import airflow
from vitrine.errors import VitrineError
from vitrine.settings import Settings

START_SECONDS, ENDED = 180, ("success", "failed")


class AirflowServer:
    """A scheduler, a DAG processor, a triggerer and the API, on a free port of this machine."""

    def __init__(self, settings: Settings, extra: dict[str, str] | None = None) -> None:
        """``extra`` environment variables go before the others."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self._settings = settings
        self._env = airflow.standalone_environment(settings, self.port) | (extra or {})
        self.log = settings.home / "logs" / "airflow.log"
        self._token = ""

    def __enter__(self) -> Self:
        airflow.prepare(self._settings, self._env)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        program = shutil.which("airflow", path=self._env["PATH"])
        assert program is not None
        with self.log.open("w") as file:
            self._process = subprocess.Popen(
                [program, "standalone"], env=self._env, stdout=file, stderr=file, start_new_session=True
            )
        try:
            self._wait_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process: the servers, then what their tasks left in sessions of their own."""
        started = self._below()
        for sign, seconds in ((signal.SIGINT, 15), (signal.SIGKILL, 5)):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, sign)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        _kill(started)

    def kill(self) -> None:
        """SIGKILL for every process at once, those of running tasks too: what a machine that loses power does."""
        _kill([psutil.Process(self._process.pid), *self._below()])
        self._process.wait(5)

    def _below(self) -> list[psutil.Process]:
        return psutil.Process(self._process.pid).children(recursive=True) if self._process.poll() is None else []

    def _wait_healthy(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            try:
                said = self.ask("GET", "/api/v2/monitor/health", signed=False)
                parts = [part["status"] for name, part in said.items() if name in ("scheduler", "dag_processor")]
                if parts == ["healthy", "healthy"]:
                    self._token = self.ask("GET", "/auth/token", signed=False)["access_token"]
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            if self._process.poll() is not None:
                break
            time.sleep(0.5)
        raise VitrineError(f"airflow standalone did not come up; its log is {self.log}")

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, signed: bool = True) -> Any:
        """One request to the API; its JSON. Raises urllib.error.HTTPError where it refuses."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._token}"} if signed else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"{}")

    def trigger(self, dag: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run of a DAG, once the DAG is known; its run id."""
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                self.ask("PATCH", f"/api/v2/dags/{dag}", {"is_paused": False})
                body = {"logical_date": None, "conf": conf or {}}
                return str(self.ask("POST", f"/api/v2/dags/{dag}/dagRuns", body)["dag_run_id"])
            except urllib.error.HTTPError as error:
                if error.code != 404 or time.monotonic() > until:
                    raise VitrineError(f"Airflow does not start {dag}: {error.read().decode()[:500]}") from None
                time.sleep(0.5)

    def run(self, dag: str, run_id: str) -> dict[str, Any]:
        """A run of a DAG, as the API has it."""
        return dict(self.ask("GET", f"/api/v2/dags/{dag}/dagRuns/{run_id}"))

    def wait(self, dag: str, run_id: str, seconds: float = 600) -> dict[str, Any]:
        """The run, once it has ended.

        Raises:
            VitrineError: it did not within ``seconds``.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            run = self.run(dag, run_id)
            if run["state"] in ENDED:
                return run
            time.sleep(1)
        raise VitrineError(f"run {run_id} of {dag} did not end in {seconds:g} s; the log is {self.log}")

    def tasks(self, dag: str, run_id: str) -> list[dict[str, Any]]:
        """The run's task instances, as the API has them."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run_id}/taskInstances?limit=200"
        return list(self.ask("GET", path)["task_instances"])

    def task_log(self, dag: str, run_id: str, task: str) -> str:
        """What a task wrote, all its tries and mapped ones, as text: to say why a test failed."""
        folder = Path(self._env["AIRFLOW_HOME"]) / "logs" / f"dag_id={dag}" / f"run_id={run_id}" / f"task_id={task}"
        return "\n".join(path.read_text(errors="replace") for path in sorted(folder.rglob("*.log")))


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
