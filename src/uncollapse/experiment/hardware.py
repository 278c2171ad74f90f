"""Where a training runs: on which device, in how many processes, how precisely.

Fabric starts the processes, or finds that `torchrun` or SLURM has; it takes seconds to import, so nobody does
where there is one process.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
import torch.distributed as dist

from uncollapse.errors import InputError, unknown
from uncollapse.processes import ALONE, ENDED, Processes
from uncollapse.training.devices import Precision, check_device, check_precision

#: How several processes hold the parameters: each all of them, or each a part (FSDP2).
Strategy = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class Hardware:
    """What a training runs on; `launch` makes it."""

    device: torch.device | str = "cpu"
    precision: Precision = "32"
    processes: Processes = ALONE
    sharded: bool = False

    def settings(self) -> dict[str, Any]:
        """The arguments of `Trainer`."""
        return {name: getattr(self, name) for name in ("device", "precision", "processes", "sharded")}


#: One process on the CPU.
ONE = Hardware()


def launch(
    device: torch.device | str = "cpu", devices: int = 1, strategy: Strategy = "ddp", precision: Precision = "32"
) -> Hardware:
    """This process among those that train together.

    Under `torchrun` and `srun` the processes are there already, and `devices` is how many they are. Else this
    process starts `devices - 1` others with its own command line.

    Arguments:
        device: The kind of device, such as cpu or cuda; each process takes one of its own.
        devices: How many.
        strategy: "ddp", or "fsdp" where each process is to keep a part of the parameters only.
        precision: "32" or "bf16-mixed".

    Raises:
        InputError: for a strategy that there is not, and where the processes cannot be had.
    """
    if strategy not in get_args(Strategy):
        raise unknown("strategy", strategy, get_args(Strategy))
    here, machines = started() or (devices, 1)
    check_precision(precision, check_device(device, touch=here * machines == 1))
    if here * machines == 1:
        return Hardware(device, precision)
    fabric = _fabric(torch.device(device).type, here, machines)
    _say_who_ended()
    # The threads of the group must be gone before the interpreter is: else some exits abort.
    atexit.register(dist.destroy_process_group)
    return Hardware(fabric.device, precision, Processes.joined(), strategy == "fsdp")


def started() -> tuple[int, int] | None:
    """How many processes `torchrun` or SLURM has started on this machine, and on how many machines; None if neither."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        here, everywhere = _said("LOCAL_WORLD_SIZE", None), _said("WORLD_SIZE", None)
    else:
        here, everywhere = _said("SLURM_NTASKS_PER_NODE", 1), _said("SLURM_NTASKS", 1)
    if everywhere % here:
        raise InputError(f"{everywhere} processes are not the same number on each machine, with {here} on this one.")
    return None if everywhere == 1 else (here, everywhere // here)


def _said(name: str, default: int | None) -> int:
    """A number of processes that the environment names."""
    said = os.environ.get(name, default)
    try:
        number = int(said)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise InputError(
            f"the environment variable {name} says `{said}`, which is no number of processes: start with `torchrun` or "
            "`srun`, or unset TORCHELASTIC_RUN_ID, SLURM_NTASKS and SLURM_NTASKS_PER_NODE."
        )
    return number


def _say_who_ended() -> None:
    """Fabric kills this process, without a word, some seconds after one that it has started died."""
    for watcher in threading.enumerate():
        if watcher.name == "child-process-observer":
            watcher._terminate_all = partial(_end, watcher)  # pyright: ignore[reportAttributeAccessIssue]


def _end(watcher: Any) -> None:
    print(f"uncollapse: {ENDED}", file=sys.stderr, flush=True)
    for process in watcher._child_processes:
        process.kill()
    os._exit(3)  # The main thread may wait for the one that is gone; a checkpoint is whole or not there.


def _fabric(accelerator: str, here: int, machines: int) -> Any:
    try:
        from lightning_fabric import Fabric
    except ModuleNotFoundError as error:
        raise InputError(f"several processes need Fabric: `pip install 'uncollapse[processes]'` ({error}).") from None
    if started() is None and "__file__" not in dir(sys.modules["__main__"]):
        raise InputError(
            "several processes each start this script anew, and this one is in no file: store it in one, or start it "
            "with `torchrun`."
        )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # That it works goes without saying.
    try:
        fabric = Fabric(accelerator=accelerator, devices=here, num_nodes=machines, strategy="ddp")
        fabric.launch()
    except (ValueError, RuntimeError) as error:  # A cluster that is set up otherwise, devices that are not there.
        raise InputError(f"cannot start {here} processes on `{accelerator}`: {' '.join(str(error).split())}") from None
    return fabric
