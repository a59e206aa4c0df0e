"""What all DAGs share: a verb of the command line as a task, its pool, retries, timeout and figures.

Exit code 1 is tried again, each time after twice as long; 2 (a mistake), 3 (a gate refused) and 4 (undecided) end the
task at once: the same again would end the same. Imports nothing heavy: the scheduler reads this all day.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Asset, BaseOperator, Context, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from vitrine import surroundings
from vitrine.settings import find_config, load_settings
from vitrine.spark_conf import spark_conf

SETTINGS = load_settings()
PROJECT = Path(__file__).resolve().parent.parent
CONFIG = find_config()
ENVIRONMENT = {"VITRINE_HOME": str(SETTINGS.home)} | ({"VITRINE_CONFIG": str(CONFIG)} if CONFIG else {})
SPARKS_ENVIRONMENT = {"PYTHONSAFEPATH": "1", "TZ": "UTC"} | ENVIRONMENT
if not SETTINGS.spark.master:  # a cluster's connection is told by the variables of Spark and Hadoop
    SPARKS_ENVIRONMENT = surroundings.without_other_sparks(SPARKS_ENVIRONMENT)
NAME = r"^[a-z](_{0,2}[a-z0-9])*$"  # the command line checks the rest: here it only must not look like an option
BUDGET = r"^\d+(\.\d+)?\s*[A-Za-z]+$"
DATASETS = [dataset.name for dataset in SETTINGS.nightly.datasets]
POOL = SETTINGS.airflow.pool
LABEL = "{{ task.item }}"
FINAL = (2, 3, 4)
"""Exit codes that the same again would end with."""
NIGHT, TUNING, BACKFILL = 100, 10, 1
"""Priorities in the pool: what is free goes to the night first, to a backfill last."""

Arguments = Sequence[Any] | Callable[[Context], Sequence[Any]]
"""Of a verb; a function makes them of a run's parameters, and of ``context["task"].item``."""


def common(priority: int) -> dict[str, Any]:
    """What every DAG is made with; ``priority`` is that of its tasks in the pool."""
    of_tasks = {
        "retries": SETTINGS.airflow.retries,
        "retry_delay": timedelta(seconds=SETTINGS.airflow.retry_seconds),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=30),
        "execution_timeout": timedelta(hours=SETTINGS.airflow.timeout_hours),
        "priority_weight": priority,
        "weight_rule": "absolute",
    }
    start = datetime(2026, 1, 1)
    return {"start_date": start, "catchup": False, "tags": ["vitrine"], "default_args": of_tasks}


def embeddings_asset(dataset: str) -> Asset:
    """Updated when a night has brought the vectors of ``dataset`` to its catalog, and their gate passed."""
    return Asset(name=f"{dataset}_embeddings", uri=f"vitrine://{dataset}/embeddings", group="vitrine")


def served_asset(dataset: str) -> Asset:
    """Updated when another encoder version begins to serve ``dataset``."""
    return Asset(name=f"{dataset}_served", uri=f"vitrine://{dataset}/served", group="vitrine")


TUNED = Asset(name="tuned_encoder", uri="vitrine://tuning/encoder", group="vitrine")
"""Updated when a tuning has made encoders: ``extra`` names them and what to evaluate them on."""


def choice(title: str, **default: str) -> Param:
    """A field for one name, which it has where a ``default`` is given."""
    return Param(type="string", pattern=NAME, title=title, **default)


def choices(title: str, default: list[str], least: int = 1) -> Param:
    """A field for ``least`` names or more."""
    return Param(default, type="array", items={"type": "string", "pattern": NAME}, minItems=least, title=title)


def optional(kind: str, title: str, **rule: Any) -> Param:
    """A field that may be left empty."""
    return Param(None, type=["null", kind], title=title, **rule)


def finish(last: Any, report: BaseOperator) -> None:
    """``report`` is made however ``last`` ended; the leaf after both fails where ``last`` did, and the run with it."""
    well = EmptyOperator(task_id="went_well", trigger_rule="none_failed")
    last >> report >> well
    last >> well


def repeated(option: str, values: Iterable[str]) -> list[str]:
    return [part for value in values for part in (option, value)]


