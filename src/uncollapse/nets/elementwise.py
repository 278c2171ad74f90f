"""Decoders that write all elements of an item from z at once, each by a law of its own."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent
from torch.nn import functional as F

from uncollapse.distributions.bits import Bits
from uncollapse.distributions.diagonal import Diagonal
from uncollapse.distributions.fitted import LEAST, Fitted
from uncollapse.distributions.levels import Levels
from uncollapse.distributions.logistic import DiscretisedLogistic
from uncollapse.errors import InputError

Likelihood: TypeAlias = Literal["gaussian", "bernoulli", "logistic", "categorical"]
Variance: TypeAlias = Literal["elements", "shared", "optimal"]

_LEAST = 0.5 * math.log(LEAST)
#: The logarithm of the variance of values that are uniform between 0 and 1.
_UNIFORM = -math.log(12)
#: The standard deviation of a logistic law of scale 1.
_SPREAD = math.pi / math.sqrt(3)


class Elementwise(nn.Module, ABC):
    r"""Gives every element of an item a law, from the numbers f(z) of a network.

    .. math:: p(x | z) = \prod_i N(x_i; f_i(z), \sigma_i^2), \quad \prod_i \text{Bernoulli}(x_i; f_i(z)), \quad
              \prod_i \text{Logistic}(x_i; \tfrac12 + f_i(z), \sigma_i^2) \text{ in bins}, \quad
              \prod_i \text{softmax}(f_i(z))_{x_i}

    The variance of each element is learned and the same for all items; f gives the logits of the Bernoulli law. One
    variance may be shared by all elements, learned with a soft floor at a standard deviation of exp(-6), or be the
    optimal one: in training the mean square of the batch's residuals, and in evaluation their running average.

    References:
        | Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2021): "shared" and "optimal"
        | https://arxiv.org/abs/2006.13202

    Arguments:
        shape: The shape of an item.
        likelihood: See `MLPDecoder`.
        variance: See `MLPDecoder`.
        levels: How many values an element can have, between 0 and 1; None for real numbers.

    Raises:
        InputError: for a variance of a likelihood that has none, and a likelihood of other values than there are.
    """

    mean_square: Tensor

    def __init__(self, shape: tuple[int, ...], likelihood: Likelihood, variance: Variance, levels: int | None) -> None:
        super().__init__()
        _check(likelihood, variance, levels)
        self.shape, self.likelihood, self.variance, self.levels = tuple(shape), likelihood, variance, levels
        if variance == "optimal":
            self.register_buffer("mean_square", torch.ones(()))
        elif likelihood in ("gaussian", "logistic"):
            size = self.shape if variance == "elements" else ()
            self.log_variance = nn.Parameter(torch.full(size, _UNIFORM if levels else 0.0))

    @property
    def numbers(self) -> int:
        """How many numbers of the network each element takes."""
        return self.levels or 1 if self.likelihood == "categorical" else 1

    @abstractmethod
    def found(self, z: Tensor) -> Tensor:
        """The numbers f(z) for z (S, B, d), with shape (S, B, *shape), and those of an element last if it has more."""

    def forward(self, z: Tensor, seen: Tensor | None = None) -> Distribution:
        """The law of items given z (S, B, d), with shape (S, B) and events of the item's shape; `seen` is ignored."""
        # Laws in float32 at least, whatever the layers compute in.
        found = self.found(z)
        found = found.float() if found.itemsize < 4 else found
        dims = len(self.shape)
        if self.likelihood == "bernoulli":
            return Independent(Bits(found), dims, validate_args=False)
        if self.likelihood == "categorical":
            return Independent(Levels(found), dims, validate_args=False)
        if self.variance == "optimal" and self.training:
            return Fitted(found, self.mean_square, dims)
        log_scale = self._log_scale()
        if self.likelihood == "logistic":
            law = DiscretisedLogistic(0.5 + found, log_scale.exp() / _SPREAD, self.levels or 2)
            return Independent(law, dims, validate_args=False)
        return Diagonal(found, log_scale.exp(), dims, log_scale)

    def _log_scale(self) -> Tensor:
        if self.variance == "optimal":
            return 0.5 * self.mean_square.clamp_min(LEAST).log()
        log_scale = 0.5 * self.log_variance
        return log_scale if self.variance == "elements" else _LEAST + F.softplus(log_scale - _LEAST)


def _check(likelihood: Likelihood, variance: Variance, levels: int | None) -> None:
    if (likelihood in ("bernoulli", "categorical") and variance != "elements") or (
        likelihood == "logistic" and variance == "optimal"
    ):
        raise InputError(
            f'a {likelihood.capitalize()} likelihood has no variance to be "{variance}": leave `variance` out.'
        )
    if likelihood in ("logistic", "categorical") and levels is None:
        raise InputError(
            f'the likelihood "{likelihood}" is of values on a scale, such as the 256 levels of a pixel, and this data '
            'has real numbers: use "gaussian".'
        )
    if likelihood == "bernoulli" and (levels or 2) > 2:
        raise InputError(
            f'the likelihood "bernoulli" is of zeros and ones, and this data has {levels} levels: set '
            '`data.binarise` to "dynamic", or use "logistic", "categorical" or "gaussian".'
        )
