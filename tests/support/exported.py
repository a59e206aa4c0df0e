"""Where an exported encoder runs: a Python that has onnxruntime, Pillow and NumPy, and nothing else."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("numpy", "numpy.libs", "PIL", "pillow.libs", "onnxruntime")
"""Folders of site-packages; wheels bring their libraries in folders beside."""


def bare_python(folder: Path) -> Path:
    """A virtual environment's interpreter, in ``folder``."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    packages = next(folder.glob("lib/python*/site-packages"))
    here = Path(sysconfig.get_path("purelib"))
    for name in PACKAGES:
        if (here / name).is_dir():
            (packages / name).symlink_to(here / name)
    return folder / "bin" / "python"


def ask(python: Path, bundle: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """``query_encoder.py ARGUMENTS``, in nobody's folder and without anything of this environment."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    command = [python, "-B", bundle / "query_encoder.py", *map(str, arguments)]
    return subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, timeout=120)


def vectors(python: Path, bundle: Path, photos: list[Path]) -> tuple[str, np.ndarray]:
    """The encoder version, and float32 (N, D) of ``photos``."""
    done = ask(python, bundle, *photos)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer["encoder_version"], np.array([answer["vectors"][str(photo)] for photo in photos], np.float32)
