"""Gaussian posteriors whose means vary by construction: batch normalisation on top of the encoder."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncollapse.bound import Batch
from uncollapse.posteriors import Posterior, gaussian
from uncollapse.quantities import Dropout, Positive

#: The variance of a Gaussian of entropy 0.
NO_ENTROPY = 1 / (2 * math.pi * math.e)


class Normalised(nn.Module):
    """Normalises means over the batch, each unit's to a variance of `scale` squared about a shift that is learned.

    So in training mode, over the items of one process; in evaluation mode, and for a single item, running averages
    stand in for the mean and variance of the batch.

    Arguments:
        latent: The number of units d.
        scale: The root of each unit's variance; of their mean, where they are learned.
        learned: Whether the units learn how to share the variance out.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, latent: int, scale: float, learned: bool = False) -> None:
        super().__init__()
        self.scale = scale
        self.shift = nn.Parameter(torch.zeros(latent))
        self.gains = nn.Parameter(torch.ones(latent)) if learned else None
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("variance", torch.ones(latent))

    def forward(self, x: Tensor) -> Tensor:
        """The means x (B, d), normalised."""
        gains = torch.ones_like(self.shift) if self.gains is None else self.gains / self.gains.square().mean().sqrt()
        alone = not self.training or len(x) < 2
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        # Not the usual 1e-5: the means of a small initialisation vary by less, and the floor would be none.
        return F.batch_norm(x, self.mean, self.variance, self.scale * gains, self.shift, training=not alone, eps=1e-12)


class _Means(nn.Module):
    """A network that gives means and log-variances, (B, 2 d), with the means normalised."""

    def __init__(self, net: nn.Module, normalised: Normalised) -> None:
        super().__init__()
        self.net, self.normalised = net, normalised

    def forward(self, x: Batch) -> Tensor:
        mean, log_variance = self.net(x).chunk(2, -1)
        return torch.cat([self.normalised(mean), log_variance], -1)


class _Uncertain(nn.Module):
    """Gives variances of a network's, with a floor, and with dropout of what is above it."""

    def __init__(self, net: nn.Module, floor: float, dropout: float) -> None:
        super().__init__()
        self.net, self.floor, self.dropout = net, floor, dropout

    def forward(self, x: Batch) -> Tensor:
        mean, log_variance = self.net(x).chunk(2, -1)
        above = F.dropout(log_variance.exp(), self.dropout, self.training)
        return torch.cat([mean, (self.floor * NO_ENTROPY + above).log()], -1)


def normalised(net: Callable[[int], nn.Module], latent: int, scale: Positive = 0.6) -> Posterior:
    r"""A Gaussian whose means are normalised over the batch, so that the rate has a floor (BN-VAE).

    .. math:: \mu' = \gamma \frac{\mu - \mathbb{E}_B \mu}{\sqrt{\mathrm{Var}_B \mu}} + \beta, \quad
              \mathbb{E}_x \mathrm{KL} \ge \tfrac12 \sum_d (\gamma^2 + \beta_d^2)

    The floor is in nats an item, holds for the mean over a training batch, and for evaluation up to the running
    averages. Each process normalises over its own items.

    References:
        | A Batch Normalized Inference Network Keeps the KL Vanishing Away (Zhu et al., 2020)
        | https://arxiv.org/abs/2004.12585

    Arguments:
        net: Makes the encoder's network, from the number of its outputs.
        latent: d, the number of units.
        scale: gamma, the same for all units and fixed.
    """
    return Posterior(_Means(net(2 * latent), Normalised(latent, scale)), gaussian, (latent, latent))


def diverse(
    net: Callable[[int], nn.Module],
    latent: int,
    scale: Positive = 0.5,
    floor: Positive = 1.0,
    dropout: Dropout = 0.2,
) -> Posterior:
    r"""A Gaussian whose means are normalised over the batch, and whose variances have a floor and dropout (DU-VAE).

    .. math:: \mu' = \gamma_d \frac{\mu - \mathbb{E}_B \mu}{\sqrt{\mathrm{Var}_B \mu}} + \beta, \;
              \overline{\gamma_d^2} = \gamma^2, \quad
              \sigma'^2 = \frac{\alpha}{2 \pi e} + \text{Dropout}(\sigma^2)

    At alpha = 1 no unit's entropy is below 0. Each process normalises over its own items.

    References:
        | Regularizing Variational Autoencoder with Diversity and Uncertainty Awareness (Shen et al., 2021)
        | https://arxiv.org/abs/2110.12381

    Arguments:
        net: Makes the encoder's network, from the number of its outputs.
        latent: d, the number of units.
        scale: gamma, the root of the units' mean variance of means; they learn how to share it out.
        floor: alpha, the least variance, in units of that of a Gaussian with entropy 0.
        dropout: Of the variances above the floor, in training mode.
    """
    means = _Means(net(2 * latent), Normalised(latent, scale, learned=True))
    return Posterior(_Uncertain(means, floor, dropout), gaussian, (latent, latent))
