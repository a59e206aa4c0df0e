"""Tune encoders to data sets, by ``vitrine tune``; what comes of it is handed to the DAG ``evaluation`` as an asset.

A killed tuning goes on where it was: so does a retried task. Labels and vectors are those of the run's date
(``data_interval_end``), so that a run that is repeated learns from the same.
"""

import itertools
import json
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Context, Param
from vitrine_tasks import (
    BUDGET,
    DATASETS,
    POOL,
    SETTINGS,
    TUNED,
    TUNING,
    SparkVerb,
    choice,
    choices,
    common,
    optional,
    repeated,
)

from vitrine.encoders.tuned import default_name

TEACHER = r"^[a-z][a-z0-9_]*(\+[a-z][a-z0-9_]*)*$"

PARAMS = {
    "strategy": Param(
        "top",
        enum=["linear", "top", "partial", "low_rank", "from_head", "full", "distil", "auto"],
        title="linear: a matrix on frozen vectors, in closed form; top: a perceptron on them; full: all weights; "
        "from_head: all weights, a classifier first; partial: the last part's; low_rank: changes of low rank; "
        "distil: a student learns a teacher's vectors; auto: what is worth its cost",
    ),
    "encoders": choices("What to tune", list(SETTINGS.nightly.encoders)),
    "datasets": choices("What to tune it to", DATASETS),
    "evaluate_on": choices("What to evaluate it on too", [], least=0),
    "label": choice("What to tell apart: product_id, category, or an attribute", default="product_id"),
    "seed": optional("integer", "Left out: [tune] seed", minimum=0),
    "teacher": optional("string", "Of distil: whose vectors are learned; A+B: both, joined", pattern=TEACHER),
    "unlabelled": choices("Of distil: further splits to learn from, that of the index", [], least=0),
    "budget": optional("string", "Of auto, as 30m or 2EUR; left out: [tune.auto] budget", pattern=BUDGET),
    "processes": Param(1, type="integer", minimum=1, title="Of a full tuning, one a GPU"),
    "quick": Param(False, type="boolean", title="Small and short: for a first look"),
}


def arguments(context: Context) -> list[str]:
    params, until = context["params"], context.get("data_interval_end")
    strategy = params["strategy"]
    pairs = [*repeated("--encoder", params["encoders"]), *repeated("--dataset", params["datasets"])]
    given = [] if strategy == "distil" else [f"--label={params['label']}"]  # a student learns no label
    given += [f"--teacher={params['teacher']}"] if strategy == "distil" and params["teacher"] else []
    given += repeated("--unlabelled", params["unlabelled"]) if strategy == "distil" else []
    given += [f"--seed={params['seed']}"] if params["seed"] is not None else []
    given += [f"--processes={params['processes']}"] if strategy in ("full", "from_head") else []
    given += [f"--budget={params['budget']}"] if strategy == "auto" and params["budget"] else []
    given += [f"--as-of={until:%Y-%m-%dT%H:%M:%S}"] if until else []
    verb = ["full", "--from-head"] if strategy == "from_head" else [strategy.replace("_", "-")]
    return ["tune", *verb, *pairs, *given, *(["--quick"] if params["quick"] else [])]


def decided(encoders: list[str], datasets: list[str]) -> list[str]:
    """What the newest decision of each took: a tuned encoder, or the encoder as it is."""
    from vitrine import lake  # here: Airflow reads the DAGs all day, and delta-rs is heavy

    taken = set()
    for encoder, dataset in itertools.product(encoders, datasets):
        where = lake.matches(verb="tune auto", state="done", encoder=encoder, dataset=dataset)
        rows = lake.rows(SETTINGS, f"SELECT figures FROM runs WHERE {where} ORDER BY started_at DESC LIMIT 1")
        taken |= {json.loads(row["figures"])["encoder"] for row in rows}
    return sorted(taken)


def made(context: Context) -> dict[str, Any]:
    """What the tuning made, by name, and what to evaluate it on."""
    params = context["params"]
    if params["strategy"] == "auto":
        tuned = decided(params["encoders"], params["datasets"])
    else:
        tuned = [default_name(base, params["strategy"], on) for on in params["datasets"] for base in params["encoders"]]
    return {"encoders": tuned, "datasets": sorted({*params["datasets"], *params["evaluate_on"]})}


with DAG(
    dag_id="tuning",
    description="Tune encoders to data sets",
    schedule=None,
    max_active_runs=4,
    params=PARAMS,
    doc_md=__doc__,
    **common(TUNING),
) as dag:
    # A full tuning takes days on few GPUs.
    days = timedelta(days=7)
    SparkVerb(task_id="tune", arguments=arguments, extra=made, outlets=[TUNED], pool=POOL, execution_timeout=days)
