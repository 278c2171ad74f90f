"""Signals of a command: SIGTERM is an interruption like Ctrl-C, and a command that serves another ends with it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: The environment names by it the process that has started this one for itself alone.
PARENT = "UNCOLLAPSE_PARENT"
_LOOK = 0.5  # seconds between two looks whether the parent is there


class Terminated(KeyboardInterrupt):
    """SIGTERM; whatever cleans up after Ctrl-C cleans up after it too."""


@contextmanager
def terminable() -> Iterator[None]:
    """Within it, SIGTERM is an exception, so that it ends what this process has started."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread may say what a signal does.
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    parent = os.environ.pop(PARENT, "")  # What this process starts has it for a parent, and not that one.
    if parent.isdecimal():
        threading.Thread(target=_follow, args=[int(parent)], daemon=True).start()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _follow(parent: int) -> None:
    """Asks this process to stop once its parent is gone, however it went."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os.kill(os.getpid(), signal.SIGTERM)
