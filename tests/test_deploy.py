"""deploy/: the image, the Kubernetes example and the sizing say what holds."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.support.project import PROJECT, load_script
from vitrine.settings import load_settings

DEPLOY = PROJECT / "deploy"
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
NOT_ON_EXECUTORS = (DEPLOY / "not_on_executors.txt").read_text().split()


def instructions() -> list[tuple[str, str]]:
    """(instruction, its arguments) of the Dockerfile: comments dropped, continued lines joined."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]  # type: ignore[misc]


def test_the_images_spark_and_packages_are_those_of_the_lock():
    pins = dict(re.findall(r"^([a-z-]+)==(\S+)$", "\n".join(PYPROJECT["project"]["dependencies"]), re.MULTILINE))
    assert ("ARG", f"SPARK_VERSION={pins['pyspark']}") in instructions()
    locked = {package["name"] for package in tomllib.loads((PROJECT / "uv.lock").read_text())["package"]}
    assert set(NOT_ON_EXECUTORS) <= locked
    run = " ".join(arguments for name, arguments in instructions() if name == "RUN")
    assert "uv export --locked" in run and "--require-hashes" in run


def test_the_image_copies_what_is_there_and_runs_as_nobody_special():
    ignored = (PROJECT / ".dockerignore").read_text().split()
    copied = [
        words for name, text in instructions() if name == "COPY" and "--from" not in text for words in [text.split()]
    ]
    for words in copied:
        for source in (word for word in words[:-1] if not word.startswith("--")):
            assert (PROJECT / source).exists() and f"!{source.split('/')[0]}" in ignored, source
    packages = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(packages) <= {word for words in copied for word in words}
    users = [text for name, text in instructions() if name == "USER"]
    assert users[-1].isdigit() and users[-1] != "0"
    assert not any(text.endswith(":latest") for name, text in instructions() if name == "FROM")


BLOCKED = """
import importlib.metadata, json, sys
names = set(json.loads(sys.argv[1]))
owners_of = importlib.metadata.packages_distributions()
names |= {owner for owner in owners_of["airflow"] if owner.startswith("apache-airflow-")}  # come and go with Airflow
blocked = {module for module, owners in owners_of.items() if set(owners) <= names}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is not on the executors")
sys.meta_path.insert(0, Refuse())
import spark_jobs.worker.worker_daemon, spark_jobs.worker.encoder, spark_jobs.embed_catalog, spark_jobs.apply_head
import spark_jobs.ingest_catalog
import vitrine.datasets.registry
print(sorted(blocked))
"""


@pytest.mark.slow
def test_executors_need_nothing_that_their_image_lacks():
    command = [sys.executable, "-c", BLOCKED, json.dumps(NOT_ON_EXECUTORS)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {"airflow", "feast", "tensorflow", "pymilvus", "sklearn"} <= set(eval(done.stdout))


def test_the_kubernetes_example_fits_the_image_and_the_settings(tmp_path: Path):
    settings, application = yaml.safe_load_all((DEPLOY / "embed.yaml").read_text())
    spec: dict[str, Any] = application["spec"]
    assert (application["apiVersion"], application["kind"]) == ("sparkoperator.k8s.io/v1beta2", "SparkApplication")
    text = (DEPLOY / "Dockerfile").read_text()
    assert "UV_COMPILE_BYTECODE=1\n" in text, "user 185 may not write beside the modules"
    assert f"ARG SPARK_VERSION={spec['sparkVersion']}\n" in text
    assert f"deploy/discover_gpus.sh {spec['sparkConf']['spark.executor.resource.gpu.discoveryScript']}\n" in text
    main = spec["mainApplicationFile"].removeprefix("local://")
    assert main.startswith("/opt/venv/lib/python3.11/site-packages/") and "uv venv --python 3.11" in text
    assert (PROJECT / main.split("site-packages/")[1]).is_file()
    assert int(spec["sparkConf"]["spark.task.cpus"]) == spec["executor"]["cores"], "one task a GPU"
    mounted = {mount["name"] for part in ("driver", "executor") for mount in spec[part]["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}
    for part in ("driver", "executor"):
        assert str(spec[part]["securityContext"]["runAsUser"]) == instructions()[-3][1]
    (tmp_path / "vitrine.toml").write_text(settings["data"]["vitrine.toml"])
    loaded = load_settings(tmp_path)
    assert loaded.lake_uri == "s3://shop-vitrine/lake" and loaded.spark.master is None


def test_the_discovery_script_names_every_gpu(tmp_path: Path):
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    fake.chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([str(DEPLOY / "discover_gpus.sh")], env=env, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"name": "gpu", "addresses": ["0", "1"]}


@pytest.fixture(scope="module")
def sizing() -> ModuleType:
    return load_script(DEPLOY / "sizing.py")


def test_the_sizings_arithmetic_by_hand(sizing: ModuleType):
    embedding, products = 4_040_000 / 40.4, 4_040_000 / (1_000_000 / 74.1 / 2)  # 100,000 s, and 148.2 s a million
    assert sizing.core_hours(4_040_000, "efficientnet_lite0") == pytest.approx((embedding + products) / 3600)
    assert embedding == pytest.approx(100_000) and products == pytest.approx(598.728)
    assert sizing.gpu_hours(3_600_000, 1000) == 1
    assert [sizing.feeding_cores(rate) for rate in (100, 269.9, 270)] == [1, 1, 2]
    assert sizing.hnsw_bytes(10, 1280, 16) == 10 * (5120 + 160)
    assert sizing.flat_bytes(10, 1280) == 51_200
    row = 5120 + sizing.BYTES.embedding
    assert sizing.lake_bytes(10, 1280, 5) == pytest.approx(10 * (sizing.BYTES.catalog + 1.2 * row))
    assert sizing.online_bytes(10, 1280) == 51_200


def test_the_sizings_rates_are_those_of_the_benchmarks_page(sizing: ModuleType):
    page = (PROJECT / "docs" / "benchmarks.md").read_text()
    for line in (
        "| 8000 | 2 | 99.0 | 80.8 |",
        "| Vitrine, auto | 47.4 (47.4) | 21.1 |",
        "| products' vectors for the first time | 74.1 |",
        "| 25.5 | 539.8 |",
    ):
        assert line in page
    encoders = (PROJECT / "docs" / "encoders.md").read_text()
    for name, dim in sizing.DIMS.items():
        assert re.search(rf"^\| `{name}` \|[^|]*\|[^|]*\| {dim} \|", encoders, re.MULTILINE), name


def test_the_cluster_pages_tables_are_the_sizings(sizing: ModuleType):
    page = (PROJECT / "docs" / "cluster.md").read_text()
    command = re.search(r"^python deploy/sizing\.py ((?:.*\\\n)*.*)$", page, re.MULTILINE)
    assert command
    said = sizing.report(sizing.arguments(shlex.split(command[1].replace("\\\n", " "))))
    for table in said.split("\n\n"):
        assert table in page
    with pytest.raises(SystemExit):
        sizing.arguments(["--core-hour", "1", "--gpu-rate", "nothing=5"])
