"""The README and docs/ say what is true: their commands run, their links lead somewhere."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.project import PROJECT
from tests.support.verbs_here import vitrine
from vitrine.encoders.backbones import CONTRASTIVE, REGISTRY, SELF_SUPERVISED, SUPERVISED
from vitrine.tables import TABLES

README = (PROJECT / "README.md").read_text()


def _commands(text: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_links_lead_somewhere() -> None:
    for page in [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_linked_from_the_readme() -> None:
    for page in (PROJECT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in README


def test_the_tables_page_is_the_schema() -> None:
    page = (PROJECT / "docs" / "tables.md").read_text()
    for table in TABLES.values():
        chapter = page.split(f"## {table.name}\n")[1].split("\n## ")[0]
        assert f"Key: {', '.join(f'`{name}`' for name in table.key)}" in chapter
        columns = re.findall(r"^\| `(\w+)` \| (\S+) \|", chapter, re.MULTILINE)
        assert columns == [(field.name, str(field.type).replace(" ", "")) for field in table.schema]


def test_the_encoders_page_is_the_registry() -> None:
    page = (PROJECT / "docs" / "encoders.md").read_text()
    lines = re.findall(r"^\| `(\w+)` \|(.*)\|$", page, re.MULTILINE)
    assert [name for name, _ in lines] == [
        entry.name
        for family in (SUPERVISED, SELF_SUPERVISED, CONTRASTIVE)
        for entry in REGISTRY.values()
        if entry.family == family
    ]
    for name, line in lines:
        entry, facts = REGISTRY[name], REGISTRY[name].facts
        assert facts
        numbers = (f"{value:g}" for value in (facts.pixels, facts.dim, facts.parameters, facts.gflops))
        told = [f"`{entry.spelled}`", *numbers, entry.embedding, entry.licence]
        assert [cell.strip() for cell in line.split("|")] == told


@pytest.mark.slow
def test_the_readmes_commands_run(
    spark: object, tmp_path: Path, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(6, 5)
    commands = _commands(README)
    assert [command for command in commands if command.startswith("make")] == ["make demo", "make test"]
    for target in ("demo", "test", "airflow"):
        subprocess.run(["make", "-n", target], cwd=PROJECT, check=True, capture_output=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITRINE_DIFFICULTY", "0.2")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for command in commands:
        words = shlex.split(command)
        if words[:2] == ["vitrine", "sql"]:  # holds its own process read-only
            result = subprocess.run(words, capture_output=True, text=True)
            assert result.returncode == 0, f"{command}\n{result.stderr[-2000:]}"
        elif words[0] == "vitrine":
            vitrine(*words[1:])
    shop = json.loads(vitrine("status", "--json"))["datasets"][0]
    assert (shop["images"], shop["serves"].split()[0]) == (30, "efficientnet_lite0")
