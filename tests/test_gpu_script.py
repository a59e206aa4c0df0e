"""benchmarks/gpu.py, which is for machines with a GPU, does all of its checks on a processor too."""

import os
import subprocess
import sys

import pytest

from tests.support.project import PROJECT


@pytest.mark.long
def test_every_check_passes_on_a_processor():
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", "--device", "cpu"],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(lines) == 10 and all(line.endswith("| yes |") for line in lines[1:-1]), done.stdout
