"""An encoder brought to whole catalogs, beside the nights: a pilot, what the rest takes by the pilot's own rate, the
budget, then the rest in pieces, then evaluation, gate and report.

The pieces take slots of the pool that nights leave free: between two pieces, a night goes first. Pause the DAG, and the
piece at work is the last one; mark the run failed, and it ends. What is embedded stays, another run goes on with what
is missing. Several backfills may run side by side. The last step embeds what came or changed meanwhile.
"""

from typing import Any

from airflow.sdk import DAG, Context, Param, task, task_group
from vitrine_tasks import (
    BACKFILL,
    DATASETS,
    LABEL,
    NIGHT,
    POOL,
    SETTINGS,
    SparkVerb,
    Verb,
    choice,
    choices,
    common,
    finish,
    optional,
    repeated,
)

PARAMS = {
    "encoder": choice("The backbone, or another encoder, by its name"),
    "datasets": choices("Data sets", DATASETS),
    "pilot_rows": Param(500, type="integer", minimum=1, title="Photos of the pilot, in each data set"),
    "pilot_share": optional("number", "Or the pilot as a share of what is missing", exclusiveMinimum=0, maximum=1),
    "chunk_rows": Param(20_000, type="integer", minimum=1, title="Photos of a piece"),
    "wanted": optional("string", "A table of product_id and weight: what weighs most goes first", pattern="^[^-]"),
    "budget_seconds": optional("number", "Budget in seconds, pilot included", minimum=0),
    "budget_money": optional("number", "Budget in money, by [prices]", minimum=0),
    "priority": Param("spare", enum=["spare", "night"], title="spare: what nights leave free; night: like a night"),
    "promote": Param(False, type="boolean", title="Let it serve where its gates pass"),
}


def backfill(context: Context, datasets: list[str]) -> list[str]:
    params = dict(context["params"])
    params["wanted"] = params["wanted"] and SETTINGS.place(params["wanted"])
    given = {"--wanted": "wanted", "--budget-seconds": "budget_seconds", "--budget-money": "budget_money"}
    options = [f"{option}={params[key]}" for option, key in given.items() if params[key] is not None]
    return ["backfill", params["encoder"], *repeated("--dataset", datasets), f"--name={context['run_id']}", *options]


def pilot_arguments(context: Context) -> list[str]:
    params = context["params"]
    share = params["pilot_share"]
    size = f"--rows={params['pilot_rows']}" if share is None else f"--share={share}"
    return [*backfill(context, params["datasets"]), size]


def plan_arguments(context: Context) -> list[str]:
    params = context["params"]
    return [*backfill(context, params["datasets"]), "--dry-run", f"--chunk-rows={params['chunk_rows']}"]


def piece_arguments(context: Context) -> list[str]:
    piece = context["task"].item
    return [*backfill(context, [piece["dataset"]]), f"--rows={piece['rows']}"]


@task
def pieces(plan: list[dict[str, Any]], priority: str, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The pieces of the plan that take slots with this priority: all, or none."""
    return plan if params and params["priority"] == priority else []


@task
def datasets(params: dict[str, Any] | None = None) -> list[str]:
    return list(params["datasets"]) if params else []


@task_group
def judge(dataset: Any) -> None:
    def of(context: Context) -> list[str]:
        return ["--encoder", context["params"]["encoder"], "--dataset", context["task"].item]

    embed = SparkVerb(
        task_id="embed_rest",
        arguments=lambda c: ["embed", *of(c), "--gate"],
        item=dataset,
        pool=POOL,
        trigger_rule="none_failed",  # where the pilot was all, there are no pieces
    )
    evaluate = Verb(
        task_id="evaluate",
        arguments=lambda c: ["evaluate", *of(c), "--relevant", SETTINGS.nightly.relevant, "--with-serving", "--gate"],
        item=dataset,
    )
    index = Verb(
        task_id="gate_index",
        arguments=lambda c: ["gate", "index", *of(c)],
        when=lambda c: c["params"]["promote"] and SETTINGS.milvus.index != "FLAT",
        item=dataset,
    )
    promote = Verb(
        task_id="promote",
        arguments=lambda c: ["promote", c["params"]["encoder"], "--dataset", c["task"].item],
        when=lambda c: c["params"]["promote"],
        item=dataset,
        trigger_rule="none_failed_min_one_success",
    )
    embed >> evaluate >> index >> promote
    evaluate >> promote


with DAG(
    dag_id="backfill_backbone",
    description="Embed whole catalogs with another encoder, in the nights' spare time, within a budget",
    schedule=None,
    max_active_runs=4,
    params=PARAMS,
    doc_md=__doc__,
    **common(BACKFILL),
) as dag:
    pilot = SparkVerb(task_id="pilot", arguments=pilot_arguments, pool=POOL)
    plan = Verb(task_id="plan", arguments=plan_arguments, pick="chunks")
    report = Verb(task_id="report", arguments=["report"], trigger_rule="all_done", retries=0)
    judged = judge.expand(dataset=datasets())
    pilot >> plan
    for priority, weight in (("spare", BACKFILL), ("night", NIGHT)):
        piece = SparkVerb.partial(
            task_id=f"embed_{priority}",
            arguments=piece_arguments,
            pool=POOL,
            priority_weight=weight,
            max_active_tis_per_dagrun=1,
            map_index_template=LABEL,
        ).expand(item=pieces.override(task_id=f"pieces_{priority}")(plan.output, priority))
        piece >> judged
    finish(judged, report)
