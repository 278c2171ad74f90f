"""Inference: how q(z | x) is found for a batch."""

from __future__ import annotations

from collections.abc import Callable

from uncollapse.bound import Batch, Bound
from uncollapse.model import Model
from uncollapse.objective import Objective

Inference = Callable[[Model, Objective, Batch], Bound]


def amortised(model: Model, objective: Objective, x: Batch) -> Bound:
    """The encoder's answer as it is."""
    return model(x)
