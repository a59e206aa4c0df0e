"""Verbs of a home that follow each other share a JVM, and nothing of one that was killed lives on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spark_jobs import kept_jvm
from tests.support.project import PROJECT

VERB = """
import sys, time
from spark_jobs.session import build_session
from vitrine.settings import load_settings
spark = build_session(load_settings(), sys.argv[1])
assert spark.range(3).count() == 3
pid = spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid()
print(pid, spark.sparkContext.appName, spark.conf.get("spark.probe", "none"), flush=True)
if sys.argv[1] == "long":
    spark.range(10**15).selectExpr("sum(id * id % 7)").collect()
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    home = tmp_path / "home"
    home.mkdir()
    yield os.environ | {
        "VITRINE_HOME": str(home),
        "VITRINE_SPARK__MASTER": "local[1]",
        "VITRINE_SPARK__KEEP_JVM_SECONDS": "60",
        "PYTHONPATH": str(PROJECT),
    }
    kept_jvm.dismiss(home)


def start(env: dict[str, str], name: str, cwd: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", VERB, name]
    return subprocess.Popen(command, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ran(env: dict[str, str], cwd: Path, name: str = "verb") -> list[str]:
    verb = start(env, name, cwd)
    out, err = verb.communicate(timeout=180)
    assert verb.returncode == 0, err
    return out.split()


def alive(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()


def until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.1)
    return holds()


def test_one_after_the_other_and_two_at_once(env: dict[str, str], tmp_path: Path) -> None:
    jvm, *_ = ran(env, tmp_path, "first")
    assert alive(jvm)
    assert ran(env, tmp_path, "second") == [jvm, "vitrine", "second", "none"]

    # Who comes while it is out has a JVM of its own, which ends with the verb.
    borrower = start(env, "long", tmp_path)
    assert borrower.stdout is not None
    assert borrower.stdout.readline().split()[0] == jvm
    other, *_ = ran(env, tmp_path)
    assert other != jvm and until(lambda: not alive(other))

    # What a killed verb was doing ends with it: nothing writes on behind the next one's back.
    borrower.send_signal(signal.SIGKILL)
    borrower.wait()
    assert until(lambda: not alive(jvm))
    after, *_ = ran(env, tmp_path)
    assert after not in (jvm, other) and alive(after)

    # Another environment, as of a changed vitrine.toml, gets another JVM, and the old one ends.
    changed, *_, probe = ran(env | {"VITRINE_SPARK__CONF": '{"spark.probe": "yes"}'}, tmp_path)
    assert (changed != after, probe) == (True, "yes") and until(lambda: not alive(after))
    kept_jvm.dismiss(Path(env["VITRINE_HOME"]))
    assert until(lambda: not alive(changed))


def test_it_ends_when_nobody_comes_and_with_its_owner(env: dict[str, str], tmp_path: Path) -> None:
    idle, *_ = ran(env | {"VITRINE_SPARK__KEEP_JVM_SECONDS": "1"}, tmp_path)
    assert until(lambda: not alive(idle))
    with subprocess.Popen(["sleep", "600"]) as owner:
        kept, *_ = ran(env | {"VITRINE_SPARK__KEEP_JVM_FOR": str(owner.pid)}, tmp_path)
        assert alive(kept)
        owner.kill()
    assert until(lambda: not alive(kept))


def test_without_the_setting_a_verb_has_its_own(env: dict[str, str], tmp_path: Path) -> None:
    jvm, *_ = ran(env | {"VITRINE_SPARK__KEEP_JVM_SECONDS": "0"}, tmp_path)
    assert until(lambda: not alive(jvm))


def test_a_folder_that_others_can_write_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / f"vitrine-{os.getuid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    assert kept_jvm.borrow(tmp_path, 5, None, ["false"]) is None
    folder.chmod(0o700)
    assert kept_jvm.borrow(tmp_path, 1, None, ["false"]) is None  # a JVM that does not start is nobody's
