"""Runs a function in several processes that can hear each other, and hands back what each returned."""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from uncollapse.processes import Processes

# A server that has torch already and forks: a fork of this process would inherit threads that are not there.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "torch.distributed.fsdp", "uncollapse.training.trainer"])


def together(function: Callable[..., Any], *arguments: Any, ranks: int = 2) -> list[Any]:
    """What `function(processes, *arguments)` gives in each of `ranks` processes, an exception included.

    Arguments:
        function: Of a module, as it is found by its name.
        arguments: What can be pickled.
        ranks: How many processes.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = [CONTEXT.Process(target=_run, args=(folder, r, ranks, function, arguments)) for r in range(ranks)]
        for process in started:
            process.start()
        for process in started:
            process.join(200)
        hanging = [process for process in started if process.is_alive()]
        for process in hanging:
            process.kill()
        assert not hanging, f"{len(hanging)} of {ranks} processes wait for ever"
        return [torch.load(Path(folder, str(r)), weights_only=False) for r in range(ranks)]


def _run(folder: str, rank: int, ranks: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
    try:
        result = function(Processes.joined(), *arguments)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        result = error
    torch.save(result, Path(folder, str(rank)))
    dist.destroy_process_group()
