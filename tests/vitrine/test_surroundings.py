"""What was set for other programs is not obeyed: by the command itself, nor by what it starts."""

import json
import os
import pwd
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hostile import environments, shadows
from tests.support.project import PROJECT
from vitrine import addresses, surroundings
from vitrine.cli import airflow
from vitrine.errors import UserError
from vitrine.settings import Settings

# As the command's own script is, wherever the environment of these tests has it.
SCRIPT = "import sys\nfrom vitrine.cli.main import main\nmain()\n"
BASE = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "JAVA_HOME")}
NAMES = list(environments(Path("/tmp")))


def command(folder: Path, *arguments: str, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    script = folder / "bin" / "vitrine"
    script.parent.mkdir(exist_ok=True)
    script.write_text(SCRIPT)
    path = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(PROJECT)]))
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env=BASE | env | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_command_does_not_obey_what_was_set_for_others(tmp_path: Path, name: str) -> None:
    (tmp_path / "vitrine.toml").touch()
    shadows(tmp_path)  # the working folder has such modules too
    ran = command(tmp_path, "status", "--json", env=environments(tmp_path / "set")[name])
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout)["datasets"] == []
    wrong = command(tmp_path, "promote", "Big", "--dataset", "nope", env=environments(tmp_path / "set")[name])
    assert wrong.returncode == 2 and re.fullmatch(r"vitrine: [^\n]+\n", wrong.stderr)


def test_what_is_compiled_is_kept_whatever_was_set_for_others(tmp_path: Path) -> None:
    (tmp_path / "vitrine.toml").touch()
    kept = tmp_path / "compiled"
    env = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(kept)}
    assert command(tmp_path, "status", "--json", env=env).returncode == 0
    assert any(path.name.startswith("settings.") for path in kept.rglob("vitrine/*.pyc"))


def test_a_module_run_where_others_have_its_names_and_a_folder_that_is_no_more(tmp_path: Path) -> None:
    (tmp_path / "vitrine.toml").touch()
    shadows(tmp_path)
    env = BASE | {"PYTHONPATH": str(PROJECT)}
    ran = subprocess.run([sys.executable, "-m", "vitrine", "status", "--json"], cwd=tmp_path, env=env, text=True,
                         capture_output=True)  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    gone = f'mkdir gone && cd gone && rmdir ../gone && "{sys.executable}" -m vitrine status'
    ran = subprocess.run(["sh", "-c", gone], cwd=tmp_path, env=env, text=True, capture_output=True)
    assert ran.returncode in (1, 2) and re.fullmatch(r"vitrine: [^\n]+\n", ran.stderr)


def test_the_help_on_a_mistake_has_no_colours_and_a_width(tmp_path: Path) -> None:
    sets = environments(tmp_path / "set")
    ran = command(tmp_path, "promote", env=sets["colours"] | sets["numbers"])
    assert ran.returncode == 2 and "\x1b" not in ran.stderr and "Missing argument" in ran.stderr


def test_a_taken_port_is_the_callers_to_change(tmp_path: Path) -> None:
    (tmp_path / "vitrine.toml").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = command(tmp_path, "serve", "--port", port, env={})
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert f"cannot listen on 127.0.0.1:{port} (address already in use): choose another with" in ran.stderr
    for host in ("nosuch.invalid", "192.0.2.1", "a" * 70, "\x00"):
        with pytest.raises(UserError, match="cannot listen on"):
            addresses.check_free(host, 6566, "--host")


def test_closed_standard_files_are_no_files_of_ours(tmp_path: Path) -> None:
    (tmp_path / "vitrine.toml").touch()
    script = tmp_path / "vitrine"
    script.write_text(SCRIPT)
    for closed in ("<&-", "<&- >&-", "<&- >&- 2>&-"):
        line = f'"{sys.executable}" "{script}" status --json {closed}'
        ran = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=BASE | {"PYTHONPATH": str(PROJECT)}, text=True,
                             capture_output=True)  # fmt: skip
        assert (ran.returncode, ran.stderr) == (0, ""), closed
        assert (">&-" in closed) or json.loads(ran.stdout)


