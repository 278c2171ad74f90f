"""Priors: modules whose `forward()` returns a law."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from uncollapse.quantities import Count


class StandardNormal(nn.Module):
    r"""The prior N(0, I).

    Arguments:
        latent: The number of latent units D, or the shape of z, such as (4, 8, 8).
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, latent: int | Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(latent), persistent=False)
        self.register_buffer("scale", torch.ones(latent), persistent=False)

    def forward(self) -> Distribution:
        return Independent(Normal(self.loc, self.scale, validate_args=False), self.loc.ndim, validate_args=False)

    def extra_repr(self) -> str:
        return f"latent={self.loc.numel() if self.loc.ndim == 1 else tuple(self.loc.shape)}"


class Mixture(nn.Module):
    r"""A mixture of Gaussians with learned weights, means and variances.

    .. math:: p(z) = \sum_k \pi_k \prod_d N(z_d; m_{kd}, s_{kd}^2)

    The KL to it has no closed form: it is the mean of log q - log p over the draws, in nats an item, and that of a
    single item may be negative. The means start apart, as draws of N(0, I), and the variances at 1.

    References:
        | VAE with a VampPrior (Tomczak & Welling, 2018), who compare it with theirs
        | https://arxiv.org/abs/1705.07120

    Arguments:
        latent: The number of latent units D.
        components: How many Gaussians.
    """

    def __init__(self, latent: int, components: Count = 10) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, latent))
        self.log_variances = nn.Parameter(torch.zeros(components, latent))

    def forward(self) -> Distribution:
        each = Independent(Normal(self.means, (0.5 * self.log_variances).exp(), validate_args=False), 1)
        return MixtureSameFamily(Categorical(logits=self.logits, validate_args=False), each, validate_args=False)
