"""Posteriors: a network gives parameters, a family makes a law of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal
from torch.nn import functional as F

from uncollapse.bound import Batch
from uncollapse.distributions.diagonal import Diagonal
from uncollapse.errors import InputError
from uncollapse.quantities import Weight

Family = Callable[..., Distribution]


def gaussian(mean: Tensor, log_variance: Tensor) -> Distribution:
    r"""The diagonal Gaussian N(mean, exp(log_variance)), parameters with shape (B, ...).

    The second parameter is the logarithm of the variance, not of the standard deviation.
    """
    # Laws in float32 at least: a KL of 0.01 nats drowns in bfloat16.
    log_scale = 0.5 * log_variance.float() if log_variance.itemsize < 4 else 0.5 * log_variance
    return Diagonal(mean.to(log_scale.dtype), log_scale.exp(), max(1, mean.ndim - 1), log_scale)


class Posterior(nn.Module):
    r"""q(z | x) as a family whose parameters a network gives.

    Arguments:
        net: Maps a batch to features with shape (B, sum(sizes)).
        family: Makes a law of the parameters, such as `gaussian`.
        sizes: The width of each parameter, such as (d, d) for a mean and a log-variance.

    Raises:
        InputError: where the network's output is not `sum(sizes)` wide.
    """

    def __init__(self, net: nn.Module, family: Family, sizes: Sequence[int]) -> None:
        super().__init__()
        self.net, self.family, self.sizes = net, family, tuple(sizes)

    def params(self, x: Batch) -> tuple[Tensor, ...]:
        """The family's parameters, each (B, size)."""
        features = self.net(x)
        if features.shape[-1] != sum(self.sizes):
            raise InputError(
                f"the encoder's network gives {features.shape[-1]} numbers an item, and `sizes={self.sizes}` asks "
                f"for {sum(self.sizes)}: widen its last layer, or change `sizes`."
            )
        return features.split(self.sizes, -1)

    def forward(self, x: Batch) -> Distribution:
        return self.family(*self.params(x))


def diagonal(net: Callable[[int], nn.Module], latent: int) -> Posterior:
    """A Gaussian with independent units.

    Arguments:
        net: Makes the encoder's network, from the number of its outputs.
        latent: The number of units.
    """
    return Posterior(net(2 * latent), gaussian, (latent, latent))


def spread(mean: Tensor, raw: Tensor) -> Distribution:
    """The diagonal Gaussian N(mean, softplus(raw)^2), parameters with shape (B, ...)."""
    raw = raw.float() if raw.itemsize < 4 else raw
    return Diagonal(mean.to(raw.dtype), F.softplus(raw), max(1, mean.ndim - 1))


class _Lowered(nn.Module):
    """A network that gives means and raw deviations, (B, 2 d), the latter moved down."""

    def __init__(self, net: nn.Module, by: float) -> None:
        super().__init__()
        self.net, self.by = net, by

    def forward(self, x: Batch) -> Tensor:
        mean, raw = self.net(x).chunk(2, -1)
        return torch.cat([mean, raw - self.by], -1)


def narrow(net: Callable[[int], nn.Module], latent: int, below: Weight = 5.0) -> Posterior:
    r"""A Gaussian with independent units whose deviations start small, so that training starts with much information.

    .. math:: \sigma = \text{softplus}(r - b)

    References:
        | Deep Variational Information Bottleneck (Alemi et al., 2017)
        | https://arxiv.org/abs/1612.00410

    Arguments:
        net: Makes the encoder's network, from the number of its outputs.
        latent: The number of units.
        below: b; at 5 a deviation starts near .007.
    """
    return Posterior(_Lowered(net(2 * latent), below), spread, (latent, latent))


def correlated_gaussian(mean: Tensor, log_variance: Tensor, below: Tensor) -> Distribution:
    r"""The Gaussian N(mean, L L^T) with L triangular.

    Arguments:
        mean: (B, d).
        log_variance: (B, d), the logarithm of the square of L's diagonal.
        below: (B, d (d - 1) / 2), L below the diagonal, row by row.
    """
    mean, log_variance, below = (one.float() if one.itemsize < 4 else one for one in (mean, log_variance, below))
    row, column = torch.tril_indices(mean.shape[-1], mean.shape[-1], -1, device=mean.device)
    root = (0.5 * log_variance).exp().diag_embed()
    root[..., row, column] = below
    return MultivariateNormal(mean, scale_tril=root, validate_args=False)


def full(net: Callable[[int], nn.Module], latent: int) -> Posterior:
    r"""A Gaussian whose units covary.

    .. math:: \mathrm{KL} = \tfrac12 (\text{tr}(L L^\top) + \mu^\top \mu - d) - \log \det L

    The KL, in nats, does not split by unit.

    Arguments:
        net: Makes the encoder's network, from the number of its outputs, d (d + 3) / 2 here.
        latent: d, the number of units.
    """
    sizes = (latent, latent, latent * (latent - 1) // 2)
    return Posterior(net(sum(sizes)), correlated_gaussian, sizes)
