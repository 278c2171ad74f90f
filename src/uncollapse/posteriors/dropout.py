"""Posteriors of multiplicative noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn import functional as F

from uncollapse.distributions.factors import Multiplied
from uncollapse.posteriors import Posterior
from uncollapse.quantities import Positive


@dataclass(frozen=True)
class Noisy:
    """The family of sizes times log-normal noise.

    Arguments:
        sizes: What makes them of numbers.
        most, least: The limits of the noise.
    """

    sizes: Literal["softplus", "relu"]
    most: float
    least: float

    def __call__(self, size: Tensor, spread: Tensor) -> Distribution:
        size, spread = (one.to(torch.promote_types(one.dtype, torch.float32)) for one in (size, spread))
        positive = F.relu(size) if self.sizes == "relu" else F.softplus(size)
        return Multiplied(positive, (self.most * spread.sigmoid()).clamp_min(self.least))


def information_dropout(
    net: Callable[[int], torch.nn.Module],
    latent: int,
    sizes: Literal["softplus", "relu"] = "softplus",
    most: Positive = 0.7,
    least: Positive = 1e-3,
) -> Posterior:
    r"""Positive units times log-normal noise, of which the network says how much (information dropout).

    .. math:: z = f(x) e^{a(x) \epsilon}, \quad a = a_{\max} \sigma(g(x)), \quad \epsilon \sim N(0, 1)

    Under the prior `log-normal`, with units by softplus,
    :math:`\mathrm{KL} = \sum_d (a^2 + (\log f - \mu)^2) / 2 s^2 - \log(a / s) - 1/2`; under `log-uniform`, with
    rectified units, :math:`-\log a` of each unit above 0. In nats. The mean, as it is encoded, is f: without noise.

    References:
        | Information Dropout: Learning Optimal Representations Through Noisy Computation (Achille & Soatto, 2018)
        | https://arxiv.org/abs/1611.01353

    Arguments:
        net: Makes the encoder's network, from the number of its outputs.
        latent: The number of units.
        sizes: "softplus" for sizes above 0, "relu" for sizes from 0 on.
        most: The largest noise, which a network that learns nothing would choose.
        least: The smallest, as the KL grows beyond any limit with less.
    """
    return Posterior(net(2 * latent), Noisy(sizes, most, least), (latent, latent))
