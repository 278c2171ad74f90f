"""The probe: the posterior of 500 fixed validation items at scheduled steps, for reports over time."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from uncollapse.bound import Source
from uncollapse.inference import Inference, amortised
from uncollapse.metrics.rows import Rows, collect
from uncollapse.processes import Processes
from uncollapse.training.listeners import Moment
from uncollapse.training.sharding import gathered

ITEMS = 500
STEPS = (0, 200, 2000)  # where He et al. look at posterior mean space, beside every epoch's end


class Probe:
    """Stores the rows of some items at the steps above and after every epoch; all processes must hear."""

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        batches: Source,
        processes: Processes,
        inference: Inference = amortised,
    ) -> None:
        self.folder, self.model, self.batches = folder, model, batches
        self.processes, self.inference = processes, inference

    def __call__(self, moment: Moment) -> None:
        scheduled = moment.kind in ("start", "step") and moment.step in STEPS
        path = self.folder / f"step-{moment.step:08d}.safetensors"
        if (scheduled or moment.kind == "epoch") and not self.processes.first(path.exists):
            with gathered(self.model):
                rows = collect(
                    self.model,
                    self.batches,
                    samples=0,
                    bound_samples=1,
                    seed=0,
                    processes=self.processes,
                    inference=self.inference,
                )
            self.processes.first(lambda: self._save(rows, path))

    def _save(self, rows: Rows, path: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        rows.save(path)
