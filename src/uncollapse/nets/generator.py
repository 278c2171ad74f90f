"""Priors that a network draws, and whose density nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.distributions.generated import Generated
from uncollapse.quantities import Count

#: The fewest draws that statistics of a batch are of.
LEAST = 32


class GeneratedPrior(nn.Module):
    r"""The law of g(e), e ~ N(0, I), for a perceptron g with batch normalisation: a generator.

    It has draws and no density: a model with it has neither a rate nor a bound, and learns it by a critic
    (`wasserstein-prior`). It is a player of its own, `generator`, with an optimiser of its own.

    References:
        | Adversarially Regularized Autoencoders (Zhao et al., 2018)
        | https://arxiv.org/abs/1706.04223

    Arguments:
        latent: d, the number of units of z.
        noise: The number of units of e.
        hidden: The widths of the hidden layers, the first of them next to e.
    """

    player = "generator"
    like: Tensor

    def __init__(self, latent: int, noise: Count = 100, hidden: list[Count] = [300, 300]) -> None:  # noqa: B006 - never written to
        super().__init__()
        self.latent = latent
        self.register_buffer("like", torch.zeros(noise), persistent=False)
        self.generator = Generator([noise, *hidden, latent])

    def forward(self) -> Distribution:
        return Generated(self.generator, self.like, self.latent)


class Generator(nn.Module):
    """A perceptron with batch normalisation behind every layer but the last.

    Arguments:
        widths: Of what it reads, of its hidden layers, and of what it gives.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.body = nn.Sequential(*(_layer(*both) for both in pairwise(widths[:-1])))
        self.output = nn.Linear(widths[-2], widths[-1])

    def forward(self, noise: Tensor) -> Tensor:
        """z (..., d) of noise (..., n)."""
        found = noise.reshape(-1, noise.shape[-1])
        count = len(found)
        if self.training and count < LEAST:  # A batch may be of one item, whose statistics say nothing.
            found = torch.cat([found, found.new_empty(LEAST - count, found.shape[1]).normal_()])
        return self.output(self.body(found)[:count]).view(*noise.shape[:-1], -1)


def _layer(width: int, next_: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, next_), nn.BatchNorm1d(next_), nn.ReLU())
