"""Laws of positive numbers that multiply: sizes times log-normal noise, and the priors of such."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.kl import register_kl

from uncollapse.distributions.operations import pairwise_by_group, space
from uncollapse.errors import InputError

_CONSTANT = 0.5 * math.log(2 * math.pi)


class Multiplied(Distribution):
    r"""Sizes times log-normal noise, units independent; a unit of size 0 is 0.

    .. math:: z = f e^{a \epsilon}, \quad \epsilon \sim N(0, 1)

    Of a unit of size 0 the log-density is the log-probability of that point: 0.

    Arguments:
        size: f from 0 on, with shape (..., d).
        spread: a, of the same shape.
    """

    arg_constraints: ClassVar[dict] = {"size": constraints.nonnegative, "spread": constraints.positive}  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    has_rsample = True

    def __init__(self, size: Tensor, spread: Tensor, validate_args: bool | None = False) -> None:
        self.size, self.spread = size, spread
        super().__init__(size.shape[:-1], size.shape[-1:], validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """The size, which is the median: what noise leaves as it is. The expectation is larger by exp(a^2 / 2)."""
        return self.size

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        shape = (*sample_shape, *self.size.shape)
        return self.size * (self.spread * torch.randn(shape, dtype=self.size.dtype, device=self.size.device)).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        return self.by_unit(value).sum(-1)

    def by_unit(self, value: Tensor) -> Tensor:
        """The log-density of each unit, with shape (..., d)."""
        there, has_size = value > 0, self.size > 0
        away = (_log(value) - _log(self.size)) / self.spread
        inside = -_log(value) - self.spread.log() - _CONSTANT - 0.5 * away.square()
        none = torch.zeros_like(inside)
        return torch.where(there & has_size, inside, torch.where(there == has_size, none, none - math.inf))


class LogUniform(Distribution):
    r"""The improper law of all sizes alike, with a point at 0.

    .. math:: p(z) \propto 1 / z

    Its constant makes the KL of `Multiplied` to it :math:`-\log a` of a unit that has a size, and 0 of one that has
    none. Nothing can be drawn from it.

    Arguments:
        like: Anything with shape (d,).
    """

    arg_constraints: ClassVar[dict] = {}  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]

    def __init__(self, like: Tensor, validate_args: bool | None = False) -> None:
        super().__init__(event_shape=like.shape, validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.where(value > 0, -_log(value) - _CONSTANT - 0.5, torch.zeros_like(value)).sum(-1)

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Refused, as it is no probability.

        Raises:
            InputError: always.
        """
        raise InputError("nothing can be drawn from the prior of all sizes alike: choose `log-normal`.")


def _log(value: Tensor) -> Tensor:
    """The logarithm where there is one, and 0 elsewhere, so that no gradient is infinite."""
    return torch.where(value > 0, value, torch.ones_like(value)).log()


@register_kl(Multiplied, Multiplied)
def _to_sizes(q: Multiplied, p: Multiplied) -> Tensor:
    """By unit, (..., d), in nats; infinite for a unit without a size."""
    away = q.size.log() - p.size.log()
    return (q.spread.square() + away.square()) / (2 * p.spread.square()) - (q.spread / p.spread).log() - 0.5


@register_kl(Multiplied, LogUniform)
def _to_all(q: Multiplied, p: LogUniform) -> Tensor:
    """By unit, (..., d), in nats."""
    return torch.where(q.size > 0, -q.spread.log(), torch.zeros_like(q.spread))


@pairwise_by_group.register
def _(law: Multiplied, z: Tensor) -> Tensor:
    return Multiplied(law.size.unsqueeze(0), law.spread.unsqueeze(0)).by_unit(z.unsqueeze(1))


@space.register(Multiplied)
@space.register(LogUniform)
def _(law: Distribution) -> str:
    return "positive numbers"
