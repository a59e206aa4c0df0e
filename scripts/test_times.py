"""What the tests' fixtures and the processes that they start cost: runs pytest, then prints both, dearest first.

.venv/bin/python scripts/test_times.py -n 2 --dist worksteal
"""

import collections
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
MOST = 25


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="vitrine-test-times-") as folder:
        command = [sys.executable, "-m", "pytest", "-p", "tests.support.times", *sys.argv[1:]]
        code = subprocess.run(command, cwd=PROJECT, env=os.environ | {"VITRINE_TEST_TIMES": folder}).returncode
        workers = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    fixtures: collections.defaultdict[str, list[float]] = collections.defaultdict(list)
    starts: collections.Counter[tuple[str, str]] = collections.Counter()
    for worker in workers:
        for name, seconds in worker["fixtures"]:
            fixtures[name].append(seconds)
        for file, program in worker["starts"]:
            starts[file, program] += 1
    dearest = sorted(fixtures.items(), key=lambda item: -sum(item[1]))
    show("fixture (where it is defined)", ["set up", "seconds"], [(n, [len(s), f"{sum(s):.1f}"]) for n, s in dearest])
    show("processes started by", ["program", "times"], [(f, [p, n]) for (f, p), n in starts.most_common()])
    return code


def show(title: str, columns: list[str], rows: list[tuple[str, list[Any]]]) -> None:
    print(f"\n| {title} | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, values in rows[:MOST]:
        print(f"| {name} | {' | '.join(map(str, values))} |")


if __name__ == "__main__":
    sys.exit(main())
