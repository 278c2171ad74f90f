"""The command line's use of the C library's allocator."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PAGES = """
import resource, sys
import torch
if sys.argv[1] == "keep":
    from uncollapse.cli.memory import keep_large_blocks
    assert keep_large_blocks()
for _ in range(3):
    torch.ones(2**24)  # 64 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    run = subprocess.run([sys.executable, "-c", PAGES, how], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallopt"), reason="no glibc"
)
def test_a_command_gets_its_large_blocks_once() -> None:
    assert 10 * faults("keep") < faults("leave")
