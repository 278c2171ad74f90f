"""A cell, and running it on the machine at hand, whichever engine has put it there."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from uncollapse.experiment.run import is_held
from uncollapse.signals import PARENT

_LOOK = 0.5  # seconds between two looks whether a folder is free
_PATIENCE = 60.0  # seconds that a cell has to end when it is told to: it finishes its step and keeps it
_HANDOVER = 60.0  # seconds to wait for a cell that a killed comparison or worker has left behind: it ends by itself


class Cell(NamedTuple):
    """A training with its evaluation."""

    arguments: tuple[str, ...]
    """Of `uncollapse`."""
    folder: Path
    """Of the run, in a folder that exists."""
    log: Path
    """Where its output goes."""
    place: Path
    """Where the command is given: the paths in it are from there."""


class Ended(NamedTuple):
    """How a cell has ended."""

    status: int
    """0 where all is well."""
    why: str = ""
    """What its own output does not say."""


class Processes:
    """The processes of cells on this machine, out of reach of its terminal; none starts once they were stopped.

    None outlives its parent, even where that is killed: each ends by itself when it is gone (see `signals`).
    """

    def __init__(self) -> None:
        self._running: dict[Path, subprocess.Popen[bytes]] = {}
        self.stopped = False
        self._lock = threading.Lock()

    def run(self, cell: Cell, threads: int) -> Ended:
        """Runs a cell to its end, with so many threads."""
        if not cell.place.is_dir() or not cell.folder.parent.is_dir():
            return Ended(
                1, f"`{platform.node()}` has no `{cell.folder.parent}`: cells need folders that all machines share."
            )
        try:
            self._await(cell.folder)
            status = self._run(cell, threads)
        except OSError as error:
            return Ended(1, f"it could not be started: {error.strerror or error}.")
        return Ended(status, f"its process was ended by {signal.Signals(-status).name}." if status < 0 else "")

    def _run(self, cell: Cell, threads: int) -> int:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), PARENT: str(os.getpid())}
        with cell.log.open("w", encoding="utf-8") as output:
            with self._lock:
                if self.stopped:
                    return -signal.SIGTERM
                process = subprocess.Popen(
                    # -P: as for the console script, no file in the working folder takes the place of a module.
                    [sys.executable, "-P", "-m", "uncollapse", *cell.arguments],
                    cwd=cell.place,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    start_new_session=True,  # A Ctrl-C reaches it through `stop` alone, and once.
                )
                self._running[cell.folder] = process
            status = process.wait()
            with self._lock:
                self._running.pop(cell.folder, None)
        return status

    def _await(self, folder: Path) -> None:
        """Waits a while for who trains in a cell's folder; `fit` says so where it is in vain."""
        deadline = time.monotonic() + _HANDOVER
        while is_held(folder) and time.monotonic() < deadline and not self.stopped:
            time.sleep(_LOOK)

    def end(self, cell: Cell) -> None:
        """Lets the process of a cell finish its step and end."""
        with self._lock:
            process = self._running.get(cell.folder)
        if process is not None:
            process.terminate()

    def stop(self) -> None:
        """Lets all of them finish their step and end; ends by force who does not, and all if this is interrupted."""
        with self._lock:
            self.stopped, running = True, list(self._running.values())
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _PATIENCE
        try:
            for process in running:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for process in running:
                process.kill()


def run_here(cell: Cell, threads: int) -> Ended:
    """Runs a cell to its end within a worker; where the worker is interrupted, the cell finishes its step first."""
    processes = Processes()
    try:
        return processes.run(cell, threads)
    finally:
        processes.stop()
