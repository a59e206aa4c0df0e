"""Verbs where everything around them was set up for somebody else: Spark, Milvus, Feast, photos, zones and names."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.hostile import environments, shadows
from tests.support.project import PROJECT
from tests.support.small_shop import CONFIG

BASE = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "JAVA_HOME")}
NAMES = list(environments(Path("/tmp")))
WALK = (
    ("ingest", "photos", "--dataset", "shop", "--json"),
    ("embed", "--encoder", "small", "--dataset", "shop", "--json"),
    ("promote", "small", "--dataset", "shop", "--force", "--reason", "try", "--json"),
    ("lookup", "shop/tasse é/00.jpg", "--dataset", "shop", "--json"),
    ("sql", "SELECT max(promoted_at) AS at FROM promotions", "--format", "csv"),
)
NOBODY = ("--reuid", "54321", "--regid", "54321", "--clear-groups", "--inh-caps=-all,+dac_read_search",
          "--ambient-caps=-all,+dac_read_search")  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, draw: Callable[..., Path]) -> Path:
    """A project with a blank in its path, modules of the standard library's names in it, and an umlaut in a name."""
    folder = tmp_path / "a place"
    folder.mkdir()
    shadows(folder)
    (folder / "vitrine.toml").write_text(f'home = "home"\n{CONFIG}', encoding="utf-8-sig")
    photos = draw(2, 2)
    next(photos.iterdir()).rename(photos / "tasse é")
    photos.rename(folder / "photos")
    # Its Python, and with it Spark's folder, has a blank in its path too, as a checkout's there would.
    (folder / "venv").symlink_to(sys.prefix)
    (folder / "checkout").symlink_to(PROJECT)
    (folder / "bin").mkdir()
    (folder / "bin" / "vitrine").write_text("import sys\nfrom vitrine.cli.main import main\nmain()\n")
    return folder


def run(folder: Path, env: dict[str, str], *arguments: str, before: tuple[str, ...] = ()) -> str:
    path = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(folder / "checkout")]))
    ran = subprocess.run(
        [*before, str(folder / "venv/bin/python"), str(folder / "bin/vitrine"), *arguments],
        cwd=folder,
        env=BASE | env | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, (arguments, ran.stderr[-3000:])
    assert "Traceback" not in ran.stderr and "\x1b" not in ran.stderr + ran.stdout
    return ran.stdout


@pytest.mark.slow
def test_verbs_where_all_of_it_is_set_for_others(place: Path, tmp_path: Path) -> None:
    everything = {name: value for more in environments(tmp_path / "set").values() for name, value in more.items()}
    printed = [run(place, everything, *line) for line in WALK]
    assert json.loads(printed[0])["images"] == 4 and json.loads(printed[0])["quarantined"] == 0
    assert json.loads(printed[1])["embedded"] == 4
    assert len(json.loads(printed[3])["results"][0]["embedding"]) == 512
    assert printed[4].splitlines()[1].endswith("+00:00")
    assert not (tmp_path / "set" / "airflow").exists()


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_verbs_in_each_environment(place: Path, tmp_path: Path, name: str) -> None:
    for line in WALK[:2]:
        run(place, environments(tmp_path / "set")[name], *line)


@pytest.mark.long
@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="another account is for root to take")
def test_an_account_that_the_machine_does_not_know(place: Path) -> None:
    before = (str(shutil.which("setpriv")), *NOBODY)
    # Not under pytest's folders, which are for their owner alone.
    with tempfile.TemporaryDirectory(prefix="vitrine nobody ") as folder:
        own = Path(folder, "a place")
        shutil.copytree(place, own, symlinks=True)
        for path in (own.parent, own, *own.rglob("*")):
            os.chown(path, 54321, 54321, follow_symlinks=False)
        nameless = {"HOME": "", "TMPDIR": str(own)}
        assert json.loads(run(own, nameless, *WALK[0], before=before))["images"] == 4
        assert json.loads(run(own, nameless, *WALK[1], before=before))["embedded"] == 4


@pytest.mark.long
def test_the_demo_touches_no_other_airflow(place: Path, tmp_path: Path) -> None:
    theirs = environments(tmp_path / "set")["another Airflow, MLflow and Feast"]
    run(place, theirs, "demo", "--source", "6x4", "--json")
    assert not (tmp_path / "set" / "airflow").exists()
