"""A decoder without z: what a VAE with the same decoder has to beat."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.bound import Batch, size
from uncollapse.model import VAE
from uncollapse.posteriors import gaussian
from uncollapse.priors import StandardNormal


class Nothing(nn.Module):
    """The posterior of no latent units: for every item the law of a vector without entries."""

    empty: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("empty", torch.zeros(0), persistent=False)

    def forward(self, x: Batch) -> Distribution:
        none = self.empty.expand(size(x), 0)
        return gaussian(none, none)


def language_model(decoder: nn.Module) -> VAE:
    r"""A model of no latent units, whose bound is its likelihood.

    .. math:: \log p(x) = \sum_t \log p(x_t | x_{<t}), \quad z \in \mathbb{R}^0, \quad \mathrm{KL} = 0

    Every importance weight is p(x), so that the NLL is exact and of one pass, whatever the number of samples.

    Arguments:
        decoder: As for `VAE`, for z with shape (S, B, 0); all of it is the player "generation".
    """
    made = VAE(Nothing(), decoder, StandardNormal(0), players={"generation": decoder})
    made.undivided = "a language model has no latent variable, and so nothing to infer: train it jointly"
    return made
