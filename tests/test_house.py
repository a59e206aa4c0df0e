"""The house: what may import what beyond the floors that import-linter holds, and a map that names what is there."""

import ast
import graphlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grimp

from tests.support.project import PROJECT

ROOMS = ("vitrine", "spark_jobs", "training", "evaluation", "feature_repo", "dags")
IMPORTED_LATE = {
    "dags/advise.py": "the scheduler reads the DAGs all day, and delta-rs is heavy: a test holds that",
    "dags/nightly_reembedding.py": "the same",
    "dags/tuning.py": "the same",
    "dags/vitrine_tasks.py": "the same",
    "spark_jobs/embed_catalog.py": "workers alone load torch, the driver does without it",
    "training/tune.py": "workers of a cluster alone load torch, the driver starts its tuning in another process",
    "vitrine/encoders/weights.py": "who builds a network alone loads torch, who names encoders does without it",
}
"""Imports of our own inside functions, and why each cannot stand at the top."""


def files() -> Iterator[tuple[str, str]]:
    for room in ROOMS:
        for path in sorted((PROJECT / room).rglob("*.py")):
            yield str(path.relative_to(PROJECT)), path.read_text()


def test_no_two_files_need_each_other():
    graph = grimp.build_graph(*ROOMS)
    needs = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(needs).prepare()  # raises CycleError, which names them


def test_our_own_is_imported_at_the_top():
    late = set()
    for name, text in files():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for inner in ast.walk(node):
                    imported = [inner.module or ""] if isinstance(inner, ast.ImportFrom) else []
                    imported += [each.name for each in inner.names] if isinstance(inner, ast.Import) else []
                    if any(each.split(".")[0] in ROOMS for each in imported):
                        late.add(name)
    assert late == IMPORTED_LATE.keys()


def test_every_file_of_the_ground_floor_has_its_floor():
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    floors = next(contract for contract in contracts if "vitrine.cli" in contract.get("layers", []))
    named = {name for layer in floors["layers"] for name in layer.split(" | ") if name.startswith("vitrine.")}
    assert not any("ignore_imports" in contract for contract in contracts)
    there = {f"vitrine.{path.stem}" for path in (PROJECT / "vitrine").glob("*.py")} - {"vitrine.__init__"}
    there |= {f"vitrine.{path.parent.name}" for path in (PROJECT / "vitrine").glob("*/__init__.py")}
    assert named == there


def test_packages_do_nothing_and_files_stay_short():
    assert not [name for name, text in files() if name.endswith("__init__.py") and text]
    assert not [name for name, text in files() if text.count("\n") > 400]


def test_the_map_names_what_is_there():
    page = (PROJECT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`((?:[a-z_]+/)+[\w.]*)`", page))
    assert named and not [name for name in named if not (PROJECT / name).exists()]
    drawn = set()
    tree = (PROJECT / "README.md").read_text().split("## The house")[1].split("\n## ")[0]
    above: dict[int, Path] = {0: PROJECT}
    for indent, folder in re.findall(r"^( *)([a-z_]+)/ ", tree, re.MULTILINE):
        above[len(indent) + 2] = above[len(indent)] / folder
        assert above[len(indent) + 2].is_dir(), folder
        drawn.add(above[len(indent) + 2])
    packages = {path.parent for room in ROOMS for path in (PROJECT / room).rglob("__init__.py")}
    assert drawn == packages | {PROJECT / "tests"}


def test_the_tests_folders_are_the_codes():
    for path in sorted((PROJECT / "tests").rglob("test_*.py")):
        folder = path.relative_to(PROJECT / "tests").parent
        if folder.parts and folder.parts[0] in ROOMS:
            assert (PROJECT / folder).is_dir(), path
