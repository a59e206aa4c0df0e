"""Embedding on a real Spark cluster: a standalone master and two workers that announce GPU addresses."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from evaluation.consistency.check import state
from spark_jobs.ingest_catalog import ingest
from tests.support import hub, spark_cluster
from tests.support.project import PROJECT
from tests.support.spark_cluster import Cluster, Worker
from vitrine import lake
from vitrine.encoders.backbones import Backbone
from vitrine.settings import Settings
from vitrine.spark_conf import class_archive

pytestmark = pytest.mark.slow
ARCHIVED = PROJECT / "deploy/environment_archive.sh"
CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A master with two workers of one core; each has a "GPU", addresses 0 and 1."""
    folder, workers = tmp_path / "cluster", []
    folder.mkdir()
    for address in (0, 1):
        script = folder / f"discover{address}.sh"
        script.write_text(f'#!/bin/sh\necho \'{{"name": "gpu", "addresses": ["{address}"]}}\'\n')
        script.chmod(0o755)
        options = f"-Dspark.worker.resource.gpu.amount=1 -Dspark.worker.resource.gpu.discoveryScript={script}"
        env = {"SPARK_WORKER_OPTS": options, "SPARK_LOCAL_DIRS": str(folder / f"work{address}")}
        env["HF_HOME"] = str(folder / f"fetched{address}")
        workers.append(Worker("1g", env=env))
    with spark_cluster.cluster(folder, workers) as started:
        yield started


def test_each_task_computes_on_the_address_that_spark_gave_it(
    spark: object, cluster: Cluster, settings: Settings, draw: Callable[..., Path], tmp_path: Path
):
    ingest(settings, str(draw(4, 3)), "shop")
    process = embedding(cluster, tmp_path)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    figures = json.loads(out)
    assert figures["embedded"] == 12 and figures["gpu_seconds"] > 0
    assert [place.split(" ", 1)[1] for place in figures["devices"]] == ["gpu 0: cpu", "gpu 1: cpu"]
    assert len(lake.rows(settings, "SELECT * FROM embeddings")) == 12
    assert len(lake.rows(settings, "SELECT * FROM product_embeddings")) == 4


@pytest.mark.long
def test_a_worker_with_another_file_under_the_same_name_is_refused(
    spark: object, cluster: Cluster, settings: Settings, draw: Callable[..., Path], tmp_path: Path
):
    ingest(settings, str(draw(4, 3)), "shop")
    entry = Backbone("small", "timm", "test_vit.r160_in1k", "supervised")
    for address in (0, 1):
        hub.publish(tmp_path / "cluster" / f"fetched{address}", entry, seed=address)
    once = {"spark.task.maxFailures": "1"}  # else the task is tried again on the other worker, and comes right
    fetched = str(tmp_path / "cluster" / "fetched0")
    process = embedding(cluster, tmp_path, once, '[encoders.small]\nbackbone = "timm/test_vit"', HF_HOME=fetched)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 1
    assert re.search(
        r"vitrine: encoder 'small': version \w{16} was asked for, and \S+ loads \w{16} from its hub", err
    ), err
    assert not lake.rows(settings, "SELECT * FROM embeddings")


def test_a_worker_that_is_lost_in_the_middle_costs_no_photo(
    spark: object, cluster: Cluster, settings: Settings, draw: Callable[..., Path], tmp_path: Path
):
    ingest(settings, str(draw(8, 5)), "shop")
    process = embedding(cluster, tmp_path, VITRINE_EMBED__TASK_PHOTOS="2")
    while process.poll() is None and not any((settings.home / "staging").glob("*/*/*.parquet")):
        time.sleep(0.01)
    cluster.lose(1)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    assert json.loads(out)["embedded"] == 40
    rows = lake.rows(settings, "SELECT image_id FROM embeddings")
    assert len(rows) == len({row["image_id"] for row in rows}) == 40
    assert len(lake.rows(settings, "SELECT * FROM product_embeddings")) == 8
    assert state(settings, "shop")["differences"] == []


@pytest.mark.large
def test_executors_unpack_their_environment(
    spark: object, cluster: Cluster, settings: Settings, draw: Callable[..., Path], tmp_path: Path
):
    """Of 4 GB, which takes 40 GB for a while: the driver and each executor keep copies and unpack them."""
    ingest(settings, str(draw(4, 3)), "shop")
    archive, daemons = tmp_path / "environment.tar.gz", set()
    try:
        subprocess.run(["sh", str(ARCHIVED), str(archive), sys.executable], check=True)
        conf = {"spark.archives": f"{archive}#environment", "spark.pyspark.python": "./environment/bin/python"}
        process = embedding(cluster, tmp_path, conf)
        while process.poll() is None:
            said = (member.info["cmdline"] or [] for member in psutil.process_iter(["cmdline"]))
            daemons |= {line[0] for line in said if "spark_jobs.worker.worker_daemon" in line}
            time.sleep(0.2)
        out, err = process.communicate(timeout=60)
    finally:
        archive.unlink(missing_ok=True)
        for unpacked in (tmp_path / "cluster").glob("work[01]"):
            shutil.rmtree(unpacked, ignore_errors=True)
    assert process.returncode == 0, err[-3000:]
    assert json.loads(out)["embedded"] == 12
    assert "./environment/bin/python" in daemons


def embedding(
    cluster: Cluster, project: Path, more: dict[str, str] | None = None, config: str = CONFIG, **env: str
) -> "subprocess.Popen[str]":
    """``vitrine embed`` on the cluster, under way."""
    (project / "vitrine.toml").write_text(config)
    java = f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:SharedArchiveFile={class_archive()}"
    conf = {
        "spark.executor.resource.gpu.amount": "1",
        "spark.task.resource.gpu.amount": "1",
        "spark.executor.memory": "600m",
        "spark.executor.extraJavaOptions": java,
        "spark.driver.host": "127.0.0.1",
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        "spark.scheduler.maxRegisteredResourcesWaitingTime": "60s",
        **(more or {}),
    }
    said = {"VITRINE_SPARK__MASTER": cluster.master, "VITRINE_SPARK__CONF": json.dumps(conf)}
    command = [sys.executable, "-m", "vitrine", "embed", "--encoder", "small", "--dataset", "shop", "--json"]
    return subprocess.Popen(
        command, env=os.environ | said | env, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
