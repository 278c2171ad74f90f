"""Gaussians with independent units in few operations: a small model's step is mostly what its laws compute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, addcmul
from torch.distributions import Distribution, Independent, Normal

_CONSTANT = 0.5 * math.log(2 * math.pi)


class Diagonal(Independent):
    """`Independent(Normal(loc, scale), dims)`, made and scored by fewer operations.

    Arguments:
        loc: The means.
        scale: The standard deviations, of a shape that broadcasts to that of the means.
        dims: How many of the last dimensions are an event.
        log_scale: The logarithms of the standard deviations, where they are at hand.
        standard: Whether all means are 0 and all standard deviations 1.
    """

    has_rsample = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(
        self, loc: Tensor, scale: Tensor, dims: int, log_scale: Tensor | None = None, standard: bool = False
    ) -> None:
        self.loc, self.scale, self._log_scale, self.standard = loc, scale, log_scale, standard
        self.reinterpreted_batch_ndims, shape = dims, loc.shape
        Distribution.__init__(self, shape[: len(shape) - dims], shape[len(shape) - dims :], validate_args=False)

    @cached_property
    def base_dist(self) -> Normal:  # pyright: ignore[reportIncompatibleVariableOverride]
        return Normal(self.loc, self.scale, validate_args=False)

    @property
    def log_scale(self) -> Tensor:
        return self.scale.log() if self._log_scale is None else self._log_scale

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        noise = torch.randn((*sample_shape, *self.loc.shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + noise * self.scale

    def log_prob(self, value: Tensor) -> Tensor:
        within = tuple(range(-self.reinterpreted_batch_ndims, 0))
        constant = self.event_shape.numel() * _CONSTANT
        if self.standard:
            return value.square().sum(within) * -0.5 - constant
        away = (value - self.loc) / self.scale
        return -addcmul(self.log_scale, away, away, value=0.5).sum(within) - constant

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> Independent:
        shape = torch.Size(batch_shape) + self.event_shape
        law = Normal(self.loc.expand(shape), self.scale.expand(shape), validate_args=False)
        return Independent(law, self.reinterpreted_batch_ndims, validate_args=False)


def to_standard(q: Diagonal) -> Tensor:
    """KL(q || N(0, I)) by unit, in nats."""
    return 0.5 * (q.loc.square() + q.scale.square() - 1) - q.log_scale
