"""Terms of the bound itself: how badly x is told from z, and what z costs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from uncollapse.bound import Bound
from uncollapse.quantities import Rate, nats


def distortion(bound: Bound) -> Tensor:
    r"""The reconstruction cost, in nats: summed over an item, mean over items.

    .. math:: -\mathbb{E}_x \mathbb{E}_{q(z|x)} \log p(x | z)
    """
    return bound.distortion.mean()


def rate(bound: Bound) -> Tensor:
    r"""The cost of the latent code, in nats: summed over units, mean over items.

    .. math:: \mathbb{E}_x \mathrm{KL}(q(z | x) \| p(z))
    """
    return bound.rate.mean()


def per_item(said: float | str, bound: Bound) -> float:
    """A rate in nats an item; one such as "0.25 nats/unit" counts the units of the bound's z."""
    return nats(said, bound.z.shape[2:].numel())


@dataclass
class FreeBits:
    r"""The rate, but no group of units is charged less than its share of a floor: free bits.

    .. math:: \sum_{k=1}^K \max(r / K, \mathbb{E}_x \mathrm{KL}(q(z_k | x) \| p(z_k)))

    A group whose mean is below its share has no gradient, so that it may carry so much at no cost. The maximum is taken
    of the mean over the batch, as in the paper; of several processes each takes it of its own items.

    References:
        | Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016)
        | https://arxiv.org/abs/1606.04934

    Arguments:
        floor: r, shared evenly by the K groups.
    """

    floor: Rate

    def __call__(self, bound: Bound) -> Tensor:
        return bound.kl.mean(0).clamp_min(per_item(self.floor, bound) / bound.kl.shape[1]).sum()
