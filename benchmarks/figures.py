"""Which figures of the README and docs/ are older than the code that they measure.

``figures.toml`` has for every table of figures, and for what stands in prose, the page and heading, the command and
the day that it was taken by, and the code that it measures. Git says what has changed since.

    python benchmarks/figures.py
"""

import datetime
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
ENTRIES = Path(__file__).with_suffix(".toml")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Figures:
    """What stands under one heading and comes from one command."""

    page: str
    heading: str
    command: str
    """As typed in the project's folder, or "unknown"."""
    date: datetime.date | str
    """The day, UTC, or "unknown"."""
    commit: str
    """Whose code was measured: the pages that say the figures were committed with it or right after it."""
    machine: str
    measures: tuple[str, ...]
    """Files and folders whose change may change the figures."""
    tables: int = 1
    """How many tables under the heading are from this command; 0: the figures stand in sentences."""

    @property
    def day(self) -> str:
        """The date as the pages write it."""
        return self.date if isinstance(self.date, str) else f"{self.date.day} {self.date:%B %Y}"

    @property
    def shown(self) -> str:
        """The command as the pages write it: scripts of benchmarks/ by their names."""
        return self.command.removeprefix("python benchmarks/")


def read() -> list[Figures]:
    entries = tomllib.loads(ENTRIES.read_text())["figures"]
    return [Figures(**entry | {"measures": tuple(entry["measures"])}) for entry in entries]


def git(*arguments: str) -> str:
    """What git says; ends with a sentence where it cannot know."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    except OSError:
        raise SystemExit(
            "git is not installed: without it nothing says what changed since a figure was taken"
        ) from None
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        raise SystemExit(f"the history cannot be read, so nothing says what changed since a figure was taken: {reason}")
    return done.stdout.strip()


def newest_change(figures: Figures) -> str:
    """Day and commit of the newest change of what ``figures`` measure since they were taken; empty: there is none."""
    return git("log", "-1", "--format=%cs %h", f"{figures.commit}..HEAD", "--", *figures.measures)


def table(every: list[Figures]) -> str:
    lines = ["| figure | taken on | command | newest change of what it measures | older? |", "|---|---|---|---|---|"]
    for figures in every:
        change = newest_change(figures)
        cells = (f"{figures.page}, {figures.heading}", str(figures.date), figures.command, change or "none since")
        lines.append(f"| {' | '.join(cells)} | {'older' if change else 'no'} |")
    return "\n".join(lines)


def main() -> None:
    if git("rev-parse", "--is-shallow-repository") == "true":
        raise SystemExit("this clone is shallow: its history does not reach back to the figures; git fetch --unshallow")
    print(table(read()))


if __name__ == "__main__":
    main()
