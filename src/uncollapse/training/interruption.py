"""Interruptions that wait until things are in order."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

#: Seconds in which a second signal is the same request: a terminal, a scheduler and a parent may all pass one on.
SAME = 1.0
STEP = "stopping after this step, to keep it; once more stops at once."


@contextmanager
def held_back(says: Callable[[], str], notice: str = STEP) -> Iterator[Callable[[], bool]]:
    """Holds the first SIGINT or SIGTERM back to the end of the block; a second one takes effect at once.

    Whatever the signal meant before is what it does then: it raises `KeyboardInterrupt`, say, or ends the process.
    A signal that is ignored stays so, and other threads than the main one hear of none.

    Arguments:
        says: What a `KeyboardInterrupt` tells at the end, such as how to go on.
        notice: What a person reads at once.

    Returns:
        A function that says whether a signal waits.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    waiting: list[tuple[signal.Signals, float]] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: what for number, what in before.items() if what not in (None, signal.SIG_IGN)}

    def hold(number: int, frame: FrameType | None) -> None:
        if waiting and time.monotonic() - waiting[0][1] > SAME:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)
        elif not waiting:
            waiting.append((signal.Signals(number), time.monotonic()))
            # Not print, which the signal may have come in the middle of. Who reads may have gone by the same signal.
            with suppress(OSError):
                os.write(2, f"{notice}\n".encode())

    for number in before:
        signal.signal(number, hold)
    try:
        yield lambda: bool(waiting)
    finally:
        for number, what in before.items():
            signal.signal(number, what)
    if waiting:
        _leave(waiting[0][0], before[waiting[0][0]], says())


def _leave(number: signal.Signals, what: Any, says: str) -> None:
    if what is signal.SIG_DFL:
        with suppress(OSError):
            print(says, file=sys.stderr, flush=True)  # Nobody else will.
        return signal.raise_signal(number)
    try:
        what(number, None)  # Without a frame, as nothing is in the middle of anything now.
    except KeyboardInterrupt as stopped:
        stopped.args = (says,)
        raise
