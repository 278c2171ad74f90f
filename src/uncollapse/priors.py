"""Priors: modules whose `forward()` returns a law."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from uncollapse.distributions.diagonal import Diagonal
from uncollapse.distributions.factors import LogUniform, Multiplied
from uncollapse.distributions.flowed import Flowed, autoregressive
from uncollapse.distributions.one_hots import OneHots
from uncollapse.distributions.von_mises_fisher import VonMisesFisher
from uncollapse.posteriors.choices import groups
from uncollapse.quantities import Count, Dropout


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
        return Diagonal(self.loc, self.scale, self.loc.ndim, standard=True)

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


class UniformSphere(nn.Module):
    """The uniform law on the unit sphere.

    Arguments:
        latent: The number of units, at least 2.
    """

    loc: Tensor
    concentration: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("loc", torch.eye(1, latent)[0], persistent=False)
        self.register_buffer("concentration", torch.zeros(()), persistent=False)

    def forward(self) -> Distribution:
        return VonMisesFisher(self.loc, self.concentration)


class UniformChoices(nn.Module):
    """Choices among equally likely classes.

    Arguments:
        latent: The number of units, `classes` for each choice.
        classes: Of each choice.
    """

    logits: Tensor

    def __init__(self, latent: int, classes: Count) -> None:
        super().__init__()
        self.register_buffer("logits", torch.zeros(groups(latent, classes), classes), persistent=False)

    def forward(self) -> Distribution:
        return OneHots(self.logits)


class Autoregressive(nn.Module):
    r"""A Gaussian whose units follow each other, so that a posterior of independent units has a least rate (delta-VAE).

    .. math:: z_1 \sim N(0, 1), \; z_t \sim N(a z_{t-1}, 1 - a^2): \quad
              \min_q \mathrm{KL} = \tfrac12 ((D - 2) \log(1 + a^2) - \log(1 - a^2))

    In nats an item. The least rate is paid by a posterior that says nothing too.

    References:
        | Preventing Posterior Collapse with delta-VAEs (Razavi et al., 2019)
        | https://arxiv.org/abs/1901.03416

    Arguments:
        latent: The number of units D, in their order.
        correlation: a, of each unit with the next.
    """

    loc: Tensor
    root: Tensor

    def __init__(self, latent: int, correlation: Dropout = 0.9) -> None:
        super().__init__()
        order = torch.arange(latent)
        root = correlation ** (order.unsqueeze(1) - order).clamp_min(0) * (1 - correlation**2) ** 0.5
        root[:, 0] = correlation**order
        self.register_buffer("loc", torch.zeros(latent), persistent=False)
        self.register_buffer("root", root.tril().to(self.loc), persistent=False)

    def forward(self) -> Distribution:
        return MultivariateNormal(self.loc, scale_tril=self.root, validate_args=False)


class Flow(nn.Module):
    r"""A masked autoregressive flow: what a network that is invertible makes of noise.

    .. math:: z = f(e), \; e \sim N(0, I): \quad
              \log p(z) = \log N(f^{-1}(z); 0, I) + \log |\det \partial f^{-1} / \partial z|

    The KL to it, in nats, is the mean of log q - log p over the draws. A density takes one pass of each network, a draw
    as many as there are units. It needs the extra `flows` (zuko).

    References:
        | Variational Lossy Autoencoder (Chen et al., 2017)
        | https://arxiv.org/abs/1611.02731
        | Masked Autoregressive Flow for Density Estimation (Papamakarios et al., 2017)
        | https://arxiv.org/abs/1705.07057

    Arguments:
        latent: The number of latent units D.
        transforms: How many affine autoregressive steps, each the other way round.
        hidden: The widths of the hidden layers of each step's network.

    Raises:
        InputError: where zuko is not installed.
    """

    def __init__(self, latent: int, transforms: Count = 4, hidden: Sequence[Count] = (64, 64)) -> None:
        super().__init__()
        self.flow = autoregressive("the prior `flow`", latent, transforms, hidden)

    def forward(self) -> Distribution:
        return Flowed(self.flow)


class LogNormal(nn.Module):
    r"""The prior of sizes whose logarithms are normal, with a mean and a deviation of each unit that are learned.

    .. math:: \log z_d \sim N(\mu_d, s_d^2)

    Arguments:
        latent: The number of units.
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.log_size, self.log_spread = nn.Parameter(torch.zeros(latent)), nn.Parameter(torch.zeros(latent))

    def forward(self) -> Distribution:
        return Multiplied(self.log_size.exp(), self.log_spread.exp())


class LogUniformSizes(nn.Module):
    """The improper prior of all sizes alike, with a point at 0; see `LogUniform`.

    Arguments:
        latent: The number of units.
    """

    like: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("like", torch.zeros(latent), persistent=False)

    def forward(self) -> Distribution:
        return LogUniform(self.like)
