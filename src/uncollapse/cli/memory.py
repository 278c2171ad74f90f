"""How the process of a command holds its memory."""

from __future__ import annotations

import ctypes
import sys

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
#: Larger blocks than this are still handed back, in bytes.
LARGEST = 2**30


def keep_large_blocks() -> bool:
    """Has glibc keep the large blocks that a training step frees, as the next step asks for the same ones.

    Handed back to the system, they would arrive anew page by page, filled with zeros, at up to a sixth of a step's
    time. For a whole process, so only a command does it, and no import. Says whether it could.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # Absent from other C libraries, such as musl.
    return mallopt is not None and all(mallopt(which, LARGEST) for which in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))
