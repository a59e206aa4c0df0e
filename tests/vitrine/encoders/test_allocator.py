"""What glibc does with freed memory, asked of the system's count of pages that it had to find."""

import ctypes
import subprocess
import sys

import pytest

PAGES = """
import resource, sys
import torch
from vitrine.encoders.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(30):  # the heap settles
    torch.ones(16 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    torch.ones(16 << 20)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 8)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="a C library without mallopt")
def test_a_tensor_lies_where_the_one_before_it_lay():
    def pages(how: str) -> float:
        return float(subprocess.check_output([sys.executable, "-c", PAGES, how], text=True))

    assert pages("kept") < pages("given back") / 10
