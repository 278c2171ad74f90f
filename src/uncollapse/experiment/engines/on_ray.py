"""The engine of a Ray cluster: every cell a task."""

from __future__ import annotations

import logging
import os
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from uncollapse.errors import InputError
from uncollapse.experiment.engines.cells import Cell, Ended, run_here

_LOOK = 5.0  # seconds for a cluster to answer
_PATIENCE = 90.0  # seconds for cells to finish their steps, that of `cells` among them


class OnRay:
    """Runs cells as tasks of a Ray cluster; one that is lost with its node or its worker begins again elsewhere.

    Arguments:
        address: Of a cluster that is running; None starts one on this machine, which ends with the command.
        cpus, gpus: What each cell is given.
        memory: The same, in GiB; None for what there is.
        tries: How often a lost cell begins again.

    Raises:
        InputError: where there is no such cluster.
    """

    def __init__(self, address: str | None, cpus: int, gpus: float, memory: float | None, tries: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        answers(address or "")
        try:
            # An address of None would be that of whatever cluster is running here.
            ray.init(address or "local", logging_level=logging.ERROR, log_to_driver=False, include_dashboard=None)
        except (OSError, ValueError, RuntimeError) as error:
            raise _none(address, error) from None
        self._ray, self._cpus = ray, cpus
        size = {} if memory is None else {"memory": int(memory * 2**30)}
        needs: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": tries, **size}
        self._task = ray.remote(**needs)(run_here)
        self._running: dict[Path, Any] = {}
        self._lock, self.stopped = threading.Lock(), False

    def run(self, cell: Cell) -> Ended:
        with self._lock:
            if self.stopped:
                return Ended(1, "it was not begun.")
            task = self._task.remote(cell, self._cpus)
            self._running[cell.folder] = task
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return Ended(1, f"it was lost: {' '.join(str(error).split())[:300]}")
        finally:
            with self._lock:
                self._running.pop(cell.folder, None)

    def end(self, cell: Cell) -> None:
        with self._lock:
            task = self._running.get(cell.folder)
        if task is not None:
            self._ray.cancel(task, recursive=False)

    def stop(self) -> None:
        """Interrupts the tasks, which let their cells finish a step, and leaves the cluster."""
        with self._lock:
            self.stopped, running = True, list(self._running.values())
        for task in running:
            self._ray.cancel(task, recursive=False)
        if running:
            self._ray.wait(running, num_returns=len(running), timeout=_PATIENCE)
        self._ray.shutdown()


def answers(address: str) -> None:
    """Looks whether somebody listens at HOST:PORT, as Ray itself tries for minutes.

    Raises:
        InputError: where nobody does.
    """
    try:
        found = urlsplit(address if "//" in address else f"//{address}")
        if found.port is not None:
            socket.create_connection((found.hostname or "", found.port), _LOOK).close()
    except (OSError, ValueError) as error:
        raise _none(address, error) from None


def _none(address: str | None, error: Exception) -> InputError:
    why = " ".join(str(error).split())[:200]
    return InputError(f"there is no Ray cluster at `{address}`: {why}. Start one with `ray start --head`.")
