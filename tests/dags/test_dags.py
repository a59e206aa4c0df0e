"""The DAGs: how they import, their shape, their forms."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.project import PROJECT
from vitrine.settings import Settings

HEAVY = ("pyspark", "torch", "feast", "pymilvus", "pandas", "deltalake", "pyarrow", "mlflow", "tensorflow")
_LOOK = """
import importlib, json, os, sys, time
from airflow.dag_processing.dagbag import DagBag  # Airflow itself is there already, where DAGs are read
from airflow.serialization.serialized_objects import DagSerialization
sys.path.insert(0, sys.argv[1])
seconds = {}
names = sorted(name[:-3] for name in os.listdir(sys.argv[1]) if name.endswith(".py"))
for name in names:
    before = time.process_time()
    importlib.import_module(name)
    seconds[name] = round(time.process_time() - before, 2)
heavy = [name for name in sys.argv[2].split() if name in sys.modules]
bag = DagBag(sys.argv[1], bundle_path=sys.argv[1])
dags = {}
for dag in bag.dags.values():
    DagSerialization.to_dict(dag)
    dags[dag.dag_id] = {
        "tasks": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
        "arguments": {task.task_id: [str(part) for part in
                                     getattr(task, "application_args", None) or getattr(task, "arguments", None) or []]
                      for task in dag.tasks if not task.is_mapped},
        "pools": {task.task_id: task.pool for task in dag.tasks},
        "weights": {task.task_id: task.priority_weight for task in dag.tasks},
        "retries": {task.task_id: task.retries for task in dag.tasks},
        "params": {name: dag.params.get_param(name).schema for name in dag.params},
        "catchup": dag.catchup, "max_active_runs": dag.max_active_runs,
        "schedule": type(dag.timetable).__name__,
        "outlets": {task.task_id: [asset.uri for asset in task.outlets] for task in dag.tasks if task.outlets},
    }
