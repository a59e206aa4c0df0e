"""Great Expectations, run in code: a suite of rules asked of one table, its results and its Data Docs kept by run."""

import contextlib
import html
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from evaluation.gates.gate import Check
from vitrine import locks
from vitrine.errors import VitrineError
from vitrine.lean_imports import left_out
from vitrine.runs import GateFigures
from vitrine.settings import Settings

EXAMPLES = 3  # rows that a failed expectation names
PAGES = 200  # runs that the index of the Data Docs lists


@dataclass(frozen=True)
class Rule:
    """A question about rows: an expectation's class in ``great_expectations.expectations`` and its arguments."""

    kind: str
    text: str
    """What people read."""
    arguments: dict[str, Any]
    figures: dict[str, Any]
    """What is known beforehand, as limits; what Great Expectations counts joins it."""


def rule(kind: str, text: str, figures: dict[str, Any] | None = None, **arguments: Any) -> Rule:
    return Rule(kind, text, arguments, figures or {})


@dataclass(frozen=True)
class Decision:
    """A question that is answered already, with all its figures: Great Expectations shows it, and counts nothing."""

    text: str
    passed: bool
    figures: dict[str, Any]


def decided(check: Check, question: str) -> Decision:
    """``check`` as the answer to ``question``."""
    return Decision(f"{question}: {check.detail}", check.passed, dict(check.figures))


def validate(
    settings: Settings,
    gate: str,
    subject: str,
    asked: Sequence[Rule | Decision],
    run_id: str | None,
    frame: Any = None,
    serving_version: str | None = None,
) -> GateFigures:
    """Ask what a gate asks, as ``ask`` does; it lets through what passes all of it.

    ``frame``: the rows, of pandas or Spark, that rules are asked of. ``serving_version``: what a gate in ``COMPARING``
    compared with.
    """
    checks = ask(settings, f"{gate} {subject}", asked, run_id or subject, frame)
    return GateFigures(
        gate,
        success=all(check["success"] for check in checks),
        checks=checks,
        failed=[{name: check[name] for name in ("expectation", "figures")} for check in checks if not check["success"]],
        warnings=[check["expectation"] for check in checks if "warning" in check["figures"] and check["success"]],
        serving_version=serving_version,
        data_docs=str(index_page(settings)),
    )


