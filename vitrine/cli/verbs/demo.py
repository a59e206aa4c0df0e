"""``vitrine demo``: one night on a catalog that it draws itself, run by Airflow, then what came of it, and what a
closed form on the same vectors gains."""

import json
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from evaluation import metrics_table
from evaluation.report import report
from spark_jobs import kept_jvm
from vitrine import facts, lake, runs
from vitrine.cli import airflow, output, tuning
from vitrine.cli.options import Json
from vitrine.cli.verbs.embed import embed_named
from vitrine.cli.verbs.evaluate import evaluate_one
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import by_name
from vitrine.errors import GateRefused, VitrineError
from vitrine.online import lookup
from vitrine.settings import Settings, load_settings

DATASET, ENCODER = "demo", "efficientnet_lite0"
_TEST_SHARE = 0.25
"""Of the photos: what asks. The others are searched, and learned from."""
_STEP = re.compile(r"\[DAG TEST\] (starting|end)(?: task)? task_id=(\S+)")
_WITH_DATABASE = """
from airflow.utils import db
db.initdb()
from airflow.__main__ import main
main()
"""
"""As ``airflow db migrate``, then a command, in one process: Airflow takes seconds to import."""
_TOLD = re.compile(r"\b(?:(?:listing|reading|embedding) demo[^\[]*? s\b|vitrine: [^\[]*)")


def demo(
    source: Annotated[str, typer.Option(help="PRODUCTSxPHOTOS[:SEED] of the catalog that is drawn.")] = "40x12",
    as_json: Json = False,
) -> None:
    """All of it, on a small catalog that it draws itself: the nightly DAG by Airflow, then what came of it.

    Beside the night's encoder the report has its linear rung: the same vectors through a matrix in closed form.
    """
    settings = load_settings()
    output.show("demo", run_demo(settings, source), as_json)


def run_demo(settings: Settings, source: str) -> dict[str, Any]:
    """Run the nightly DAG on ``source`` by ``airflow dags test``, then tune its encoder in closed form.

    Returns:
        Where the report is, metrics of both, an online lookup.

    Raises:
        VitrineError: the night failed; the message says where its log is.
    """
    started, began = time.monotonic(), lake.now()
    env = airflow.environment(settings, alone=True)
    dataset = {"name": DATASET, "source": source, "layout": "generated", "test_share": _TEST_SHARE}
    env["VITRINE_NIGHTLY"] = json.dumps({"encoders": [ENCODER], "datasets": [dataset]})
    log = settings.home / "logs" / "demo.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    dag = "nightly_reembedding"
    code = _airflow(["dags", "test", dag, "--dagfile-path", str(airflow.DAGS / f"{dag}.py")], env, log)
    kept_jvm.dismiss(settings.home)
    _check_night(settings, log, began)  # a refusal has its own words and exit code
    if code:
        raise VitrineError(f"airflow dags test ended with {code}; its log is {log}")
    linear = _tuned(settings)
    return _outcome(settings) | {
        "with_a_linear_head": linear,
        "seconds": round(time.monotonic() - started, 1),
        "log": str(log),
    }


def _tuned(settings: Settings) -> dict[str, Any]:
    """The night's encoder with a linear head, in the report beside it; its metrics."""
    (planned,) = tuning.plan(settings, tuning.Strategy.linear, [DATASET], [ENCODER])
    for asked, rows in tuning.with_rows(settings, [planned], "product_id", None):
        tuning.tune(settings, asked, rows)
    embed_named(settings, [planned.name], DATASET)
    version = by_name.version(settings, planned.name)
    figures = evaluate_one(settings, EncodedSet(DATASET, planned.name, version), (None, None, "product_id"))
    report.write_report(settings, None)
    return _shown(figures["metrics"])


def _airflow(arguments: list[str], env: dict[str, str], log: Path) -> int:
    print(f"airflow {' '.join(arguments[:3])}", file=sys.stderr, flush=True)
    steps: dict[str, float] = {}
    with (
        log.open("a") as file,
        subprocess.Popen(
            [sys.executable, "-c", _WITH_DATABASE, *arguments],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            _tell(line, steps)
    return process.returncode


def _tell(line: str, steps: dict[str, float]) -> None:
    """The lines of Airflow's log that say how far the night is, on stderr."""
    if step := _STEP.search(line):
        if step[1] == "starting":
            steps[step[2]] = time.monotonic()
        elif step[2] in steps:
            print(f"  {step[2]:<24} {time.monotonic() - steps[step[2]]:6.1f} s", file=sys.stderr, flush=True)
    elif told := _TOLD.search(line):
        print(f"    {told[0].strip()[:150]}", file=sys.stderr, flush=True)


def _check_night(settings: Settings, log: Path, began: datetime) -> None:
    tonight = f"started_at >= timestamp '{began:%Y-%m-%d %H:%M:%S.%f}+00:00'"
    ended = runs.read(settings, tonight)
    refused = [run.verb for run in ended if run.state == "refused"]
    failed = [run.verb for run in ended if run.state == "failed"]
    if refused:
        raise GateRefused(f"refused tonight: {', '.join(refused)}; the report says why, and {log}")
    if failed or not facts.serving(settings, DATASET):
        raise VitrineError(f"the night failed ({', '.join(failed) or 'nothing serves'}); its log is {log}")


def _outcome(settings: Settings) -> dict[str, Any]:
    serves = facts.serving_set(settings, DATASET)
    assert serves is not None
    now = lake.matches(
        catalog_version=facts.catalog_version(settings, DATASET), classifier="", slice=metrics_table.ALL_QUERIES
    )
    evaluations = metrics_table.newest(settings, f"{serves.where} AND {now}")
    metrics = evaluations[0].scores[metrics_table.ALL_QUERIES].values if evaluations else {}
    image = lake.rows(settings, f"SELECT min(image_id) AS id FROM catalog WHERE dataset = {lake.quote(DATASET)}")[0]
    online = lookup.OnlineFeatures(settings).lookup(DATASET, [image["id"]])[0]
    vector = online.pop("embedding")
    return {
        "report": str(settings.reports / "report.html"),
        "metrics": _shown(metrics),
        "lookup": {**online, "embedding": f"[{vector[0]:.4f}, {vector[1]:.4f}, ...] ({len(vector)} floats)"},
    }


def _shown(metrics: dict[str, float]) -> dict[str, float]:
    return {name: metrics[name] for name in ("mMP@5", "mR@1", "MAP@100") if name in metrics}
