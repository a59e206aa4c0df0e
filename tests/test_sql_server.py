"""``vitrine sql-server``: a pyspark client finds all that ``vitrine sql`` has, and can change none of it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vitrine import read_only
from vitrine.errors import UserError

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TOKEN = "SPARK_CONNECT_AUTHENTICATE_TOKEN"
CLIENT = """
import json, sys
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

spark = SparkSession.builder.remote(sys.argv[1]).getOrCreate()
for statement in json.load(sys.stdin):
    try:
        said = [list(row) for row in spark.sql(statement).collect()]
    except PySparkException as error:
        said = str(error)
    print(json.dumps(said, default=str), flush=True)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("served") / "home"
    subprocess.run([sys.executable, EXAMPLES / "example_shop.py", home], check=True, capture_output=True, env=plain())
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[str]:
    """Its address."""
    try:
        read_only.hold_command(home)
    except UserError as error:
        pytest.skip(str(error))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vitrine", "sql-server", "--port", str(port)]
    env = plain() | {"VITRINE_HOME": str(home), "VITRINE_SPARK__CONF": '{"spark.driver.memory": "1g"}'}
    log = home.parent / "server.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=stderr, stderr=stderr, env=env, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while "serving" not in log.read_text():
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield f"sc://localhost:{port}"
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def plain() -> dict[str, str]:
    project = str(EXAMPLES.parent)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("VITRINE_", "SPARK_", "PYSPARK_"))}
    return env | {"PYTHONPATH": os.pathsep.join(filter(None, [project, env.get("PYTHONPATH")]))}


def ask(server: str, token: str, *statements: str) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, server],
        input=json.dumps(statements),
        env=plain() | {TOKEN: token},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return [json.loads(line) for line in done.stdout.splitlines()] or [done.stderr]


@pytest.mark.long
def test_a_client_asks_and_cannot_change(server: str, home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    photo = "SELECT image_id FROM catalog ORDER BY image_id LIMIT 1"
    found = ask(
        server,
        (home / "sql_server.token").read_text(),
        "SELECT encoder FROM encoder_comparison WHERE serves",
        "SELECT count(*) FROM catalog VERSION AS OF 1",
        f"SELECT count(*) FROM ({photo}) c, LATERAL neighbours(c.image_id, 5)",
        "SELECT round(cosine(array(1F, 1F), array(1F, 0F)), 4)",
        "DELETE FROM catalog",
        "VACUUM catalog",
        "CREATE TABLE mine USING delta AS SELECT 1 AS one",
    )
    assert found[:4] == [[["shop_large__top__shop"]], [[120]], [[15]], [[0.7071]]]
    assert len(found) == 7 and all(isinstance(said, str) for said in found[4:]), found[4:]
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


@pytest.mark.long
def test_who_shows_no_token_is_refused(server: str, home: Path) -> None:
    assert "UNAUTHENTICATED" in str(ask(server, "guessed", "SELECT 1"))
    assert (home / "sql_server.token").stat().st_mode & 0o077 == 0
