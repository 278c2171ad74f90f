"""What learns beside the model: a critic, a multiplier, any network or number that a term brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Learner:
    """A network or number of a term that learns; the term names it in its `players`.

    Arguments:
        module: What learns; a part of the term, which is an `nn.Module`.
        optimiser: How, unless the person says otherwise, such as `training.optimisers.SGD(0.1)`; Adam at 1e-3 where it
            is None.
        ascends: Whether it climbs what the model descends, as a multiplier does.
        clip: The largest norm of its own gradient, which is no part of the model's; None for no clipping.
    """

    module: nn.Module
    optimiser: Any = None
    ascends: bool = False
    clip: float | None = None
