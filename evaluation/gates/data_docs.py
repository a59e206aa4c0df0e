"""Great Expectations, run in code: a suite of rules asked of one table, its results and its Data Docs kept by run."""

import contextlib
import html
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.gates.gate import Check
from vitrine.errors import VitrineError
from vitrine.settings import Settings

EXAMPLES = 3  # rows that a failed expectation names
PAGES = 200  # runs that the index of the Data Docs lists
COMPARING = ("embeddings", "metrics")
"""Gates that hold a version against what serves: they are out of date once another version does."""


@dataclass(frozen=True)
class Rule:
    """One expectation: its class in ``great_expectations.expectations``, arguments, and what people read."""

    kind: str
    text: str
    arguments: dict[str, Any]
    figures: dict[str, Any]
    """What is known beforehand: limits, counts."""


def rule(kind: str, text: str, figures: dict[str, Any] | None = None, **arguments: Any) -> Rule:
    return Rule(kind, text, arguments, figures or {})


def decided(check: Check) -> Rule:
    """What is decided already, as a rule of any table: it fails where the check failed."""
    failed = str(not check.passed).lower()
    query = f"SELECT count(*) AS photos FROM {{batch}} HAVING {failed}"
    text = f"{check.name.replace('_', ' ')}: {check.detail}"
    return rule("UnexpectedRowsExpectation", text, dict(check.figures), unexpected_rows_query=query)


@dataclass(frozen=True)
class GateResult:
    """What a gate said; ``checks`` holds ``{"expectation": text, "success": bool, "figures": {...}}`` each."""

    gate: str
    success: bool
    checks: list[dict[str, Any]]
    data_docs: Path
    """The index page."""
    serving_version: str | None = None
    """What the gates in ``COMPARING`` compared with."""

    @property
    def warnings(self) -> list[str]:
        """What passed and is worth a look all the same."""
        return [check["expectation"] for check in self.checks if "warning" in check["figures"] and check["success"]]

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [{k: check[k] for k in ("expectation", "figures")} for check in self.checks if not check["success"]]

    def figures(self) -> dict[str, Any]:
        """The object that ``gate --json`` prints and ``runs`` keeps."""
        said = {"gate": self.gate, "success": self.success, "checks": self.checks, "failed": self.failed}
        compared = {"serving_version": self.serving_version} if self.gate in COMPARING else {}
        return said | {"warnings": self.warnings} | compared | {"data_docs": str(self.data_docs)}


def validate(
    settings: Settings,
    gate: str,
    subject: str,
    frame: Any,
    rules: list[Rule],
    run_id: str | None,
    serving_version: str | None = None,
) -> GateResult:
    """Ask a gate's rules, as ``ask`` does; it lets through what passes all of them."""
    checks = ask(settings, f"{gate} {subject}", frame, rules, run_id or subject)
    return GateResult(gate, all(check["success"] for check in checks), checks, index_page(settings), serving_version)


def ask(settings: Settings, name: str, frame: Any, rules: list[Rule], run_id: str) -> list[dict[str, Any]]:
    """Ask every rule of ``frame`` (pandas or Spark) and write the Data Docs; no other gate runs meanwhile.

    Returns:
        A dict a rule, in their order: ``expectation``, ``success``, ``figures``.

    Raises:
        VitrineError: an expectation could not be asked.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read at import
    from filelock import FileLock

    (settings.home / "gx").mkdir(parents=True, exist_ok=True)
    # Standard output belongs to --json.
    with contextlib.redirect_stdout(sys.stderr), FileLock(settings.home / "gx" / "lock"):
        results = _ask(settings, name, frame, rules, run_id)
    return [_check(rule, result) for rule, result in zip(rules, results, strict=True)]


def index_page(settings: Settings) -> Path:
    """The first page of the Data Docs."""
    return settings.reports / "data_docs" / "index.html"


def _ask(settings: Settings, name: str, frame: Any, rules: list[Rule], run_id: str) -> list[dict[str, Any]]:
    """The results in the order of ``rules``."""
    import great_expectations as gx
    import pandas as pd
    from great_expectations import expectations
    from great_expectations.core import RunIdentifier

    context = gx.get_context(mode="ephemeral", project_config=_context_config(settings))
    on_pandas = isinstance(frame, pd.DataFrame)
    source = (
        context.data_sources.add_pandas("lake") if on_pandas else context.data_sources.add_spark("lake", persist=False)
    )
    batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("now")
    (settings.home / "gx" / "suites" / f"{name}.json").unlink(missing_ok=True)  # a killed run may have left a part
    suite = context.suites.add(gx.ExpectationSuite(name))
    for number, rule in enumerate(rules):
        kind = getattr(expectations, rule.kind)
        shown = html.escape(rule.text, quote=False)  # the pages show it as markup, and it may hold a category's name
        suite.add_expectation(kind(description=shown, meta={"rule": number}, **rule.arguments))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    form: dict[str, Any] = {"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES}
    if not on_pandas:
        form["unexpected_index_column_names"] = ["image_id"]
    run = RunIdentifier(run_name=run_id)
    outcome = definition.run(batch_parameters={"dataframe": frame}, result_format=form, run_id=run)
    keys = [key for key in context.validation_results_store.list_keys() if key.run_id == run]
    context.build_data_docs(resource_identifiers=[*keys, *context.expectations_store.list_keys()])
    results = [result.to_json_dict() for result in outcome.results]
    return sorted(results, key=lambda result: result["expectation_config"]["meta"]["rule"])


def _context_config(settings: Settings) -> Any:
    from great_expectations.data_context.types.base import DataContextConfig, ProgressBarsConfig

    def files(folder: Path) -> dict[str, Any]:
        return {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(folder),
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


def _check(rule: Rule, result: dict[str, Any]) -> dict[str, Any]:
    raised = result.get("exception_info") or {}
    faults = [raised] if "raised_exception" in raised else list(raised.values())
    for fault in faults:
        if fault["raised_exception"]:
            raise VitrineError(f"expectation {rule.text!r} could not be asked: {fault['exception_message']}")
    found = result.get("result") or {}
    figures = dict(rule.figures)
    if not figures.keys() & {"quarantined", "value", "skipped"}:  # else it knew all its figures beforehand
        if "unexpected_count" in found:
            figures |= {"checked": found["element_count"], "unexpected": found["unexpected_count"]}
            if found.get("partial_unexpected_index_list"):
                figures["examples"] = found["partial_unexpected_index_list"]
        else:
            figures["observed"] = found.get("observed_value")
    return {"expectation": rule.text, "success": bool(result["success"]), "figures": figures}
