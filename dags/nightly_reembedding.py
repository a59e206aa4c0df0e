"""Every night: each data set of ``[nightly]`` in vitrine.toml, by each of its encoders, gated, measured, served.

Thin: when and in what order. Every task is a verb of the command line; Spark verbs go through the connection
``spark_default``, so that a cluster is a matter of the connection. What a gate refuses fails the night and stops what
follows; what served goes on serving. The gates on catalog and embeddings are asked by the tasks that write them, in the
same Spark session: as tasks of their own, most of their time was Spark's start. The first encoder of ``[nightly]`` is
the one that nights promote, once a version: what people promoted or rolled back since stays as they left it.
"""

import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, TaskGroup
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from vitrine.settings import find_config, load_settings
from vitrine.spark_conf import spark_conf

SETTINGS = load_settings()
PROJECT = Path(__file__).resolve().parent.parent
CONFIG = find_config()
ENVIRONMENT = {"VITRINE_HOME": str(SETTINGS.home)} | ({"VITRINE_CONFIG": str(CONFIG)} if CONFIG else {})


def spark_verb(task: str, *arguments: str) -> SparkSubmitOperator:
    """A verb that needs Spark."""
    return SparkSubmitOperator(
        task_id=task,
        application=str(PROJECT / "vitrine" / "__main__.py"),
        application_args=list(arguments),
        name=f"vitrine {task}",
        conf=spark_conf(SETTINGS),
        env_vars=ENVIRONMENT,
    )


def verb(task: str, *arguments: str, trigger_rule: str = "all_success") -> PythonOperator:
    """A verb that does without Spark, in a process of its own."""
    return PythonOperator(task_id=task, python_callable=_run, op_args=list(arguments), trigger_rule=trigger_rule)


def _run(*arguments: str) -> None:
    command = [sys.executable, "-m", "vitrine", *arguments]
    with subprocess.Popen(
        command, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
    if process.returncode in (2, 3):  # a mistake or a refusal: the same again would end the same
        raise AirflowFailException(f"vitrine {arguments[0]} ended with {process.returncode}")
    if process.returncode:
        raise AirflowException(f"vitrine {arguments[0]} ended with {process.returncode}")


with DAG(
    dag_id="nightly_reembedding",
    description="Re-embed what changed, gate it, measure it, serve it",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 0, "execution_timeout": timedelta(hours=12)},
    tags=["vitrine"],
    doc_md=__doc__,
) as dag:
    nightly = SETTINGS.nightly
    relevant = ("--relevant", nightly.relevant)
    report = verb("report", "report", trigger_rule="all_done")
    # The report is written after a refusal too; this leaf is what says that the night as a whole went well.
    night = EmptyOperator(task_id="night_went_well")
    night << report
    for dataset in nightly.datasets:
        with TaskGroup(dataset.name, prefix_group_id=True):
            of = ("--dataset", dataset.name)
            how = ["--layout", dataset.layout]
            if dataset.test_share:
                how += ["--test-share", str(dataset.test_share)]
            ingest = spark_verb("ingest", "ingest", dataset.source, *of, *how)
            gate_catalog = spark_verb("gate_catalog", "gate", "catalog", *of)
            features = verb("features", "features", *of)
            ingest >> gate_catalog
            for number, encoder in enumerate(nightly.encoders):
                by = ("--encoder", encoder)
                tail = "" if len(nightly.encoders) == 1 else f"__{encoder}"
                embed = spark_verb(f"embed{tail}", "embed", *by, *of)
                gate_embeddings = spark_verb(f"gate_embeddings{tail}", "gate", "embeddings", *of, *by)
                index = verb(f"index{tail}", "index", *by, *of)
                evaluate = verb(f"evaluate{tail}", "evaluate", *by, *of, *relevant, "--with-serving")
                gate_metrics = verb(f"gate_metrics{tail}", "gate", "metrics", *of, *by)
                gate_catalog >> embed >> gate_embeddings >> index >> evaluate >> gate_metrics
                if number == 0:
                    promote = verb("promote", "promote", encoder, *of, "--if-new")
                    if SETTINGS.milvus.index == "FLAT":  # exact: there is nothing to measure
                        gate_metrics >> promote >> features
                    else:
                        gate_metrics >> verb("gate_index", "gate", "index", *of, *by) >> promote >> features
                else:
                    gate_metrics >> features
            features >> report
            features >> night