class VerbProcess:
    """One verb in a process of its own, beside the task."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, arguments: Sequence[Any], **environment: str) -> str:
        """What ``vitrine ARGUMENTS`` writes to its standard output; its messages are the task's log.

        Raises:
            AirflowFailException: it ended with one of ``FINAL``.
            AirflowException: it ended otherwise, and not well.
        """
        command = [sys.executable, "-m", "vitrine", *map(str, arguments)]
        with (
            tempfile.TemporaryFile("w+") as output,
            subprocess.Popen(
                command,
                env=surroundings.for_child() | ENVIRONMENT | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            ) as self._process,
        ):
            assert self._process.stderr is not None
            for line in self._process.stderr:
                print(line, end="", flush=True)
            code = self._process.wait()
            output.seek(0)
            text = output.read()
        print(text, flush=True)
        if code:
            end = AirflowFailException if code in FINAL else AirflowException
            raise end(f"vitrine {arguments[0]} ended with {code}")
        return text

    def kill(self) -> None:
        """Whatever is killed can be run again: no need to wait."""
        if self._process and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


class SparkVerb(SparkSubmitOperator):
    """A verb that needs Spark, through the connection ``spark_default``: a cluster is a matter of the connection.

    Where that is this machine, and ``[spark] keep_jvm_seconds`` is set, a process of its own that borrows the kept JVM.
    """

    template_fields = (*SparkSubmitOperator.template_fields, "item")

    def __init__(
        self,
        *,
        arguments: Arguments,
        extra: Callable[[Context], dict[str, Any]] | None = None,
        when: Callable[[Context], Any] | None = None,
        item: Any = None,
        **kwargs: Any,
    ) -> None:
        """``extra`` is what the task's assets say of their update; ``when`` false skips the task; ``item`` is what a
        mapped task is of."""
        if item is not None:
            kwargs["map_index_template"] = LABEL
        super().__init__(
            application=str(PROJECT / "vitrine" / "__main__.py"),
            application_args=None if callable(arguments) else list(arguments),
            name=f"vitrine {kwargs['task_id']}",
            env_vars=SPARKS_ENVIRONMENT,
            **kwargs,
        )
        self.item, self._arguments, self._extra, self._when = item, arguments, extra, when
        self._beside = VerbProcess()

    def execute(self, context: Context) -> None:
        if self._when and not self._when(context):
            raise AirflowSkipException("not asked for")
        if callable(self._arguments):
            self.application_args = list(self._arguments(context))
        master = self._get_hook()._connection["master"]
        if SETTINGS.spark.keep_jvm_seconds and master.startswith("local"):
            self._beside.run(self.application_args or [], VITRINE_SPARK__MASTER=master)
        else:
            self._submit(context, master)
        if self._extra:
            _describe(self, context, self._extra(context))

    def _submit(self, context: Context, master: str) -> None:
        from vitrine import lake  # here: Airflow reads the DAGs all day, and delta-rs is heavy

        self.conf = spark_conf(SETTINGS, master=master, large=lake.is_large(SETTINGS))
        try:
            super().execute(context)
        except AirflowException as error:
            # spark-submit ends with the exit code of a driver that runs beside it; of one in a cluster it has none.
            code = getattr(getattr(self._hook, "_submit_sp", None), "returncode", None)
            if code in FINAL:
                raise AirflowFailException(f"{self.name} ended with {code}") from error
            raise

    def on_kill(self) -> None:
        self._beside.kill()
        super().on_kill()


class Verb(BaseOperator):
    """A verb that does without Spark, in a process of its own; returns the figures of its ``--json``."""

    template_fields = ("arguments", "when", "item")

    def __init__(
        self,
        *,
        arguments: Arguments,
        when: Any = True,
        pick: str | None = None,
        skip_unless: str | None = None,
        item: Any = None,
        **kwargs: Any,
    ) -> None:
        """``when`` (a value, or a function of the context) false skips the task; ``pick`` returns one figure alone;
        where the figure ``skip_unless`` is false, the task has done nothing new: it ends as skipped, and its assets
        are not updated. ``item`` as for ``SparkVerb``."""
        if item is not None:
            kwargs["map_index_template"] = LABEL
        super().__init__(**kwargs)
        self.item = item
        self._make = arguments if callable(arguments) else None
        self.arguments = [] if callable(arguments) else list(arguments)
        self._asks = when if callable(when) else None
        self.when = True if callable(when) else when
        self._pick, self._skip_unless = pick, skip_unless
        self._beside = VerbProcess()

    def execute(self, context: Context) -> Any:
        if not (self._asks(context) if self._asks else self.when):
            raise AirflowSkipException("not asked for")
        if self._make:
            self.arguments = list(self._make(context))
        figures = json.loads(self._beside.run([*self.arguments, "--json"]))
        if self._skip_unless and not figures.get(self._skip_unless):
            raise AirflowSkipException(f"{self._skip_unless}: no")
        _describe(self, context, figures)
        return figures[self._pick] if self._pick else figures

    def on_kill(self) -> None:
        self._beside.kill()


def _describe(task: BaseOperator, context: Context, extra: dict[str, Any]) -> None:
    for asset in task.outlets:
        context["outlet_events"][asset].extra = extra
