"""Embedding on a real Spark cluster: a standalone master and two workers that announce GPU addresses."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyspark
import pytest

from spark_jobs.ingest_catalog import ingest
from vitrine import lake
from vitrine.settings import Settings
from vitrine.spark_conf import class_archive

pytestmark = pytest.mark.slow
CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64
"""


@contextmanager
def spark_class(folder: Path, name: str, *arguments: str, **env: str) -> Iterator[Path]:
    """One of Spark's daemons, in a process of its own; its log."""
    log = folder / f"{name.rsplit('.', 1)[-1]}-{len(list(folder.iterdir()))}.log"
    command = [str(Path(pyspark.__file__).parent / "bin" / "spark-class"), name, "--host", "127.0.0.1", *arguments]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=os.environ | env, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield log
    finally:
        process.terminate()
        process.wait(30)


def said(log: Path, pattern: str) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := re.search(pattern, log.read_text()):
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f"{pattern} not in {log.read_text()[-2000:]}")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """``spark://...`` of a master with two workers of one core; each has a "GPU", addresses 0 and 1."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    with ExitStack() as stack:
        ports = ("--port", "0", "--webui-port", "0")
        master = stack.enter_context(spark_class(folder, "org.apache.spark.deploy.master.Master", *ports))
        uri = said(master, r"spark://127\.0\.0\.1:[1-9]\d*")
        for address in (0, 1):
            script = folder / f"discover{address}.sh"
            script.write_text(f'#!/bin/sh\necho \'{{"name": "gpu", "addresses": ["{address}"]}}\'\n')
            script.chmod(0o755)
            options = f"-Dspark.worker.resource.gpu.amount=1 -Dspark.worker.resource.gpu.discoveryScript={script}"
            worker = stack.enter_context(
                spark_class(
                    folder,
                    "org.apache.spark.deploy.worker.Worker",
                    *("--webui-port", "0", "--cores", "1", "--memory", "1g", "--work-dir", str(folder / "work"), uri),
                    SPARK_WORKER_OPTS=options,
                )
            )
            said(worker, "Successfully registered with master")
        yield uri


def test_each_task_computes_on_the_address_that_spark_gave_it(
    spark: object, cluster: str, settings: Settings, draw: Callable[..., Path], tmp_path: Path
):
    photos = draw(4, 3)
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    java = f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:SharedArchiveFile={class_archive()}"
    conf = {
        "spark.executor.resource.gpu.amount": "1",
        "spark.task.resource.gpu.amount": "1",
        "spark.executor.memory": "600m",
        "spark.executor.extraJavaOptions": java,
        "spark.driver.host": "127.0.0.1",
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        "spark.scheduler.maxRegisteredResourcesWaitingTime": "60s",
    }
    env = os.environ | {"VITRINE_SPARK__MASTER": cluster, "VITRINE_SPARK__CONF": json.dumps(conf)}
    ingest(settings, str(photos), "shop")
    command = [sys.executable, "-m", "vitrine", "embed", "--encoder", "small", "--dataset", "shop", "--json"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout)
    assert figures["embedded"] == 12 and figures["gpu_seconds"] > 0
    assert [place.split(" ", 1)[1] for place in figures["devices"]] == ["gpu 0: cpu", "gpu 1: cpu"]
    assert len(lake.rows(settings, "SELECT * FROM embeddings")) == 12
    assert len(lake.rows(settings, "SELECT * FROM product_embeddings")) == 4
