"""Signals of a command: one ends the process at once, or after what was to be kept, and never in the middle of a call.

An exception that a signal raises wherever Python happens to be is lost in a callback or in an import, so that the
command goes on for good, or aborts the process from within a library. Here nothing is raised but where somebody has
held the signal back and is ready for it.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

#: The environment names by it the process that has started this one for itself alone.
PARENT = "UNCOLLAPSE_PARENT"
_LOOK = 0.5  # seconds between two looks whether the parent is there
#: A progress bar hides the cursor of its terminal and leaves a line behind.
_TIDY = b"\r\x1b[K\x1b[?25h"
_unfinished: set[Path] = set()


class Terminated(KeyboardInterrupt):
    """SIGTERM that was held back; whatever cleans up after Ctrl-C cleans up after it too."""


def end_by_signals() -> dict[signal.Signals, Any]:
    """From now on SIGINT and SIGTERM end this process at once, with a line and the status 130 or 143.

    Who has something to keep holds them back meanwhile (`training.interruption`). A SIGINT that is ignored, as of a
    command in the background, stays so.

    Returns:
        What the signals did before; nothing in another thread than the main one, which alone may say so.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [
        n for n in (signal.SIGINT, signal.SIGTERM) if (n, signal.getsignal(n)) != (signal.SIGINT, signal.SIG_IGN)
    ]
    return {number: signal.signal(number, _end) for number in numbers}


@contextmanager
def terminable() -> Iterator[None]:
    """Within it, signals end this process as `end_by_signals` says, and so does the end of its parent."""
    before = end_by_signals()
    parent = os.environ.pop(PARENT, "") if before else ""  # What this process starts has it for a parent, not that one.
    if parent.isdecimal():
        threading.Thread(target=_follow, args=[int(parent)], daemon=True).start()
    try:
        yield
    finally:
        for number, what in before.items():
            signal.signal(number, what)


@contextmanager
def unfinished(path: Path) -> Iterator[None]:
    """Within it, a signal that ends this process at once takes away what is being made at a path."""
    _unfinished.add(path)
    try:
        yield
    finally:
        _unfinished.discard(path)


def _end(number: int, frame: FrameType | None) -> None:
    if frame is None:  # Not from the system, but from who has held it back.
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
    with suppress(OSError):  # Who reads may have gone by the same signal.
        # Not print, which the signal may have come in the middle of.
        os.write(2, (_TIDY if os.isatty(2) else b"") + b"uncollapse: stopped.\n")
    for path in _unfinished:
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    os._exit(128 + number)


def _follow(parent: int) -> None:
    """Asks this process to stop once its parent is gone, however it went."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os.kill(os.getpid(), signal.SIGTERM)
