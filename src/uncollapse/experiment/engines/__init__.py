"""Engines: where the cells of a comparison run. A cell is the same command everywhere; its folder has its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Literal, Protocol

from uncollapse.errors import InputError
from uncollapse.experiment.engines.cells import Cell, Ended

Name = Literal["local", "ray", "slurm"]
#: How often a cell that was lost with its machine or its worker is begun again, from its last checkpoint.
TRIES = 5
#: The most cells of one machine at the same time: each is a process, or some, with its own copy of torch.
MOST = 256


class Engine(Protocol):
    """Runs cells, one a call; calls come from as many threads as cells are to run at the same time."""

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop: no cell begins any more."""
        ...

    def run(self, cell: Cell) -> Ended:
        """Runs a cell to its end."""
        ...

    def end(self, cell: Cell) -> None:
        """Lets one cell finish its step and end, where it runs."""
        ...

    def stop(self) -> None:
        """Lets all cells finish their step and end."""
        ...


@dataclass(frozen=True)
class Where:
    """Where the cells of a comparison are to run, and what each needs there.

    Arguments:
        engine: The engine's name.
        address: Of a Ray cluster that is running, such as "auto" or "ray://host:10001"; None starts one here.
        cpus: Of a cell; on this machine an equal share where it is None, elsewhere 1.
        gpus, memory: Of a cell, the memory in GiB. This machine's engine hands out neither.
        slurm: What else `sbatch` is asked for, NAME=VALUE each, such as "partition=gpu" or "time=240" (minutes).
    """

    engine: Name = "local"
    address: str | None = None
    cpus: int | None = None
    gpus: float = 0
    memory: float | None = None
    slurm: Sequence[str] = ()

    def check(self, jobs: int = 1) -> None:
        """Refuses what an engine has no use for, before anything is begun.

        Arguments:
            jobs: How many cells run at the same time.

        Raises:
            InputError: for that, and where what an engine is made of is not installed, or does not answer.
        """
        of = {"--address": ("ray", self.address), "--slurm": ("slurm", self.slurm)}
        for name, (engine, value) in of.items():
            if value and self.engine != engine:
                raise InputError(
                    f"`{name}` is for `--engine {engine}`, and cells run by `{self.engine}`: leave it out."
                )
        if self.engine == "local" and (self.gpus or self.memory is not None):
            raise InputError(
                "cells of this machine share its memory and its GPUs as they are: leave out `--cell-gpus` and "
                "`--cell-memory`, lower `--jobs` where they are too many, or use `--engine ray`."
            )
        if self.engine == "local" and jobs > MOST:
            raise InputError(f"{jobs:,} cells at the same time are too many for one machine: ask for at most {MOST}.")
        package = {"ray": "ray", "slurm": "submitit"}.get(self.engine)
        if package and find_spec(package) is None:
            raise InputError(
                f"`--engine {self.engine}` needs `{package}` on all machines: "
                f"`pip install 'uncollapse[{self.engine}]'`."
            )
        if self.engine == "ray" and self.address:
            from uncollapse.experiment.engines.on_ray import answers

            answers(self.address)
        if self.engine == "slurm" and which("sbatch") is None:
            raise InputError("there is no Slurm here: no `sbatch` is found. Give this command where it is.")

    def begin(self, out: Path, jobs: int) -> Engine:
        """The engine, ready to run.

        Arguments:
            out: The comparison's folder.
            jobs: How many cells run at the same time.

        Raises:
            InputError: as `check` does.
        """
        self.check(jobs)
        begins: dict[str, Callable[[], Engine]] = {
            "local": lambda: _local(self, jobs),
            "ray": lambda: _ray(self),
            "slurm": lambda: _slurm(self, out),
        }
        return begins[self.engine]()


def _local(where: Where, jobs: int) -> Engine:
    from uncollapse.experiment.engines.local import Local

    return Local(jobs, where.cpus)


def _ray(where: Where) -> Engine:
    from uncollapse.experiment.engines.on_ray import OnRay

    return OnRay(where.address, where.cpus or 1, where.gpus, where.memory, TRIES)


def _slurm(where: Where, out: Path) -> Engine:
    from uncollapse.experiment.engines.on_slurm import OnSlurm

    return OnSlurm(out / "slurm", where.cpus or 1, where.gpus, where.memory, where.slurm, TRIES)
