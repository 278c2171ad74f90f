"""Multilayer perceptrons: the encoder and decoder of a VAE of vectors, or of anything that is flattened to one."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent
from torch.nn import functional as F

from uncollapse.distributions.bits import Bits
from uncollapse.distributions.diagonal import Diagonal
from uncollapse.distributions.fitted import LEAST, Fitted
from uncollapse.errors import InputError
from uncollapse.nets.lipschitz import Injective
from uncollapse.quantities import Count, Weight

_LEAST = 0.5 * math.log(LEAST)


class MLPEncoder(nn.Module):
    """Reads an item through layers of rectified units.

    Arguments:
        shape: The shape of an item.
        outputs: The size of the result, as 2 d for the mean and log-variance of d units.
        hidden: The widths of the hidden layers, the first of them next to the item.
    """

    def __init__(self, shape: tuple[int, ...], outputs: int, hidden: list[Count]) -> None:
        super().__init__()
        self.layers = layers(math.prod(shape), hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs of every item of x (B, ...), with shape (B, outputs)."""
        return self.layers(x.flatten(1))


class MLPDecoder(nn.Module):
    r"""Writes an item from z through layers of rectified units, all its elements at once.

    .. math:: p(x | z) = \prod_i N(x_i; f_i(z), \sigma_i^2) \quad \text{or} \quad \prod_i \text{Bernoulli}(x_i; f_i(z))

    The variance of each element is learned and the same for all items; f gives the logits of the Bernoulli law. One
    variance may be shared by all elements, learned with a soft floor at a standard deviation of exp(-6), or be the
    optimal one: in training the mean square of the batch's residuals, and in evaluation their running average.

    References:
        | Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2021): "shared" and "optimal"
        | https://arxiv.org/abs/2006.13202

    Arguments:
        shape: The shape of an item.
        latent: d, the size of z.
        hidden: The widths of the hidden layers, the first of them next to z.
        likelihood: "gaussian" for real numbers, "bernoulli" for zeros and ones.
        variance: Whose: of "elements", "shared", or "optimal"; of a Gaussian likelihood alone.
        inverse_lipschitz: None for rectified layers. Else f is one under which no two z have one output, and this is
            the inverse Lipschitz constant of each of its two maps (see `lipschitz.Injective`).

    Raises:
        InputError: for a variance of a Bernoulli likelihood, and for an item too small to tell all z apart.
    """

    mean_square: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        latent: int,
        hidden: list[Count],
        likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
        variance: Literal["elements", "shared", "optimal"] = "elements",
        inverse_lipschitz: Weight | None = None,
    ) -> None:
        super().__init__()
        if likelihood == "bernoulli" and variance != "elements":
            raise InputError(f'a Bernoulli likelihood has no variance to be "{variance}": leave `variance` out.')
        self.shape, self.likelihood, self.variance = tuple(shape), likelihood, variance
        sizes = latent, hidden, math.prod(shape)
        self.layers = layers(*sizes) if inverse_lipschitz is None else Injective(*sizes, inverse_lipschitz)
        if likelihood == "gaussian" and variance == "optimal":
            self.register_buffer("mean_square", torch.ones(()))
        elif likelihood == "gaussian":
            self.log_variance = nn.Parameter(torch.zeros(self.shape if variance == "elements" else ()))

    def forward(self, z: Tensor, seen: Tensor | None = None) -> Distribution:
        """The law of items given z (S, B, d), with shape (S, B) and events of the item's shape; `seen` is ignored."""
        # Laws in float32 at least, whatever the layers compute in.
        found = self.layers(z).unflatten(-1, self.shape)
        found = found.float() if found.itemsize < 4 else found
        if self.likelihood == "bernoulli":
            return Independent(Bits(found), len(self.shape), validate_args=False)
        if self.variance == "optimal" and self.training:
            return Fitted(found, self.mean_square, len(self.shape))
        log_scale = self._log_scale()
        return Diagonal(found, log_scale.exp(), len(self.shape), log_scale)

    def _log_scale(self) -> Tensor:
        if self.variance == "optimal":
            return 0.5 * self.mean_square.clamp_min(LEAST).log()
        log_scale = 0.5 * self.log_variance
        return log_scale if self.variance == "elements" else _LEAST + F.softplus(log_scale - _LEAST)


def layers(inputs: int, hidden: list[int], outputs: int, leak: float = 0.0) -> nn.Sequential:
    widths = [inputs, *hidden]
    between = [
        layer
        for a, b in zip(widths, hidden, strict=False)
        for layer in (nn.Linear(a, b), nn.LeakyReLU(leak) if leak else nn.ReLU())
    ]
    return nn.Sequential(*between, nn.Linear(widths[-1], outputs))
