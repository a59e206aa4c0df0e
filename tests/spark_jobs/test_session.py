"""What a session does otherwise where the tables have grown large; which Python its workers run."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark import SparkContext

from spark_jobs import jvm
from vitrine import lake
from vitrine.errors import VitrineError
from vitrine.setting_sections import SparkSettings
from vitrine.settings import Settings
from vitrine.spark_conf import JAVA_OPTIONS, spark_conf
from vitrine.tables import EMBEDDINGS

CORES = os.cpu_count() or 1
ROW = dict.fromkeys(("image_id", "product_id", "encoder_version", "encoder", "dataset", "content_sha256"), "shop")
ROW |= {"event_timestamp": datetime(2026, 1, 1, tzinfo=UTC), "created_timestamp": datetime(2026, 1, 1, tzinfo=UTC)}
ROW |= {"embedding": [0.0, 0.0]}


def test_plans_are_compiled_for_a_large_lake_and_on_a_cluster(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.write(settings, EMBEDDINGS, pa.Table.from_pylist([ROW], EMBEDDINGS.schema))
    assert not lake.is_large(settings)
    monkeypatch.setattr(lake, "_LARGE", lake.size(settings, EMBEDDINGS).bytes)
    assert lake.is_large(settings)
    small, large = spark_conf(settings), spark_conf(settings, large=True)
    assert "TieredStopAtLevel" in small[JAVA_OPTIONS] and "TieredStopAtLevel" not in large[JAVA_OPTIONS]
    assert {key for key in small if "codegen" in key} and not any("codegen" in key for key in large)
    cluster = settings.model_copy(update={"spark": SparkSettings(master="spark://head:7077")})
    assert not any("codegen" in key for key in spark_conf(cluster))
    sized = ("spark.sql.shuffle.partitions", "spark.driver.memory")
    assert [[each.get(key) for key in sized] for each in (small, large, spark_conf(cluster))] == [
        ["4", "2g"],
        ["32", "2g"],
        [None, "4g"],
    ]


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


PLACES = """
import json, os, time
import pyarrow as pa
from spark_jobs.session import build_session
from spark_jobs.worker.cost import Meter
from spark_jobs.worker.encoder_plan import plan
from vitrine.encoders.backbones import REGISTRY
from vitrine.settings import load_settings

def work(batches):
    photos = sum(batch.num_rows for batch in batches)
    time.sleep(0.3)
    yield pa.RecordBatch.from_pydict({"process": [os.getpid()]})

def measured(computing):
    spark = build_session(settings, "places", computing=computing)
    rows = spark.range(0, 8, 1, 8).mapInArrow(work, "process long").collect()
    threads = plan(spark, settings, REGISTRY["resnet50"]).threads
    return len({row.process for row in rows}), threads, Meter(settings, spark).cores

settings = load_settings()
print(json.dumps([measured(False), measured(True), measured(False)]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gpus", "env", "computing"),
    [
        (1, {}, [1, CORES, 2]),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                (1, {"VITRINE_EMBED__GPU_TASKS": "2"}, [2, CORES // 2, 2]),
                (1, {"VITRINE_EMBED__DEVICE": "cpu"}, [2, CORES // 2, 2]),
                (2, {"CUDA_VISIBLE_DEVICES": "1"}, [1, CORES, 2]),
                (0, {}, [2, CORES // 2, 2]),
            )
        ),
    ],
)
def test_a_gpu_of_this_machine_has_one_task_at_a_time(
    tmp_path: Path, gpus: int, env: dict[str, str], computing: list[int]
) -> None:
    """Processes that work, threads of each, cores in all: while vectors are computed, and before and after that."""
    (tmp_path / "vitrine.toml").touch()
    fake = tmp_path / "nvidia-smi"
    fake.write_text(f"#!/bin/sh\nseq 0 {gpus - 1}\n")
    fake.chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VITRINE_SPARK__MASTER": "local[2]"} | env
    done = subprocess.run([sys.executable, "-c", PLACES], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    otherwise = [2, CORES // 2, 2]
    assert json.loads(done.stdout) == [otherwise, computing, otherwise]


@pytest.mark.slow
def test_a_java_that_does_not_start_is_named(tmp_path: Path) -> None:
    (tmp_path / "vitrine.toml").touch()
    command = [sys.executable, "-m", "vitrine", "ingest", "2x2", "--layout", "generated", "--dataset", "shop"]
    env = os.environ | {"JAVA_HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.endswith(f"Spark wants Java 17 to 22, and took that of JAVA_HOME, {tmp_path}\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({JAVA_OPTIONS: "-XX:+UseG1GC -XX:+UseSerialGC"}, "onflicting collector|ultiple garbage collectors"),
        ({JAVA_OPTIONS: "-Xmx3g"}, "Not allowed to specify max heap"),
        ({"spark.driver.memory": "lots"}, "Invalid maximum heap size: -Xmxlots"),
    ],
)
def test_what_the_jvm_said_is_the_message(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, conf: dict[str, str], said: str
) -> None:
    monkeypatch.setattr(SparkContext, "_gateway", None)  # that of other tests stays as it is
    with pytest.raises(VitrineError, match=f"^Spark's JVM ended as it started: .*({said})") as raised:
        jvm.start({**spark_conf(settings), "spark.master": "local[1]", **conf})
    assert "Java 17" not in str(raised.value) and "\n" not in str(raised.value)


def test_javas_version_is_named_where_it_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    lines = [
        "Picked up JAVA_TOOL_OPTIONS: -Da=b",
        "Error: LinkageError occurred while loading main class org.apache.spark.launcher.Main",
        "\tjava.lang.UnsupportedClassVersionError: org/apache/spark/launcher/Main has been compiled by a more recent "
        "version of the Java Runtime (class file version 61.0), this version recognizes up to 55.0",
    ]
    said = str(jvm.ended(lines))
    assert "UnsupportedClassVersionError" in said and said.endswith("Java 17 to 22, and took the first on PATH")
    assert str(jvm.ended(lines[:1])) == "Spark's JVM ended as it started: it gave no reason"
