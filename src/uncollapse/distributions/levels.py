"""Values on a scale of L levels, and the law that knows no order among them."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution
from torch.distributions.constraints import Constraint

from uncollapse.errors import InputError

#: How far, in steps of the scale, a value may be off its level: more than what rounding does in single precision.
_OFF = 0.01


class OnScale(Constraint):
    """Values 0, 1 / (L - 1), ..., 1.

    Arguments:
        levels: L.
    """

    is_discrete = True

    def __init__(self, levels: int) -> None:
        self.levels = levels

    def check(self, value: Tensor) -> Tensor:
        steps = value * (self.levels - 1)
        nearest = steps.round()
        return ((steps - nearest).abs() < _OFF) & (nearest >= 0) & (nearest < self.levels)


def level(value: Tensor, levels: int) -> Tensor:
    """The number of each value's level, 0 to L - 1, in the type of the value.

    Raises:
        InputError: for a value that is on none of them.
    """
    wrong = value[~OnScale(levels).check(value)]
    if len(wrong):
        raise InputError(
            f"this likelihood is of the {levels} values 0, 1/{levels - 1}, ..., 1, and the data has {wrong[0]:.4g}: "
            "round the values to these, or use a Gaussian likelihood with a learned variance."
        )
    return (value * (levels - 1)).round()


class Levels(Distribution):
    r"""A probability for each level by itself, as of a softmax over 256 values of a pixel.

    .. math:: \log p(x | l) = \log \text{softmax}(l)_k, \quad x = k / (L - 1), \quad k = 0, \dots, L - 1

    References:
        | Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016)
        | https://arxiv.org/abs/1601.06759

    Arguments:
        logits: l, with shape (..., L).
    """

    arg_constraints: ClassVar[dict] = {}  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]

    def __init__(self, logits: Tensor) -> None:
        self.logits, self.levels = logits, logits.shape[-1]
        super().__init__(logits.shape[:-1], validate_args=False)

    @property
    def support(self) -> Constraint:  # pyright: ignore[reportIncompatibleVariableOverride]
        return OnScale(self.levels)

    @property
    def mean(self) -> Tensor:
        """The expected value, with shape (...)."""
        scale = torch.linspace(0, 1, self.levels, dtype=self.logits.dtype, device=self.logits.device)
        return self.logits.softmax(-1) @ scale

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, element by element.

        Raises:
            InputError: for a value on none of the levels.
        """
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        chosen = level(value, self.levels).long().expand(shape).unsqueeze(-1)
        return self.logits.log_softmax(-1).expand(*shape, -1).gather(-1, chosen).squeeze(-1)

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        drawn = Categorical(logits=self.logits, validate_args=False).sample(torch.Size(sample_shape))
        return drawn.to(self.logits.dtype) / (self.levels - 1)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> Levels:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Levels(self.logits.expand(*batch_shape, self.levels))
