"""Posteriors that an invertible network, told of the item, makes of a Gaussian."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.distributions.flowed import FlowedNormal, autoregressive
from uncollapse.distributions.scoring import wide
from uncollapse.posteriors import Posterior
from uncollapse.quantities import Count


class Flows(nn.Module):
    """The family of a flow that all items share.

    Arguments:
        latent: The number of units D.
        transforms: How many steps.
        hidden: The widths of the hidden layers of each step's network.
        context: C, how many numbers it is told of an item.
    """

    def __init__(self, latent: int, transforms: int, hidden: Sequence[int], context: int) -> None:
        super().__init__()
        self.flow = autoregressive("the posterior `flow`", latent, transforms, hidden, context).transform

    def forward(self, mean: Tensor, log_variance: Tensor, context: Tensor) -> Distribution:
        """The law of e ~ N(mean, exp(log_variance)), each (B, D), after the flow told of context (B, C)."""
        mean, log_variance, context = wide(mean), wide(log_variance), wide(context)
        return FlowedNormal(self.flow, mean, (0.5 * log_variance).exp(), context)


def flow(
    net: Callable[[int], nn.Module],
    latent: int,
    transforms: Count = 4,
    hidden: Sequence[Count] = (64, 64),
    context: Count = 32,
) -> Posterior:
    r"""An inverse autoregressive flow: a Gaussian after invertible steps, each told of the item.

    .. math:: z = f_K \circ \dots \circ f_1(e), \; e \sim N(\mu, \sigma^2), \quad
              f_k(v)_j = v_j \, a_{kj}(v_{<j}, h) + b_{kj}(v_{<j}, h)

    mu, sigma and h are the encoder's. The KL, in nats, is the mean of log q - log p over the draws and does not split
    by unit. A draw takes one pass of each step, the density of another z as many as there are units: training pays for
    the first alone, and figures that need the second are of fewer items. It needs the extra `flows` (zuko).

    References:
        | Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016)
        | https://arxiv.org/abs/1606.04934

    Arguments:
        net: Makes the encoder's network, from the number of its outputs, 2 D + C here.
        latent: The number of units D.
        transforms: K, every other one with its units the other way round.
        hidden: The widths of the hidden layers of each step's network.
        context: C, the size of h.

    Raises:
        InputError: where zuko is not installed.
    """
    family = Flows(latent, transforms, hidden, context)
    return Posterior(net(2 * latent + context), family, (latent, latent, context))
