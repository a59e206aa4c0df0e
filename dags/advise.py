"""Which encoder a catalog should have, by ``vitrine advise``; where that is asked for, the nights get it.

The sample's vectors take a slot of the pool. What is then backfilled is a run of ``backfill_backbone``, whose pieces
let nights go first; that DAG has to be switched on. The last step decides again, on vectors that are all there: it
passes the gates and names the encoder first in vitrine.toml, which the next night reads. Where the advice is undecided
it fails, and nothing is changed.
"""

import json
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Context, Param, task
from vitrine_tasks import (
    BUDGET,
    DATASETS,
    POOL,
    SETTINGS,
    TUNING,
    SparkVerb,
    choice,
    choices,
    common,
    optional,
    repeated,
)

PARAMS = {
    "dataset": choice("The catalog", **({"default": DATASETS[0]} if DATASETS else {})),
    "use": Param(
        "search",
        enum=["search", "tagging", "cost"],
        title="search: a product's other photos; tagging: a photo's category; cost: as search, as cheaply as may be",
    ),
    "budget": optional("string", "As 30m or 2EUR; left out: no bound", pattern=BUDGET),
    "encoders": choices("Candidates; none: all with weights on the machine", [], least=0),
    "margin": optional("number", "What a cheaper one may be worse; left out: 0.01, of cost 0.03", minimum=0, maximum=1),
    "non_commercial_too": Param(False, type="boolean", title="Try those, too, whose licence forbids commercial use"),
    "tuning": Param(False, type="boolean", title="Probe which tuning the best two are worth"),
    "apply": Param(False, type="boolean", title="Backfill what is advised, and have nights promote it"),
}


def arguments(context: Context) -> list[str]:
    params = context["params"]
    given = ["--dataset", params["dataset"], f"--use={params['use']}", *repeated("--encoder", params["encoders"])]
    given += [f"--{name}={params[name]}" for name in ("budget", "margin") if params[name] is not None]
    flags = [f"--{name.replace('_', '-')}" for name in ("non_commercial_too", "tuning") if params[name]]
    return ["advise", *given, *flags]


@task
def backfills(params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The form of ``backfill_backbone`` for what the newest advice decided; none where it is undecided, or not asked
    for."""
    from vitrine import lake, names  # here: Airflow reads the DAGs all day, and delta-rs is heavy

    if not params or not params["apply"]:
        return []
    where = lake.matches(verb="advise", state="done", dataset=params["dataset"])
    rows = lake.rows(SETTINGS, f"SELECT figures FROM runs WHERE {where} ORDER BY started_at DESC LIMIT 1")
    encoders = [json.loads(row["figures"])["encoder"] for row in rows]
    networks = [name for encoder in encoders if encoder for name in names.split_joined(encoder)]
    return [{"encoder": name, "datasets": [params["dataset"]]} for name in networks]


with DAG(
    dag_id="advise",
    description="Find the encoder for a catalog, and have the nights take it",
    schedule=None,
    max_active_runs=1,
    params=PARAMS,
    doc_md=__doc__,
    **common(TUNING),
) as dag:
    days = timedelta(days=7)  # a whole catalog, in what nights leave free
    advise = SparkVerb(task_id="advise", arguments=arguments, pool=POOL)
    forms = backfills()
    backfill = TriggerDagRunOperator.partial(
        task_id="backfill",
        trigger_dag_id="backfill_backbone",
        wait_for_completion=True,
        fail_when_dag_is_paused=True,
        execution_timeout=days,
    ).expand(conf=forms)
    apply = SparkVerb(
        task_id="apply",
        arguments=lambda c: [*arguments(c), "--apply"],
        when=lambda c: c["params"]["apply"],
        pool=POOL,
        trigger_rule="none_failed",  # undecided, there is no backfill, and this says so
    )
    advise >> forms
    backfill >> apply
