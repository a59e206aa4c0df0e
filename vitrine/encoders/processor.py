"""What this machine's processor is and can do, and how many GPUs are beside it. Imports no torch."""

import os
import platform
import subprocess

from vitrine import surroundings


def model() -> str:
    """Its name."""
    return _fact("model name") or platform.processor()


def has_bf16() -> bool:
    """Does it multiply bf16 numbers in hardware (AVX-512 BF16)?"""
    return "avx512_bf16" in _fact("flags")


def adds_products_exactly() -> bool:
    """Does it add products of integers of eight bits without overflow? Intel's and AMD's do so by VNNI; without it they
    add them in pairs in sixteen bits (onnxruntime's documentation of quantisation)."""
    return platform.machine().lower() not in ("x86_64", "amd64", "i686") or "vnni" in _fact("flags")


def instruction_set() -> str:
    """The widest one that networks use on it, as Linux calls it; empty where it has none of them, or is unknown."""
    flags = _fact("flags").split()
    return next((flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags), "")


def gpus() -> int:
    """How many GPUs of NVIDIA's a process may use here: those of ``CUDA_VISIBLE_DEVICES``, else of ``nvidia-smi``."""
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        there = len(
            subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=60, env=surroundings.for_child()
            ).stdout.split()
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (
        there if visible is None else min(there, len([name for name in visible.split(",") if name not in ("", "-1")]))
    )


def _fact(name: str) -> str:
    """A line of Linux's ``/proc/cpuinfo``, of the first core; empty elsewhere."""
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(name)), "")
    except OSError:
        return ""
