"""A Gaussian whose variance is the one that fits the values it scores best."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor
from torch.distributions import Distribution

#: The least variance: a standard deviation of exp(-6), as in the code of Rybkin et al.
LEAST = math.exp(-12)
#: How far the average moves to the variance of each batch.
_STEP = 0.1


class Fitted(Distribution):
    r"""N(loc, s^2) with one variance, the mean square of all that it scores at once.

    .. math:: s^2 = \overline{(x - f)^2}, \quad -\log p(x) = \tfrac D2 (\log 2 \pi s^2 + 1) \;\text{on average}

    It is for training: as the values decide the variance, it is no law that they could be measured by. The average that
    is kept of it is. Of several processes each fits its own values.

    Arguments:
        loc: The means f, with shape (..., *event).
        kept: The running average of s^2, (), which scoring moves.
        dims: How many dimensions an event has.
    """

    arg_constraints: ClassVar[dict] = {}  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]

    def __init__(self, loc: Tensor, kept: Tensor, dims: int) -> None:
        self.loc, self.kept = loc, kept
        super().__init__(loc.shape[:-dims], loc.shape[-dims:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        squares = (value - self.loc).square()
        fit = squares.mean()
        self.kept.lerp_(fit.detach().to(self.kept), _STEP)
        variance, dims = fit.clamp_min(LEAST), tuple(range(-len(self.event_shape), 0))
        return -0.5 * (squares.sum(dims) / variance + self.event_shape.numel() * (2 * math.pi * variance).log())
