"""Multilayer perceptrons: the encoder and decoder of a VAE of vectors, or of anything that is flattened to one."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from uncollapse.distributions.bits import Bits
from uncollapse.quantities import Count


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

    The variance of each element is learned and the same for all items; f gives the logits of the Bernoulli law.

    Arguments:
        shape: The shape of an item.
        latent: d, the size of z.
        hidden: The widths of the hidden layers, the first of them next to z.
        likelihood: "gaussian" for real numbers, "bernoulli" for zeros and ones.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent: int,
        hidden: list[Count],
        likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
    ) -> None:
        super().__init__()
        self.shape, self.likelihood = tuple(shape), likelihood
        self.layers = layers(latent, hidden, math.prod(shape))
        if likelihood == "gaussian":
            self.log_variance = nn.Parameter(torch.zeros(self.shape))

    def forward(self, z: Tensor, seen: Tensor | None = None) -> Distribution:
        """The law of items given z (S, B, d), with shape (S, B) and events of the item's shape; `seen` is ignored."""
        # Laws in float32 at least, whatever the layers compute in.
        found = self.layers(z).unflatten(-1, self.shape)
        found = found.float() if found.itemsize < 4 else found
        if self.likelihood == "bernoulli":
            return Independent(Bits(found), len(self.shape), validate_args=False)
        scale = (0.5 * self.log_variance).exp()
        return Independent(Normal(found, scale, validate_args=False), len(self.shape), validate_args=False)


def layers(inputs: int, hidden: list[int], outputs: int) -> nn.Sequential:
    widths = [inputs, *hidden]
    between = [layer for a, b in zip(widths, hidden, strict=False) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*between, nn.Linear(widths[-1], outputs))
