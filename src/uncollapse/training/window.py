"""A window of training: sums over some steps, read back from the device only when they are asked for."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from uncollapse.errors import TrainingError
from uncollapse.objective import Loss

#: What is counted beside the loss and its parts: outer steps, all steps of players, predicted symbols passed.
STEPS, DESCENTS, SYMBOLS = "steps", "descents", "symbols"


class Window:
    """Running sums of the loss, its parts and counts, on the device where they arise."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def count(self, name: str, number: Tensor | float) -> None:
        """Adds to a sum."""
        number = torch.as_tensor(number).detach()
        self.sums[name] = self.sums[name] + number if name in self.sums else number

    def close_step(self, loss: Loss) -> None:
        """Adds an outer step's loss."""
        for name, value in {**loss.parts, "loss": loss.total, STEPS: 1}.items():
            self.count(name, value)

    def means(self, step: int) -> dict[str, float]:
        """The mean of every sum over the outer steps, but the symbols in all.

        Raises:
            TrainingError: where one is not finite.
        """
        if not self.sums:
            return {}
        totals = {name: float(value) for name, value in self.sums.items()}
        steps = totals.pop(STEPS, 1.0)
        values = {name: total if name == SYMBOLS else total / steps for name, total in totals.items()}
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise TrainingError(
                f"{', '.join(bad)} became {values[bad[0]]} within the {steps:.0f} steps before step {step}: lower "
                "the learning rate or the clipping norm, or look for a bad item; the last checkpoint is intact."
            )
        return values
