"""What a command costs before it does any work: whole commands on a home where nothing is left to do, disk warm.

With ``--before``, another checkout of Vitrine (a git worktree, its environment linked or made there) is timed in the
same run, command by command in turn. Times are wall-clock medians of the rounds. With ``--uncompiled``, that one finds
no compiled module and keeps none: as packages lie that uv has installed, where PYTHONDONTWRITEBYTECODE is set.

    git worktree add ../before COMMIT && ln -s "$PWD/.venv" ../before/.venv
    python benchmarks/starts.py --before ../before
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vitrine.encoders import processor

PROJECT = Path(__file__).resolve().parents[1]
OF = ["--dataset", "demo"]
BY = ["--encoder", "efficientnet_lite0"]
COMMANDS = {
    "--help": ["--help"],
    "embed --help": ["embed", "--help"],
    "lookup": ["lookup", "demo/backpack-0002/0000.jpg", *OF],
    "pending": ["pending", *OF],
    "status": ["status"],
    "encoders": ["encoders"],
    "features": ["features"],
    "index": ["index", *BY],
    "embed": ["embed", *BY],
    "evaluate": ["evaluate", *BY, *OF],
    "promote": ["promote", "efficientnet_lite0", *OF],
    "gate metrics": ["gate", "metrics", *BY, *OF],
    "gate sync": ["gate", "sync", *BY, *OF],
    "gate catalog": ["gate", "catalog", *OF],
    "gate embeddings": ["gate", "embeddings", *BY, *OF],
    "check": ["check"],
    "sql, one count": ["sql", "SELECT count(*) FROM catalog"],
    "ingest, unchanged, gated": ["ingest", "40x12", "--layout", "generated", *OF, "--gate"],
}
NIGHT, SAME_NIGHT = "demo: 480 new photos, by Airflow", "demo again, nothing new"


class Checkout:
    """A copy of Vitrine, and a home that it made."""

    def __init__(self, folder: Path, home: Path, environment: dict[str, str]) -> None:
        self.folder, self.home, self.environment = folder.resolve(), home, environment
        self.times: dict[str, list[float]] = {}

    def run(self, name: str, arguments: list[str]) -> None:
        python = str(self.folder / ".venv" / "bin" / "python")
        env = os.environ | {"PYTHONPATH": str(self.folder), "VITRINE_HOME": str(self.home)} | self.environment
        started = time.monotonic()
        done = subprocess.run(
            [python, "-m", "vitrine", *arguments], cwd=self.folder, env=env, capture_output=True, text=True
        )
        self.times.setdefault(name, []).append(time.monotonic() - started)
        if done.returncode:
            raise SystemExit(f"vitrine {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        print(f"{self.folder.name}: {name} {self.times[name][-1]:.2f} s", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout, timed beside this one")
    parser.add_argument("--uncompiled", action="store_true", help="the other checkout compiles all that it imports")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(COMMANDS), choices=list(COMMANDS))
    given = parser.parse_args()
    folders = [*([given.before] if given.before else []), PROJECT]
    with tempfile.TemporaryDirectory(prefix="vitrine-starts-") as made:
        anew = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(Path(made) / "nothing")}
        checkouts = [
            Checkout(folder, Path(made) / f"home{number}", anew if given.uncompiled and folder == given.before else {})
            for number, folder in enumerate(folders)
        ]
        for name in (NIGHT, SAME_NIGHT):
            for checkout in checkouts:
                checkout.run(name, ["demo"])
        for _ in range(given.rounds):
            for name in given.only:
                for checkout in checkouts:
                    checkout.run(name, COMMANDS[name])
    where = f"{os.cpu_count()} cores, {processor.model()} ({processor.instruction_set()})"
    print(f"\n{where}, medians of {given.rounds} rounds (the two demos: one each)\n")
    print(table(checkouts, [*given.only, SAME_NIGHT, NIGHT]))


def table(checkouts: list[Checkout], names: list[str]) -> str:
    before = checkouts[0] if len(checkouts) > 1 else None
    lines = ["| command | before, s | now, s | ratio |", "|---|---|---|---|"]
    for name in names:
        now = statistics.median(checkouts[-1].times[name])
        then = statistics.median(before.times[name]) if before else None
        known = f"{then:.2f} | {now:.2f} | {now / then:.2f}" if then else f"- | {now:.2f} | -"
        lines.append(f"| {name} | {known} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
