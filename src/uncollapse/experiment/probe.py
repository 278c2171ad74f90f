"""The probe: the posterior of 500 fixed validation items at scheduled steps, for reports over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from uncollapse.bound import Source, size
from uncollapse.data.batches import Batched
from uncollapse.metrics.rows import Rows, collect
from uncollapse.processes import Processes
from uncollapse.training.listeners import Moment
from uncollapse.training.sharding import gathered

ITEMS = 500
STEPS = (0, 200, 2000)  # where He et al. look at posterior mean space, beside every epoch's end


class Probe:
    """Stores the rows of the first items at the steps above and after every epoch; all processes must hear."""

    def __init__(self, folder: Path, model: nn.Module, batches: Source, processes: Processes) -> None:
        self.folder, self.model, self.batches = folder, model, _first(batches, ITEMS)
        self.processes = processes

    def __call__(self, moment: Moment) -> None:
        scheduled = moment.kind in ("start", "step") and moment.step in STEPS
        path = self.folder / f"step-{moment.step:08d}.safetensors"
        if (scheduled or moment.kind == "epoch") and not self.processes.first(path.exists):
            with gathered(self.model):
                rows = collect(self.model, self.batches, samples=0, bound_samples=1, seed=0, processes=self.processes)
            self.processes.first(lambda: self._save(rows, path))

    def _save(self, rows: Rows, path: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        rows.save(path)


def _first(batches: Source, items: int) -> Any:
    """Whole batches of a source, evenly spread over it, until they hold that many items."""
    every = max(1, len(batches) * size(batches[0]) // items)
    picked = range(0, len(batches), every)
    if isinstance(batches, Batched):
        return Batched(batches.make, [batches.items[i] for i in picked])
    return [batches[i] for i in picked]
