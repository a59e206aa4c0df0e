"""Every figure of the README and docs/ says by which command and on which day it was taken."""

import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.project import PROJECT, load_script

SCRIPT = PROJECT / "benchmarks" / "figures.py"
NUMBER = re.compile(r"[-+~]?[\d.,]*\d[\d.,]*( ?(s|ms|%|± [\d.]+|(to|of) [-+\d.]+|\(.*\)|/ [\d.]+ ?(\(.*\))?))?")


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    return load_script(SCRIPT)


def sections(page: Path) -> dict[str, str]:
    """What stands under each heading."""
    under: dict[str, list[str]] = {}
    heading, fenced = "", False
    for line in page.read_text().splitlines(keepends=True):
        fenced ^= line.startswith("```")
        if line.startswith("#") and not fenced:
            heading = line.strip("# \n")
        under.setdefault(heading, []).append(line)
    return {heading: "".join(lines) for heading, lines in under.items()}


def tables_with_figures(section: str) -> int:
    """Tables of which a cell beyond the first column is a number alone."""
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    cells = [[cell.strip() for row in table.splitlines() for cell in row.strip("|").split("|")[1:]] for table in tables]
    return sum(any(NUMBER.fullmatch(cell) for cell in each) for each in cells)


def test_every_table_of_figures_has_its_entry(figures: ModuleType):
    named: Counter[tuple[str, str]] = Counter()
    for entry in figures.read():
        named[entry.page, entry.heading] += entry.tables
    given = tomllib.loads(SCRIPT.with_suffix(".toml").read_text())["given"]
    exempt = {(entry["page"], heading) for entry in given for heading in entry["headings"]}
    for page in [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]:
        for heading, section in sections(page).items():
            place = str(page.relative_to(PROJECT)), heading
            if place not in exempt:
                assert tables_with_figures(section) == named[place], place
            named.pop(place, None)
    assert not named, "headings that no page has"


def test_the_page_shows_the_command_and_the_day(figures: ModuleType):
    for entry in figures.read():
        section = " ".join(sections(PROJECT / entry.page)[entry.heading].replace("\\\n", " ").split())
        shown = "the command was not written down" if entry.command == figures.UNKNOWN else entry.shown
        assert shown in section, (entry.page, entry.heading, shown)
        assert entry.day in section, (entry.page, entry.heading, entry.day)


def test_what_is_measured_is_there(figures: ModuleType):
    for entry in figures.read():
        assert not [path for path in entry.measures if not (PROJECT / path).exists()], entry


def test_a_figure_is_older_once_what_it_measures_changed(
    figures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(name: str) -> str:
        (tmp_path / name).write_text(name)
        git("add", name)
        git("commit", "-m", name)
        return git("rev-parse", "HEAD")

    monkeypatch.setattr(figures, "PROJECT", tmp_path)
    with pytest.raises(SystemExit, match="the history cannot be read"):
        figures.main()  # no checkout of git
    git("init")
    taken = commit("engine.py")
    commit("page.md")
    entry = figures.Figures("page.md", "Rates", "python benchmarks/rates.py", "unknown", taken, "any", ("engine.py",))
    assert figures.table([entry]).endswith("| none since | no |")
    (tmp_path / "engine.py").write_text("faster")
    git("commit", "-am", "faster")
    assert re.search(r"\| \d{4}-\d\d-\d\d [0-9a-f]{7,} \| older \|$", figures.table([entry]))
    clone = tmp_path / "clone"
    git("clone", "--depth", "1", f"file://{tmp_path}", str(clone))
    monkeypatch.setattr(figures, "PROJECT", clone)
    with pytest.raises(SystemExit, match="shallow"):
        figures.main()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(SystemExit, match="git is not installed"):
        figures.main()
