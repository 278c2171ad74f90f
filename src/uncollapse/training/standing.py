"""Where a training stands: what of it is neither a tensor nor has a memory of its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Standing:
    """How far a training is; all of it is in every checkpoint."""

    step: int = 0
    """Outer steps done."""
    epoch: int = 0
    best: float = float("inf")
    """The lowest negative bound of the validation split so far; see `Validation.decides`."""
    stopped: bool = False
    """Whether it has ended before its last epoch."""
    told: int = 0
    """Windows and epochs that the listeners have heard of."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
