"""What this machine's processor is and can do."""

import platform


def model() -> str:
    """Its name."""
    return _fact("model name") or platform.processor()


def has_bf16() -> bool:
    """Does it multiply bf16 numbers in hardware (AVX-512 BF16)?"""
    return "avx512_bf16" in _fact("flags")


def _fact(name: str) -> str:
    """A line of Linux's ``/proc/cpuinfo``, of the first core; empty elsewhere."""
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(name)), "")
    except OSError:
        return ""
