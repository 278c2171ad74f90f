"""Gaussian posteriors that cannot cost less than a given rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from uncollapse.posteriors import Posterior, gaussian
from uncollapse.quantities import Rate, nats


@dataclass
class Committed:
    r"""The family of Gaussians whose KL from N(0, I) is at least `floor` in every unit.

    .. math:: \sigma = \sigma_l + (\sigma_u - \sigma_l) \text{sigmoid}(a), \quad
              \mu = \sqrt{2 \delta + 1 + \log \sigma^2 - \sigma^2 + \text{relu}(b)}
              \;\Rightarrow\; \mathrm{KL} = \delta + \tfrac12 \text{relu}(b)

    sigma_l and sigma_u are where :math:`\log v - v + 2 \delta + 1 = 0`, v the variance.

    Arguments:
        floor: delta, in nats a unit.
    """

    floor: float

    def variances(self) -> tuple[float, float]:
        """The least and the greatest variance."""
        from scipy.special import lambertw  # Here, as few need it.

        argument = -math.exp(-(2 * self.floor + 1))
        return float(-lambertw(argument).real), float(-lambertw(argument, -1).real)

    def __call__(self, b: Tensor, a: Tensor) -> Distribution:
        low, high = (math.sqrt(variance) for variance in self.variances())
        a, b = (one.to(torch.promote_types(one.dtype, torch.float32)) for one in (a, b))
        log_variance = 2 * (low + (high - low) * a.sigmoid()).log()
        room = (2 * self.floor + 1 + log_variance - log_variance.exp()).clamp_min(0) + F.relu(b)
        # The root has no derivative at 0.
        return gaussian((room + 1e-6).sqrt(), log_variance)


def committed(net: Callable[[int], nn.Module], latent: int, rate: Rate = "0.1 nats/unit") -> Posterior:
    """A Gaussian that costs at least a given rate whatever it says (delta-VAE, independent units).

    That the rate is paid does not make z say anything: a posterior that is the same for all items pays it too. The rate
    is that under the prior N(0, I), which has to be the model's.

    References:
        | Preventing Posterior Collapse with delta-VAEs (Razavi et al., 2019)
        | https://arxiv.org/abs/1901.03416

    Arguments:
        net: Makes the encoder's network, from the number of its outputs.
        latent: The number of units.
        rate: The least rate, shared evenly by the units.
    """
    return Posterior(net(2 * latent), Committed(nats(rate, latent) / latent), (latent, latent))
