"""Once a week: tables compacted, files that no version of the last days needs removed, old collections and runs too.

Never what serves, or what a night embeds. How far time travel and the followers' change feed reach back is
``keep_days``; joins as of an earlier time go by columns, and lose nothing.
"""

from airflow.sdk import DAG, Param
from vitrine_tasks import SETTINGS, TUNING, SparkVerb, common

with DAG(
    dag_id="maintenance",
    description="Compact, vacuum, drop what is old",
    schedule=SETTINGS.airflow.maintenance or None,
    max_active_runs=1,
    params={
        "keep_days": Param(30, type="integer", minimum=7, title="Days that time travel reaches back"),
        "keep_runs_days": Param(400, type="integer", minimum=30, title="Days that the table runs keeps"),
    },
    doc_md=__doc__,
    **common(TUNING),
) as dag:
    days = ["--keep-days", "{{ params.keep_days }}", "--keep-runs-days", "{{ params.keep_runs_days }}"]
    SparkVerb(task_id="maintain", arguments=["maintain", *days])
