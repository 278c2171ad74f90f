"""The engine of this machine: every cell a process of its own."""

from __future__ import annotations

import os

from uncollapse.experiment.engines.cells import Cell, Ended, Processes


class Local:
    """Runs cells as processes of this machine.

    Arguments:
        jobs: How many run at the same time; each gets an equal share of the cores.
        cpus: The threads of each, in place of that share.
    """

    def __init__(self, jobs: int, cpus: int | None = None) -> None:
        self._processes = Processes()
        self._threads = cpus or max(1, (os.cpu_count() or 1) // jobs)

    @property
    def stopped(self) -> bool:
        return self._processes.stopped

    def run(self, cell: Cell) -> Ended:
        return self._processes.run(cell, self._threads)

    def end(self, cell: Cell) -> None:
        self._processes.end(cell)

    def stop(self) -> None:
        self._processes.stop()
