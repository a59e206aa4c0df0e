"""What a session does otherwise where the tables have grown large; which Python its workers run."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from spark_jobs import session
from vitrine import lake
from vitrine.errors import VitrineError
from vitrine.setting_sections import SparkSettings
from vitrine.settings import Settings
from vitrine.spark_conf import JAVA_OPTIONS, spark_conf
from vitrine.tables import EMBEDDINGS

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _row(number: int, value: float) -> dict[str, Any]:
    names = {"image_id": f"shop/{number}", "product_id": f"shop/{number}", "encoder_version": "v", "encoder": "e"}
    times = {"event_timestamp": NOW, "created_timestamp": NOW}
    return {**names, **times, "dataset": "shop", "content_sha256": str(number), "embedding": [value, 0.0]}


def test_a_change_of_a_large_table_marks_rows_and_copies_no_file(
    settings: Settings, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [_row(number, 0.0) for number in range(50)]
    lake.write(settings, EMBEDDINGS, pa.Table.from_pylist(rows, EMBEDDINGS.schema))
    path, since = EMBEDDINGS.path(settings), lake.version(settings, EMBEDDINGS)
    (file,) = path.glob("*/*.parquet")
    monkeypatch.setattr(session, "_LARGE", lake.size(settings, EMBEDDINGS)[0])
    schema = session.spark_schema(EMBEDDINGS.schema)
    for number, gone in ((3, False), (4, True)):
        change = spark.createDataFrame([tuple(_row(number, 1.0).get(name) for name in EMBEDDINGS.schema.names)], schema)
        source = change.selectExpr("*", f"{str(gone).lower()} AS gone")
        session.merge_table(spark, settings, EMBEDDINGS, source, "t.encoder_version = 'v'")
    added = lake.query(settings, "SELECT image_id, embedding FROM embeddings ORDER BY image_id").to_pylist()
    now = {row["image_id"]: row["embedding"] for row in added}
    assert len(now) == 49 and "shop/4" not in now
    assert now["shop/3"] == [1.0, 0.0] and now["shop/5"] == [0.0, 0.0]
    fed = [
        (row["image_id"], row["_change_type"])
        for batch in lake.changes(settings, EMBEDDINGS, since, lake.version(settings, EMBEDDINGS), "true", ["image_id"])
        for row in batch.to_pylist()
    ]
    assert sorted(fed) == [
        ("shop/3", "update_postimage"),
        ("shop/3", "update_preimage"),
        ("shop/4", "delete"),
    ]
    sizes = sorted(each.stat().st_size for each in path.glob("*/*.parquet"))
    assert sizes[-1] == file.stat().st_size and sizes[-2] < sizes[-1], "the file with the other rows was not copied"


def test_plans_are_compiled_for_a_large_lake_and_on_a_cluster(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.write(settings, EMBEDDINGS, pa.Table.from_pylist([_row(0, 0.0)], EMBEDDINGS.schema))
    assert not lake.is_large(settings)
    monkeypatch.setattr(lake, "_LARGE", lake.size(settings, EMBEDDINGS)[0])
    assert lake.is_large(settings)
    small, large = spark_conf(settings), spark_conf(settings, large=True)
    assert "TieredStopAtLevel" in small[JAVA_OPTIONS] and "TieredStopAtLevel" not in large[JAVA_OPTIONS]
    assert {key for key in small if "codegen" in key} and not any("codegen" in key for key in large)
    cluster = settings.model_copy(update={"spark": SparkSettings(master="spark://head:7077")})
    assert not any("codegen" in key for key in spark_conf(cluster))


WORKS = """
from spark_jobs.session import build_session
from vitrine.settings import load_settings
print(build_session(load_settings(), "python").range(3).mapInArrow(lambda batches: batches, "id long").count())
"""


@pytest.mark.slow
def test_workers_run_this_python_whatever_the_shell_has_for_others(tmp_path: Path) -> None:
    (tmp_path / "vitrine.toml").touch()
    env = os.environ | {"PYSPARK_PYTHON": "/bin/false"}
    done = subprocess.run([sys.executable, "-c", WORKS], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout == "3\n", done.stderr[-3000:]


def test_another_spark_gets_no_jar_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    with pytest.raises(VitrineError, match=f"SPARK_HOME is {tmp_path}, where no Spark lies: it has to be Spark 4"):
        session.ensure_jars()
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars/spark-core_2.12-3.5.1.jar").touch()
    with pytest.raises(VitrineError, match=r"where spark-core_2\.12-3\.5\.1 lies"):
        session.ensure_jars()
    assert len(list((tmp_path / "jars").iterdir())) == 1


@pytest.mark.slow
def test_a_java_that_does_not_start_is_named(tmp_path: Path) -> None:
    (tmp_path / "vitrine.toml").touch()
    command = [sys.executable, "-m", "vitrine", "ingest", "2x2", "--layout", "generated", "--dataset", "shop"]
    env = os.environ | {"JAVA_HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.endswith(f"Spark wants Java 17 to 22, and took that of JAVA_HOME, {tmp_path}\n")