def test_children_are_told_what_holds_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for more in environments(tmp_path).values():
        for name, value in more.items():
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("VITRINE_HOME", "/kept")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    child = surroundings.for_child()
    assert (child["PYTHONSAFEPATH"], child["PYTHONPATH"], child["TZ"]) == ("1", str(PROJECT), "UTC")
    assert child["LC_ALL"].endswith("UTF-8")
    assert (
        set(child["no_proxy"].split(","))
        == {"example.com", "localhost", "127.0.0.1", "::1"}
        == set(child["NO_PROXY"].split(","))
    )
    assert (child["HTTPS_PROXY"], child["VITRINE_HOME"]) == ("http://proxy:3128", "/kept")  # obeyed: the way out, ours
    assert not {"SPARK_HOME", "WORLD_SIZE", "OMP_NUM_THREADS", "COLUMNS", "PYTHONWARNINGS", "BASH_ENV"} & child.keys()
    assert "PYTHONDONTWRITEBYTECODE" not in child
    home = Path(child["HOME"])
    assert home.is_dir() and home.stat().st_uid == os.getuid() and home.stat().st_mode & 0o777 == 0o700


def test_a_jvm_here_gets_no_settings_of_another_and_keeps_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    options = "-XX:+UseG1GC -Djavax.net.ssl.trustStore=/certs -Dhttps.proxyHost=proxy -javaagent:/agent.jar"
    given = {"JAVA_TOOL_OPTIONS": options, "_JAVA_OPTIONS": "-Xmx1m", "HADOOP_CONF_DIR": "/etc/hadoop"}
    for name, value in (given | {"SPARK_LOCAL_DIRS": "/scratch", "SPARK_CONF_DIR": "/etc/spark"}).items():
        monkeypatch.setenv(name, value)
    with monkeypatch.context():
        kept = dict(os.environ)
        try:
            surroundings.leave_other_sparks()
            left = dict(os.environ)
        finally:
            os.environ.clear()
            os.environ.update(kept)
    assert left["JAVA_TOOL_OPTIONS"] == "-Djavax.net.ssl.trustStore=/certs -Dhttps.proxyHost=proxy"
    assert not {"_JAVA_OPTIONS", "HADOOP_CONF_DIR", "SPARK_CONF_DIR"} & left.keys()
    assert left["SPARK_LOCAL_DIRS"] == "/scratch"
    submitted = surroundings.without_other_sparks({"VITRINE_HOME": "/home"})
    assert (submitted["HADOOP_CONF_DIR"], submitted["SPARK_CONF_DIR"], submitted["VITRINE_HOME"]) == ("", "", "/home")


def test_another_airflow_is_left_alone(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://theirs")
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", "/their/dags")
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", "smtp://mail")
    env = airflow.environment(settings)
    assert env["AIRFLOW_HOME"] == str(settings.home / "airflow") and env["AIRFLOW__CORE__DAGS_FOLDER"] == str(
        PROJECT / "dags"
    )
    assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" not in env and env["AIRFLOW_CONN_SMTP_DEFAULT"] == "smtp://mail"
    assert "AIRFLOW_CONN_SMTP_DEFAULT" not in airflow.environment(settings, alone=True)
    monkeypatch.setenv("AIRFLOW_HOME", "/their/airflow")  # all of it is theirs
    env = airflow.environment(settings)
    assert env["AIRFLOW_HOME"] == str(settings.home / "airflow") and "AIRFLOW_CONN_SMTP_DEFAULT" not in env


def test_an_account_without_an_entry_has_a_name_and_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", none)
    for name in ("USER", "LOGNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    child = surroundings.for_child()
    assert child["USER"] == child["LOGNAME"] == child["SPARK_USER"] == f"uid{os.getuid()}"
    assert os.access(child["HOME"], os.W_OK)


def test_whoever_starts_a_process_asks_for_its_environment() -> None:
    starts = re.compile(r"subprocess\.(Popen|run|check_\w+)\(|os\.(exec|spawn|posix_spawn)\w*\(|launch_gateway\(")
    rooms = ("vitrine", "spark_jobs", "training", "evaluation", "feature_repo", "dags")
    files = [path for room in rooms for path in (PROJECT / room).rglob("*.py")]
    without = [path for path in files if starts.search(text := path.read_text()) and "surroundings" not in text]
    assert {path.name for path in without} - {"surroundings.py"} == {"demo.py"}  # which asks ``cli/airflow.py``
