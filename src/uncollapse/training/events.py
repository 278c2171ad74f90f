"""Events: something done once in a run, at a step, after an epoch or after a validation.

Where an event falls is a function of the counters that a checkpoint holds, and its effect on what a checkpoint
holds is in those after it; so it happens exactly once, however often a run is stopped and goes on. A checkpoint
holds the tensors of the model and of the objective, the objective's weights, the largest gradient norm, the
optimisers' learning rates and memories, and what procedure, plateau and counters remember. What else an event
changes, it changes for the process at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from uncollapse.training.play import Stage


class Event(NamedTuple):
    """Something to do once."""

    when: Literal["step", "epoch", "validation"]
    at: int
    """With "step" before outer step number `at`, counted from 0; with "epoch" after `at` epochs, before their
    validation; with "validation" after the validation that follows `at` epochs."""
    do: Callable[[Stage], None]
