"""The engine of a Slurm cluster: every cell a job, by submitit."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from uncollapse.errors import InputError
from uncollapse.experiment.engines.cells import Cell, Ended, Processes

_NAME = "uncollapse"


class Job:
    """What a job does: it runs a cell, and is put in the queue again where it is preempted or its time is over."""

    def __init__(self) -> None:
        self._processes: Processes | None = None

    def __call__(self, cell: Cell, threads: int) -> Ended:
        self._processes = Processes()
        return self._processes.run(cell, threads)

    def checkpoint(self, cell: Cell, threads: int) -> Any:
        """The job that goes on after this one, whose cell has finished its step by then."""
        from submitit.helpers import DelayedSubmission

        if self._processes is not None:
            self._processes.stop()
        return DelayedSubmission(Job(), cell, threads)


class OnSlurm:
    """Runs cells as jobs of a Slurm cluster; one whose job is lost is submitted again.

    Arguments:
        folder: Where scripts and logs of the jobs go, in a folder that all nodes share.
        cpus, gpus: What each cell is given.
        memory: The same, in GiB; None for what the cluster gives.
        options: What else `sbatch` is asked for, NAME=VALUE each; `time` is in minutes.
        tries: How often a lost cell is submitted again.
        cluster: Whose executor of submitit it is; "local" runs jobs as processes of this machine.

    Raises:
        InputError: for an option that is none.
    """

    def __init__(
        self,
        folder: Path,
        cpus: int,
        gpus: float,
        memory: float | None,
        options: Sequence[str],
        tries: int,
        cluster: Literal["slurm", "local"] = "slurm",
    ) -> None:
        import submitit
        from submitit.core.utils import FailedJobError, UncompletedJobError

        self._errors = UncompletedJobError, FailedJobError
        said = dict(_option(one) for one in options)
        self._executor = submitit.AutoExecutor(folder=folder.resolve(), cluster=cluster)
        asked: dict[str, Any] = {"name": _NAME, "cpus_per_task": cpus, "timeout_min": int(said.pop("time", 24 * 60))}
        asked |= {"gpus_per_node": int(gpus)} if gpus else {}
        asked |= {} if memory is None else {"mem_gb": memory}
        self._executor.update_parameters(**asked, **({"slurm_additional_parameters": said} if said else {}))
        self._cpus, self._tries = cpus, tries
        self._jobs: dict[Path, Any] = {}
        self._ended: set[Path] = set()
        self._lock, self.stopped = threading.Lock(), False

    def run(self, cell: Cell) -> Ended:
        why = "it was not begun."
        for _ in range(1 + self._tries):
            with self._lock:
                if self.stopped:
                    break
                job = self._executor.submit(Job(), cell, self._cpus)
                self._jobs[cell.folder] = job
            try:
                return job.result()
            except self._errors as error:
                why = f"its job {job.job_id} was lost: {' '.join(str(error).split())[:300]}"
            finally:
                with self._lock:
                    self._jobs.pop(cell.folder, None)
            if cell.folder in self._ended:
                break
        return Ended(1, why)

    def end(self, cell: Cell) -> None:
        with self._lock:
            self._ended.add(cell.folder)
            job = self._jobs.get(cell.folder)
        if job is not None:
            job.cancel()

    def stop(self) -> None:
        """Cancels the jobs; Slurm tells their cells first, which finish their step."""
        with self._lock:
            self.stopped, jobs = True, list(self._jobs.values())
        for job in jobs:
            job.cancel()


def _option(said: str) -> tuple[str, str]:
    name, equals, value = said.partition("=")
    if not (name and equals and value) or (name == "time" and not value.isdecimal()):
        raise InputError(
            f"`{said}` says nothing to `sbatch`: write NAME=VALUE, such as partition=gpu or time=240 (minutes)."
        )
    return name.strip("-"), value
