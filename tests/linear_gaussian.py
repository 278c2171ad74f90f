"""A linear-Gaussian VAE, of which everything is known in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from uncollapse.model import VAE
from uncollapse.posteriors import gaussian
from uncollapse.priors import StandardNormal


class LinearGaussian(nn.Module):
    """p(x | z) = N(Wz, sigma^2), W with shape (M, D)."""

    def __init__(self, weight: Tensor, sigma: float) -> None:
        super().__init__()
        self.weight, self.sigma = weight, sigma

    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        mean = z @ self.weight.T
        return Independent(Normal(mean, torch.full_like(mean, self.sigma)), 1)


class ExactPosterior(nn.Module):
    """p(z | x), diagonal where the columns of W are orthogonal; `shift` moves its mean, `widen` its scale."""

    def __init__(self, weight: Tensor, sigma: float, shift: float = 0.0, widen: float = 1.0) -> None:
        super().__init__()
        precision = torch.eye(weight.shape[1]) + weight.T @ weight / sigma**2
        diagonal = precision.diagonal().diag()
        assert torch.allclose(precision, diagonal, atol=1e-6 * float(diagonal.max()))
        self.variance = 1 / precision.diagonal()
        self.map = self.variance.unsqueeze(1) * weight.T / sigma**2
        self.shift, self.widen = shift, widen

    def forward(self, x: Tensor) -> Distribution:
        mean = x @ self.map.T + self.shift * self.variance.sqrt()
        return gaussian(mean, (self.widen**2 * self.variance).log().expand_as(mean))


def orthogonal(*lengths: float, size: int) -> Tensor:
    """W with orthogonal columns of these lengths, with shape (size, D)."""
    q = torch.linalg.qr(torch.randn(size, len(lengths), generator=torch.Generator().manual_seed(3))).Q
    return q * torch.tensor(lengths)


def vae(weight: Tensor, sigma: float, shift: float = 0.0, widen: float = 1.0) -> VAE:
    """The model, with its exact posterior or one that is off by `shift` and `widen`."""
    encoder = ExactPosterior(weight, sigma, shift, widen)
    return VAE(encoder, LinearGaussian(weight, sigma), StandardNormal(weight.shape[1]))


def evidence(weight: Tensor, sigma: float) -> MultivariateNormal:
    """p(x)."""
    size = len(weight)
    return MultivariateNormal(torch.zeros(size), weight @ weight.T + sigma**2 * torch.eye(size))


def channel(x: Tensor, s: float) -> Distribution:
    """q(z | x) = N(x, s^2); for x ~ N(0, I) the mutual information is `information(d, s)`."""
    return gaussian(x, torch.full_like(x, 2 * math.log(s)))


def information(d: int, s: float) -> float:
    """I(x; z) of `channel` on x ~ N(0, I_d), in nats."""
    return 0.5 * d * math.log1p(1 / s**2)
