"""Feast is imported in one place, without PyTorch and without typeguard's rewriting."""

import ast
import subprocess
import sys

from tests.support.project import PROJECT

ROOMS = ("vitrine", "spark_jobs", "training", "evaluation", "feature_repo", "dags")


def loaded(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT
    ).stdout.strip()


REWRITTEN = "'typeguard' in feast.Entity.__init__.__code__.co_names"


def test_feast_is_imported_without_torch_and_without_rewriting_its_classes() -> None:
    ours = "import sys, typeguard as t; own = t.typechecked; import vitrine.feast_parts; import feast"
    assert loaded(f"{ours}; print('torch' in sys.modules, t.typechecked is own, {REWRITTEN})") == "False True False"


def test_feast_calls_none_of_its_parts_experimental() -> None:
    later = "import vitrine.feast_parts as f, feast.infra.offline_stores.contrib.spark_offline_store.spark"
    ran = subprocess.run(
        [sys.executable, "-c", f"{later}; f.SparkSource(name='x', path='/x', table_format=f.DeltaFormat())"],
        capture_output=True, text=True, check=True, cwd=PROJECT,
    )  # fmt: skip
    assert ran.stderr == ""


def test_what_we_leave_out_is_still_there_to_leave_out() -> None:
    """Once this fails, Feast starts quickly by itself: vitrine/feast_parts.py can go."""
    assert loaded(f"import sys, feast; print('torch' in sys.modules, {REWRITTEN})") == "True True"


def test_one_module_imports_feast() -> None:
    importing = set()
    for room in ROOMS:
        for path in (PROJECT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                if any(name.split(".")[0] == "feast" for name in names):
                    importing.add(str(path.relative_to(PROJECT)))
    assert importing == {"vitrine/feast_parts.py"}
