"""Embed what is missing, classify, and measure: encoders on data sets, by ``vitrine evaluate``, then the report.

Started by hand with its form, or by the DAG ``tuning``: what that has made is measured on the data sets that it names.
"""

from typing import Any

from airflow.sdk import DAG, Context, Param, task, task_group
from vitrine_tasks import DATASETS, POOL, SETTINGS, TUNED, TUNING, SparkVerb, Verb, choices, common, finish, repeated

from vitrine.names import NAME_PATTERN

PARAMS = {
    "encoders": choices("Encoders", list(SETTINGS.nightly.encoders), least=0),
    "datasets": choices("Data sets", DATASETS, least=0),
    "classify": choices(
        "Labels that classifiers learn to tell apart, and are scored by", list(SETTINGS.nightly.tags), 0
    ),
    "relevant": Param(
        SETTINGS.nightly.relevant,
        type="string",
        pattern=f"^(?:{NAME_PATTERN})$",
        title="What counts as found",
        description="product_id, category, or an attribute",
    ),
}


@task
def pairs(params: dict[str, Any] | None = None, triggering_asset_events: Any = None) -> list[dict[str, str]]:
    """Each encoder with each data set: of what tuning has made, else of the form."""
    events = [event for of_asset in (triggering_asset_events or {}).values() for event in of_asset]
    asked = [event.extra for event in events if "encoders" in event.extra] or [params or {}]
    return [
        {"encoder": encoder, "dataset": dataset}
        for one in asked
        for dataset in one["datasets"]
        for encoder in one["encoders"]
    ]


def of(context: Context) -> list[str]:
    pair = context["task"].item
    return ["--encoder", pair["encoder"], "--dataset", pair["dataset"]]


@task_group
def measure(pair: Any) -> None:
    embed = SparkVerb(task_id="embed", arguments=lambda c: ["embed", *of(c)], item=pair, pool=POOL)
    classify = SparkVerb(
        task_id="classify",
        arguments=lambda c: ["classify", *of(c), *repeated("--label", c["params"]["classify"])],
        when=lambda c: c["params"]["classify"],
        item=pair,
    )
    evaluate = Verb(
        task_id="evaluate",
        arguments=lambda c: ["evaluate", *of(c), f"--relevant={c['params']['relevant']}"],
        trigger_rule="none_failed",  # also where no classifier was asked for
        item=pair,
    )
    embed >> classify >> evaluate


with DAG(
    dag_id="evaluation",
    description="Measure encoders on data sets",
    schedule=[TUNED],
    max_active_runs=1,
    params=PARAMS,
    doc_md=__doc__,
    **common(TUNING),
) as dag:
    report = Verb(task_id="report", arguments=["report"], trigger_rule="all_done", retries=0)
    finish(measure.expand(pair=pairs()), report)
