"""``vitrine sql-server``: a pyspark client finds all that ``vitrine sql`` has, and can change none of it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyspark
import pytest

from tests.support.project import PROJECT
from vitrine.cli import read_only
from vitrine.errors import UserError

EXAMPLES = PROJECT / "examples"
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


@dataclass(frozen=True)
class Served:
    connect: str
    thrift: str


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Served]:
    """Its addresses."""
    try:
        read_only.hold_command(home)
    except UserError as error:
        pytest.skip(str(error))
    with socket.socket() as free, socket.socket() as other:
        for each in (free, other):
            each.bind(("127.0.0.1", 0))
        port, thrift = free.getsockname()[1], other.getsockname()[1]
    command = [sys.executable, "-m", "vitrine", "sql-server", "--port", str(port), "--thrift-port", str(thrift)]
    env = plain() | {"VITRINE_HOME": str(home), "VITRINE_SPARK__CONF": '{"spark.driver.memory": "1g"}'}
    log = home.parent / "server.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=stderr, stderr=stderr, env=env, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while "serving" not in log.read_text():
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield Served(f"sc://localhost:{port}", f"jdbc:hive2://localhost:{thrift}")
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


@pytest.mark.slow
def test_a_client_asks_and_cannot_change(server: Served, home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    photo = "SELECT image_id FROM catalog ORDER BY image_id LIMIT 1"
    found = ask(
        server.connect,
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


@pytest.mark.slow
def test_who_shows_no_token_is_refused(server: Served, home: Path) -> None:
    assert "UNAUTHENTICATED" in str(ask(server.connect, "guessed", "SELECT 1"))
    assert (home / "sql_server.token").stat().st_mode & 0o077 == 0


def by_jdbc(server: Served, token: Path, *statements: str) -> subprocess.CompletedProcess[str]:
    """By Beeline, which is Hive's JDBC driver at a terminal."""
    beeline = Path(pyspark.__file__).parent / "bin" / "beeline"
    given = [part for statement in statements for part in ("-e", statement)]
    command = [str(beeline), "-u", server.thrift, "-n", "any", "-w", str(token), "--outputformat=csv2", "--force=true"]
    return subprocess.run([*command, *given], capture_output=True, text=True, timeout=120, env=plain())


@pytest.mark.long
def test_a_bi_tool_asks_by_jdbc_and_cannot_change(server: Served, home: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    photo = "SELECT image_id FROM catalog ORDER BY image_id LIMIT 1"
    done = by_jdbc(
        server,
        home / "sql_server.token",
        "SELECT encoder AS serving FROM encoder_comparison WHERE serves",
        f"SELECT count(*) AS near FROM ({photo}) c, LATERAL neighbours(c.image_id, 5)",
    )
    said = [word for word in done.stdout.split() if not word.startswith(".")]  # dots: that it waits
    assert said == ["serving", "shop_large__top__shop", "near", "15"], done.stderr
    for change in ("DELETE FROM catalog", "CREATE TABLE mine USING delta AS SELECT 1 AS one"):
        assert "HiveSQLException: Error running query" in by_jdbc(server, home / "sql_server.token", change).stderr
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before

    (tmp_path / "wrong").write_text("guessed")
    refused = by_jdbc(server, tmp_path / "wrong", "SELECT 1")
    assert "Error validating the login" in refused.stderr and not refused.stdout.strip()


@pytest.mark.long
def test_bi_tools_connect_again_and_again(server: Served, home: Path) -> None:
    """More often than Hive has threads at first, which is five: each is then used a second time."""
    done = by_jdbc(server, home / "sql_server.token", *["!reconnect"] * 8, "SELECT 1 AS one")
    assert done.stdout.split()[-2:] == ["one", "1"], done.stderr
