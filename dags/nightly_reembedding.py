"""Every night: each data set of ``[nightly]`` in vitrine.toml, by each of its encoders, gated, measured, served.

Thin: when and in what order. Every task is a verb of the command line. A data set is ingested; then ``pending`` asks,
without Spark, which of its encoders have anything to do, and those alone become mapped tasks: on a night without
change, none. The gates are asked by the tasks that write what they judge, in the same process. What a gate refuses
fails the night and stops what follows; what served goes on serving. The first encoder of ``[nightly]`` is the one that
nights promote, once a version: what people promoted or rolled back since stays as they left it.
"""

from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup, XComArg, chain, task_group
from vitrine_summary import NightSummary
from vitrine_tasks import NIGHT, POOL, SETTINGS, SparkVerb, Verb, common, embeddings_asset, served_asset

from vitrine.setting_sections import NightlyDataset

NIGHTLY = SETTINGS.nightly
AFTER_WORK = "none_failed_min_one_success"


def ingest_arguments(dataset: NightlyDataset) -> list[str]:
    how = ["--test-share", str(dataset.test_share)] if dataset.test_share else []
    how += [] if dataset.splits is None else ["--splits" if dataset.splits else "--no-splits"]
    how += ["--categories"] if dataset.categories else []
    how += ["--encoding", dataset.encoding] if dataset.encoding else []
    how += [part for name, column in dataset.columns.items() for part in ("--column", f"{name}={column}")]
    how += [part for name, column in dataset.attributes.items() for part in ("--attribute", f"{name}={column}")]
    source = dataset.source if dataset.layout == "generated" else SETTINGS.place(dataset.source)
    return ["ingest", source, "--dataset", dataset.name, "--layout", dataset.layout, *how, "--gate"]


def state_of(dataset: str) -> dict[str, Any]:
    """What the assets of ``dataset`` say: the Delta version of ``embeddings`` that has the vectors."""
    from vitrine import lake  # here: Airflow reads the DAGs all day, and delta-rs is heavy
    from vitrine.tables import EMBEDDINGS

    return {"dataset": dataset, "table": EMBEDDINGS.name, "delta_version": lake.version(SETTINGS, EMBEDDINGS)}


def bring(dataset: str, pending: XComArg) -> Any:
    """One chain a pending encoder of ``dataset``, side by side as far as the pool lets them."""
    of = ("--dataset", dataset)

    @task_group(group_id="encoder")
    def steps(encoder: Any, first: Any) -> None:
        by = ("--encoder", encoder)
        embed = SparkVerb(
            task_id="embed",
            arguments=["embed", *by, *of, "--gate"],
            pool=POOL,
            outlets=[embeddings_asset(dataset)],
            extra=lambda _: state_of(dataset),
            item=encoder,
        )
        evaluate = Verb(
            task_id="evaluate",
            arguments=["evaluate", *by, *of, "--relevant", NIGHTLY.relevant, "--with-serving", "--gate"],
            item=encoder,
        )
        promote = Verb(
            task_id="promote",
            arguments=["promote", encoder, *of, "--if-new"],
            when=first,
            skip_unless="promoted",
            outlets=[served_asset(dataset)],
            item=encoder,
        )
        # What tags a label now has to have its like by this version's vectors, or the version may not serve.
        learn = [
            SparkVerb(task_id=f"learn_{label}", arguments=["tag", *by, *of, "--label", label, "--ahead"], item=encoder)
            for label in NIGHTLY.tags
        ]
        chain(embed, *learn, evaluate)
        if SETTINGS.milvus.index == "FLAT":  # exact: there is nothing to measure
            evaluate >> promote
        else:
            gate = Verb(task_id="gate_index", arguments=["gate", "index", *of, *by], when=first, item=encoder)
            evaluate >> gate >> promote

    return steps.expand_kwargs(pending)


with DAG(
    dag_id="nightly_reembedding",
    description="Re-embed what changed, gate it, measure it, serve it",
    schedule=SETTINGS.airflow.nightly or None,
    max_active_runs=1,
    doc_md=__doc__,
    **common(NIGHT),
) as dag:
    summary = NightSummary(task_id="summary", trigger_rule="all_done", retries=0)
    # The summary is written after a refusal too: this leaf fails then, and the run with it.
    night = EmptyOperator(task_id="night_went_well", trigger_rule="none_failed")
    summary >> night
    for dataset in NIGHTLY.datasets:
        with TaskGroup(dataset.name, prefix_group_id=True):
            ingest = SparkVerb(task_id="ingest", arguments=ingest_arguments(dataset))
            pending = Verb(task_id="pending", arguments=["pending", "--dataset", dataset.name], pick="pending")
            brought = bring(dataset.name, pending.output)
            ingest >> pending >> brought
            tags = [
                SparkVerb(
                    task_id=f"tag_{label}",
                    arguments=["tag", "--dataset", dataset.name, "--label", label],
                    trigger_rule=AFTER_WORK,
                )
                for label in NIGHTLY.tags
            ]
            if tags:  # after the promotion, by what serves; where it was skipped, by what served before
                [brought, dag.get_task(f"{dataset.name}.encoder.evaluate")] >> tags[0]
                arguments = ["features", "--dataset", dataset.name]
                online = Verb(task_id="features_of_tags", arguments=arguments, trigger_rule=AFTER_WORK)
                chain(*tags, online, [summary, night])
            if len(NIGHTLY.encoders) > 1:  # a promotion brings Feast along; not every encoder ends with one
                arguments = ["features", "--dataset", dataset.name]
                features = Verb(task_id="features", arguments=arguments, trigger_rule=AFTER_WORK)
                # A promotion is skipped where nothing new was promoted: what was evaluated counts too.
                [brought, dag.get_task(f"{dataset.name}.encoder.evaluate")] >> features
                features >> [summary, night]
            else:
                brought >> [summary, night]