errors = {key: str(value) for key, value in bag.import_errors.items()}
print(json.dumps({"errors": errors, "heavy": heavy, "seconds": seconds, "dags": dags}))
"""


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """Every DAG as Airflow reads it, with more settings."""
    home = tmp_path_factory.mktemp("airflow")

    def read(**more: str) -> dict[str, Any]:
        from vitrine.cli.airflow import environment

        nightly = {
            "encoders": ["efficientnet_lite0", "second"],
            "datasets": [
                {"name": "shop", "source": "a b", "layout": "folder", "splits": False, "encoding": "cp1252"}
                | {"categories": True, "attributes": {"colour": "Farbe"}}
                | {"columns": {"uri": "image url", "product_id": "sku"}}
            ],
        }
        env = environment(Settings(home=home)) | {"VITRINE_NIGHTLY": json.dumps(nightly)} | more
        command = [sys.executable, "-c", _LOOK, str(PROJECT / "dags"), " ".join(HEAVY)]
        result = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-2000:]
        return dict(json.loads(result.stdout.splitlines()[-1]))

    return read


@pytest.fixture(scope="module")
def as_read(look: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return look()


def test_every_dag_imports_in_under_two_seconds_without_a_heavy_import(as_read: dict[str, Any]) -> None:
    assert as_read["errors"] == {}
    assert as_read["heavy"] == [], "the DAG processor reads DAGs all day"
    assert max(as_read["seconds"].values()) < 2, as_read["seconds"]
    beside = {"backfill_backbone", "tuning", "evaluation", "advise", "maintenance"}
    assert set(as_read["dags"]) == {"nightly_reembedding", *beside}
    assert not any(dag["catchup"] for dag in as_read["dags"].values())


def test_a_night_brings_each_pending_encoder_through_its_gates(as_read: dict[str, Any]) -> None:
    night = as_read["dags"]["nightly_reembedding"]
    tasks, arguments = night["tasks"], night["arguments"]
    chain = ["ingest", "pending", "encoder.embed", "encoder.evaluate", "encoder.promote", "features"]
    for before, after in itertools.pairwise(chain):
        assert f"shop.{after}" in tasks[f"shop.{before}"]
    assert sorted(tasks["shop.features"]) == ["night_went_well", "summary"]
    source = str(PROJECT / "a b")  # a path in vitrine.toml starts at its folder, wherever Airflow runs
    how = ["--no-splits", "--categories", "--encoding", "cp1252", "--column", "uri=image url"]
    how += ["--column", "product_id=sku", "--attribute", "colour=Farbe"]
    assert arguments["shop.ingest"] == ["ingest", source, "--dataset", "shop", "--layout", "folder", *how, "--gate"]
    assert night["max_active_runs"] == 1, "the next night waits"
    assert night["outlets"] == {
        "shop.encoder.embed": ["vitrine://shop/embeddings"],
        "shop.encoder.promote": ["vitrine://shop/served"],
    }


def test_a_night_tags_after_the_promotion_and_brings_tags_online(look: Callable[..., dict[str, Any]]) -> None:
    nightly = {"encoders": ["one"], "datasets": [{"name": "shop", "source": "a"}], "tags": ["category", "colour"]}
    night = look(VITRINE_NIGHTLY=json.dumps(nightly))["dags"]["nightly_reembedding"]
    chain = ["encoder.embed", "encoder.learn_category", "encoder.learn_colour", "encoder.evaluate", "encoder.promote"]
    chain += ["tag_category", "tag_colour", "features_of_tags"]
    for before, after in itertools.pairwise(chain):
        assert f"shop.{after}" in night["tasks"][f"shop.{before}"]
    assert night["arguments"]["shop.tag_category"] == ["tag", "--dataset", "shop", "--label", "category"]
    assert sorted(night["tasks"]["shop.features_of_tags"]) == ["night_went_well", "summary"]


def test_an_index_that_is_not_exact_is_gated_and_one_encoder_needs_no_features_task(
    look: Callable[..., dict[str, Any]],
) -> None:
    nightly = {"encoders": ["one"], "datasets": [{"name": "shop", "source": "a"}, {"name": "other", "source": "b"}]}
    night = look(VITRINE_MILVUS__INDEX="HNSW", VITRINE_NIGHTLY=json.dumps(nightly))["dags"]["nightly_reembedding"]
    assert "shop.encoder.gate_index" in night["tasks"]["shop.encoder.evaluate"]
    assert night["tasks"]["other.encoder.gate_index"] == ["other.encoder.promote"]
    assert sorted(night["tasks"]["shop.encoder.promote"]) == ["night_went_well", "summary"]


def test_whatever_computes_vectors_takes_a_slot_and_nights_go_first(as_read: dict[str, Any]) -> None:
    dags = as_read["dags"]
    pooled = {f"{name}.{task}" for name, dag in dags.items() for task, pool in dag["pools"].items() if pool == "gpu"}
    assert pooled == {
        "nightly_reembedding.shop.encoder.embed",
        *(f"backfill_backbone.{task}" for task in ("pilot", "embed_spare", "embed_night", "judge.embed_rest")),
        "tuning.tune",
        *(f"advise.{task}" for task in ("advise", "apply")),
        "evaluation.measure.embed",
    }
    backfill, night = dags["backfill_backbone"]["weights"], dags["nightly_reembedding"]["weights"]
    assert backfill["embed_spare"] < dags["tuning"]["weights"]["tune"] < night["shop.encoder.embed"]
    assert backfill["embed_night"] == night["shop.encoder.embed"]
    assert set(dags["maintenance"]["retries"].values()) == {2}


def test_forms_refuse_what_is_no_name(as_read: dict[str, Any]) -> None:
    import re

    params = as_read["dags"]["backfill_backbone"]["params"]
    for name in ("encoder", "datasets"):
        pattern = params[name].get("pattern") or params[name]["items"]["pattern"]
        assert re.search(pattern, "efficientnet_lite0__top__shop")
        assert not any(re.search(pattern, wrong) for wrong in ("--help", "a b", "../x", ""))
    assert {"pilot_rows", "pilot_share", "chunk_rows", "wanted", "budget_seconds", "budget_money"} < set(params)
    assert params["priority"]["enum"] == ["spare", "night"]
    assert as_read["dags"]["evaluation"]["schedule"] == "AssetTriggeredTimetable", "tuning hands its encoder over"
    assert as_read["dags"]["tuning"]["outlets"] == {"tune": ["vitrine://tuning/encoder"]}


def test_an_advice_is_backfilled_by_the_dag_of_backfills_before_it_is_applied(as_read: dict[str, Any]) -> None:
    dag = as_read["dags"]["advise"]
    assert dag["tasks"] == {"advise": ["backfills"], "backfills": ["backfill"], "backfill": ["apply"], "apply": []}
    assert set(dag["params"]) == {
        "dataset",
        "use",
        "budget",
        "encoders",
        "margin",
        "non_commercial_too",
        "tuning",
        "apply",
    }
    assert dag["params"]["use"]["enum"] == ["search", "tagging", "cost"]
    assert dag["pools"]["backfill"] != "gpu", "the runs that it waits for take the slots"
