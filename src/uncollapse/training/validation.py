"""Validation: what is measured after an epoch, by the true bound, and at what cost."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch

from uncollapse.bound import Source
from uncollapse.inference import Inference
from uncollapse.metrics.evaluation import Evaluation, evaluate
from uncollapse.processes import ALONE, Processes
from uncollapse.randomness import mix, seeded
from uncollapse.training import sharding

#: Items of the mutual information that nothing is decided by, at one draw each: its cap is their logarithm, and its
#: cost a hundredth or less of the 10,000 items that a decision may have.
GLANCE = 1_000

#: By what the best weights are the best: the bound, the distortion alone, or that they are the last.
Selects: TypeAlias = Literal["bound", "distortion", "last"]


class Validation:
    """Measures the true bound (rate weight 1) on a split, in evaluation mode, with the same noise each time.

    Arguments:
        model: What is measured.
        batches: The split.
        inference: How q is found.
        seed: Decides the noise.
        device: Where the model is.
        processes: Who measure together.
        selects: By what weights are the best.
    """

    def __init__(
        self,
        model: Any,
        batches: Source,
        inference: Inference,
        seed: int = 0,
        device: torch.device | str = "cpu",
        processes: Processes = ALONE,
        selects: Selects = "bound",
    ) -> None:
        self.model, self.batches, self.inference, self.selects = model, batches, inference, selects
        self.seed, self.device, self.processes = seed, device, processes

    def validate(self, decides_by: str | None = None) -> Evaluation:
        """The figures of now.

        Arguments:
            decides_by: The figure that something is decided by; see `Procedure`.
        """
        few = {} if decides_by == "mi" else {"mi_passes": 1, "mi_items": GLANCE}
        # Seeded, as a data set may draw at random: what was drawn before depends on where a run was stopped.
        with seeded(self.seed, "validate", device=self.device), sharding.gathered(self.model):
            return evaluate(
                self.model,
                self.batches,
                samples=0,
                bound_samples=1,
                seed=mix(self.seed, "validate"),
                processes=self.processes,
                inference=self.inference,
                **few,
            )

    def decides(self, found: Evaluation) -> str:
        """The figure that weights are better by the lower it is."""
        rows = found.rows
        return "distortion" if self.selects == "distortion" or rows.of_labels or rows.unbounded else "neg_elbo"
