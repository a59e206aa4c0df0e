"""``vitrine sql --shell``: what ends a statement, and a lake that no statement changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitrine import lake
from vitrine.cli import read_only
from vitrine.cli.sql_shell import statements
from vitrine.errors import UserError
from vitrine.runs import record
from vitrine.settings import Settings
from vitrine.tables import RUNS


def test_a_semicolon_ends_a_statement_but_not_in_strings_names_and_comments() -> None:
    assert statements("SELECT 1;  SELECT 2 ; SELECT") == (["SELECT 1", "SELECT 2"], " SELECT")
    assert statements("SELECT ';', \";\", `;` -- ;\n /* ; */;") == (["SELECT ';', \";\", `;` -- ;\n /* ; */"], "")
    assert statements(r"SELECT 'it\';s';") == ([r"SELECT 'it\';s'"], "")
    for open_ in ("SELECT 'a;", "SELECT /* ;", "SELECT `a;"):
        assert statements(open_) == ([], open_)
    assert statements(";; -- nothing;\n") == ([], "")


def test_an_account_without_the_right_to_write_needs_no_namespace(tmp_path: Path) -> None:
    (tmp_path / "catalog" / "_delta_log").mkdir(parents=True)
    assert read_only.writable(tmp_path) == tmp_path
    look = (
        "from vitrine.cli import read_only; import pathlib, sys; print(read_only.writable(pathlib.Path(sys.argv[1])))"
    )
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override", sys.executable]
    else:
        command = [sys.executable]
    for path in (tmp_path / "catalog" / "_delta_log", tmp_path / "catalog", tmp_path):
        path.chmod(0o555)
    try:
        done = subprocess.run([*command, "-c", look, str(tmp_path)], capture_output=True, text=True, check=True)
    finally:
        for path in (tmp_path, tmp_path / "catalog", tmp_path / "catalog" / "_delta_log"):
            path.chmod(0o755)
    assert done.stdout.strip() == "None"


@pytest.mark.slow
def test_the_shell_answers_and_the_file_system_refuses_every_write(settings: Settings, tmp_path: Path) -> None:
    """All in one shell: Spark's start takes most of it."""
    for verb in ("ingest", "embed"):  # two files, so that OPTIMIZE has something to do
        with record(settings, verb, "shop"):
            pass
    old = RUNS.path(settings) / "removed-long-ago.parquet"  # and so that VACUUM has
    old.touch()
    os.utime(old, (0, 0))
    try:
        read_only.hold_command(settings.home)
    except UserError as error:
        pytest.skip(str(error))
    path = RUNS.path(settings)
    writes = {
        "DELETE FROM runs": "read-only",
        "UPDATE runs SET verb = 'x'": "read-only",
        "INSERT INTO runs SELECT * FROM runs": "read-only",
        "MERGE INTO runs t USING runs s ON t.run_id = s.run_id WHEN MATCHED THEN DELETE": "read-only",
        "INSERT OVERWRITE runs SELECT * FROM runs": "read-only",
        "OPTIMIZE runs": "read-only",
        "VACUUM runs RETAIN 168 HOURS": "read-only",
        "CREATE TABLE mine USING delta AS SELECT 1 AS one": "read-only",
        "CREATE TABLE mine USING parquet AS SELECT 1 AS one": "read-only",
        f"CREATE TABLE delta.`{path.parent / 'mine'}` USING delta AS SELECT 1 AS one": "read-only",
        "ALTER TABLE runs SET TBLPROPERTIES ('delta.appendOnly' = 'true')": "read-only",
        f"INSERT OVERWRITE DIRECTORY '{path}' USING parquet SELECT 1": "read-only",
        "SELEC 1": "SELEC",
    }
    before = files(settings.home)
    head = "SELECT verb\nFROM runs\nWHERE verb = 'ingest' AND 'a;b' = 'a;b';\n.tables\n"
    asked = head + "".join(f"{each};\n" for each in writes)
    done = subprocess.run(
        [sys.executable, "-m", "vitrine", "sql", "--shell", "--format", "csv"],
        input=f"{asked}SELECT count(*) AS still FROM runs",
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("vitrine: ")]
    assert len(said) == len(writes) + 1, done.stderr
    told = zip(writes.items(), said, strict=False)
    assert not [(statement, line) for (statement, word), line in told if word not in line]
    assert said[-1] == f"vitrine: {len(writes)} of {len(writes) + 2} statements failed"
    assert done.returncode == 2
    assert done.stdout.startswith("verb\ningest\n") and done.stdout.endswith("still\n2\n")
    assert "encoder_comparison,view," in done.stdout
    assert files(settings.home) == before


def files(home: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in home.rglob("*")}


def test_a_home_that_cannot_be_held_is_a_clear_refusal(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.create_tables(settings)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"no unshare here.*read-only"):
        read_only.hold(settings)
