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

#: Seconds in which a second signal is the same request: a terminal, a scheduler and a parent may all pass one on.
SAME = 1.0
_HELD = b"stopping after this step, to keep it; once more stops at once.\n"


@contextmanager
def held_back(says: Callable[[], str]) -> Iterator[Callable[[], bool]]:
    """Holds the first SIGINT or SIGTERM back to the end of the block; a second one takes effect at once.

    Whatever the signal meant before is what it does then: it raises `KeyboardInterrupt`, say, or ends the process.
    A signal that is ignored stays so, and other threads than the main one hear of none.

    Arguments:
        says: What a `KeyboardInterrupt` tells at the end, such as how to go on.

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
                os.write(2, _HELD)

    for number in before:
        signal.signal(number, hold)
    try:
        yield lambda: bool(waiting)
    finally:
        for number, what in before.items():
            signal.signal(number, what)
    if waiting:
        number = waiting[0][0]
        _leave(number, before[number] is signal.SIG_DFL, says())


def _leave(number: signal.Signals, ends: bool, says: str) -> None:
    if ends:
        with suppress(OSError):
            print(says, file=sys.stderr, flush=True)  # Nobody else will.
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt as stopped:
        stopped.args = (says,)
        raise