def ask(
    settings: Settings, name: str, asked: Sequence[Rule | Decision], run_id: str, frame: Any = None
) -> list[dict[str, Any]]:
    """Ask every rule of ``frame`` (pandas or Spark) and write the Data Docs; no other gate runs meanwhile.

    Returns:
        A dict a question, in their order: ``expectation``, ``success``, ``figures``.

    Raises:
        VitrineError: an expectation could not be asked.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read at import
    # Standard output belongs to --json.
    with contextlib.redirect_stdout(sys.stderr), locks.held_file(settings.home / "gx" / "lock"):
        results = _ask(settings, name, asked, run_id, frame)
    return [_check(question, result) for question, result in zip(asked, results, strict=True)]


def index_page(settings: Settings) -> Path:
    """The first page of the Data Docs."""
    return settings.reports / "data_docs" / "index.html"


def _ask(
    settings: Settings, name: str, asked: Sequence[Rule | Decision], run_id: str, frame: Any
) -> list[dict[str, Any]]:
    """The results in the order of ``asked``."""
    gx = great_expectations()
    import pandas as pd
    from great_expectations import expectations
    from great_expectations.core import RunIdentifier

    decision = _decided_expectation()  # registered in any case: pages of kept suites show such
    frame = pd.DataFrame() if frame is None else frame
    context = gx.get_context(mode="ephemeral", project_config=_context_config(settings))
    on_pandas = isinstance(frame, pd.DataFrame)
    source = (
        context.data_sources.add_pandas("lake") if on_pandas else context.data_sources.add_spark("lake", persist=False)
    )
    batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("now")
    (settings.home / "gx" / "suites" / f"{name}.json").unlink(missing_ok=True)  # a killed run may have left a part
    suite = context.suites.add(gx.ExpectationSuite(name))
    for number, question in enumerate(asked):
        text = html.escape(question.text, quote=False)  # the pages show it as markup; it may hold a category's name
        about = {"description": text, "meta": {"question": number}}
        if isinstance(question, Decision):
            shown = figures_line(question.figures)
            suite.add_expectation(decision(passed=question.passed, observed=shown, **about))
        else:
            suite.add_expectation(getattr(expectations, question.kind)(**about, **question.arguments))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    form: dict[str, Any] = {"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES}
    if "image_id" in frame.columns:
        form["unexpected_index_column_names"] = ["image_id"]
    run = RunIdentifier(run_name=run_id)
    outcome = definition.run(batch_parameters={"dataframe": frame}, result_format=form, run_id=run)
    keys = [key for key in context.validation_results_store.list_keys() if key.run_id == run]
    context.build_data_docs(resource_identifiers=[*keys, *context.expectations_store.list_keys()])
    results = [result.to_json_dict() for result in outcome.results]
    return sorted(results, key=lambda result: result["expectation_config"]["meta"]["question"])


@cache
def great_expectations() -> Any:
    """The library, imported when a gate is asked: without its clouds and databases, Spark's machine learning and
    server, and what two expectations that no gate has draw and compute with."""
    absent = ("boto3", "botocore", "google.cloud", "google.oauth2", "pyspark.ml", "pyspark.sql.connect", "sqlalchemy")
    with left_out(absent, empty=("altair", "scipy.stats")):
        import great_expectations
        import great_expectations.expectations

    return great_expectations


@cache
def _decided_expectation() -> Any:
    """The expectation that a ``Decision`` is; made when it is needed, as the library takes seconds to import."""
    from great_expectations.expectations.expectation import BatchExpectation

    class ExpectDecisionToPass(BatchExpectation):
        passed: bool
        observed: str

        def _validate(self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None) -> Any:
            return {"success": self.passed, "result": {"observed_value": self.observed}}

    return ExpectDecisionToPass


def _context_config(settings: Settings) -> Any:
    from great_expectations.data_context.types.base import DataContextConfig, ProgressBarsConfig

    def files(folder: Path) -> dict[str, Any]:
        return {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(folder).replace("$", r"\$"),  # else a variable's value comes in its place
            "suppress_store_backend_id": True,
        }

    def drawn_by(view: str) -> dict[str, Any]:
        return {"view": {"module_name": "evaluation.gates.data_docs_view", "class_name": view}}

    memory = {"class_name": "InMemoryStoreBackend"}
    home = settings.home / "gx"
    return DataContextConfig(
        config_version=4,
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
        expectations_store_name="suites",
        validation_results_store_name="results",
        checkpoint_store_name="checkpoints",
        stores={
            "suites": {"class_name": "ExpectationsStore", "store_backend": files(home / "suites")},
            "results": {"class_name": "ValidationResultsStore", "store_backend": files(home / "results")},
            "checkpoints": {"class_name": "CheckpointStore", "store_backend": memory},
            "validation_definition_store": {"class_name": "ValidationDefinitionStore", "store_backend": memory},
        },
        data_docs_sites={
            "data_docs": {
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "store_backend": files(settings.reports / "data_docs"),
                "site_index_builder": {
                    "class_name": "DefaultSiteIndexBuilder",
                    "validation_results_limit": PAGES,
                    **drawn_by("IndexView"),
                },
                "site_section_builders": {
                    "expectations": drawn_by("PageView"),
                    "validations": drawn_by("PageView"),
                    "profiling": "None",
                },
            }
        },
    )


def figures_line(figures: dict[str, Any]) -> str:
    """The figures of a check as people read them, on one line."""
    return ", ".join(f"{name} {_shown(value)}" for name, value in figures.items())


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str) and value.isprintable():
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _check(question: Rule | Decision, result: dict[str, Any]) -> dict[str, Any]:
    raised = result.get("exception_info") or {}
    faults = [raised] if "raised_exception" in raised else list(raised.values())
    for fault in faults:
        if fault["raised_exception"]:
            raise VitrineError(f"expectation {question.text!r} could not be asked: {fault['exception_message']}")
    figures = question.figures if isinstance(question, Decision) else question.figures | _counted(result)
    return {"expectation": question.text, "success": bool(result["success"]), "figures": figures}


def _counted(result: dict[str, Any]) -> dict[str, Any]:
    """What Great Expectations counted, with some of the rows that are not as they should be."""
    counts = result.get("result") or {}
    if "unexpected_count" not in counts:
        return {"observed": counts.get("observed_value")}
    figures = {"checked": counts["element_count"], "unexpected": counts["unexpected_count"]}
    examples = counts.get("partial_unexpected_index_list")
    return figures | ({"examples": examples} if examples else {})
