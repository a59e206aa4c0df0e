"""The jars that Spark needs beside its own."""

from pathlib import Path

import pytest

from spark_jobs.jars import ensure_jars
from vitrine.errors import VitrineError
from vitrine.spark_conf import spark_jars


def test_another_spark_gets_no_jar_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    with pytest.raises(VitrineError, match=f"SPARK_HOME is {tmp_path}, where no Spark lies: it has to be Spark 4"):
        ensure_jars()
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars/spark-core_2.12-3.5.1.jar").touch()
    with pytest.raises(VitrineError, match=r"where spark-core_2\.12-3\.5\.1 lies"):
        ensure_jars()
    assert len(list((tmp_path / "jars").iterdir())) == 1


UNREACHABLE = """<ivysettings>
  <settings defaultResolver="nowhere"/>
  <resolvers><filesystem name="nowhere"><artifact pattern="/nowhere/[artifact].jar"/></filesystem></resolvers>
</ivysettings>
"""


@pytest.mark.slow
def test_jars_that_cannot_be_fetched_are_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = spark_jars()
    home = tmp_path / "spark"
    (home / "jars").mkdir(parents=True)
    (home / "bin").symlink_to(own.parent / "bin")
    for jar in own.glob("*.jar"):
        if not jar.name.startswith("delta-spark_"):
            (home / "jars" / jar.name).symlink_to(jar)
    (tmp_path / "ivy.xml").write_text(UNREACHABLE)
    monkeypatch.setenv("SPARK_HOME", str(home))
    monkeypatch.setenv("VITRINE_IVY_SETTINGS", str(tmp_path / "ivy.xml"))
    with pytest.raises(VitrineError, match=r"^Delta's jars are not there and could not be fetched .*VITRINE_IVY"):
        ensure_jars()
    assert not list((home / "jars").glob("delta-spark_*"))
