"""Terms of the bound itself: how badly x is told from z, and what z costs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from uncollapse.bound import Bound
from uncollapse.quantities import Positive, Rate, nats


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


@dataclass
class FreeBitsPerItem:
    r"""The rate, but no group of units of any item is charged less than its share of a floor.

    .. math:: \mathbb{E}_x \sum_{k=1}^K \max(r / K, \mathrm{KL}(q(z_k | x) \| p(z_k)))

    By Jensen's inequality it is never less than `FreeBits`; it also stops items whose groups are below the floor though
    the batch's mean is above it. Its gradient is that of charging nothing below the floor, as in the code of Li et al.

    References:
        | A Surprisingly Effective Fix for Deep Latent Variable Modeling of Text (Li et al., 2019)
        | https://arxiv.org/abs/1909.00868

    Arguments:
        floor: r, shared evenly by the K groups.
    """

    floor: Rate

    def __call__(self, bound: Bound) -> Tensor:
        return bound.kl.clamp_min(per_item(self.floor, bound) / bound.kl.shape[1]).sum(1).mean()


@dataclass
class FreeBitsTotal:
    r"""The rate, but never less than a floor, whichever units carry it.

    .. math:: \max(r, \mathbb{E}_x \mathrm{KL}(q(z | x) \| p(z)))

    Below the floor there is no gradient. The maximum is taken of the mean over the batch; of several processes each
    takes it of its own items.

    References:
        | Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), with one group
        | https://arxiv.org/abs/1606.04934

    Arguments:
        floor: r.
    """

    floor: Rate

    def __call__(self, bound: Bound) -> Tensor:
        return bound.rate.mean().clamp_min(per_item(self.floor, bound))


@dataclass
class FreeBitsTotalPerItem:
    r"""The rate, but no item is charged less than a floor, whichever units carry it.

    .. math:: \mathbb{E}_x \max(r, \mathrm{KL}(q(z | x) \| p(z)))

    References:
        | Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), with one group
        | https://arxiv.org/abs/1606.04934

    Arguments:
        floor: r.
    """

    floor: Rate

    def __call__(self, bound: Bound) -> Tensor:
        return bound.rate.clamp_min(per_item(self.floor, bound)).mean()


@dataclass
class HABits:
    r"""The rate of the average unit, but never less than a floor: HA bits.

    .. math:: \frac{1}{d} \max(r, \mathbb{E}_x \mathrm{KL}(q(z | x) \| p(z)))

    The threshold is on the average of all units, and what is charged is an average too: above the floor it is the rate
    at weight 1 / d. Times d it is `FreeBitsTotal`, which charges the sum. Of several processes each takes the maximum
    of its own items.

    References:
        | https://github.com/kastnerkyle/pytorch-text-vae

    Arguments:
        floor: r; "0.2 nats/unit" is 0.2 for the average of the units.
    """

    floor: Rate

    def __call__(self, bound: Bound) -> Tensor:
        return bound.rate.mean().clamp_min(per_item(self.floor, bound)) / bound.z.shape[2:].numel()


@dataclass
class Capacity:
    r"""How far the rate is from a capacity, on either side, times a large factor.

    .. math:: \gamma \, | \mathbb{E}_x \mathrm{KL}(q(z | x) \| p(z)) - C |

    The capacity is for a dial to move. The gradient changes its sign where the rate is the capacity. Of several
    processes each compares the rate of its own items.

    References:
        | Understanding disentangling in beta-VAE (Burgess et al., 2018)
        | https://arxiv.org/abs/1804.03599

    Arguments:
        gamma: The factor.
        capacity: C.
    """

    gamma: Positive
    capacity: Rate = 0.0

    def __call__(self, bound: Bound) -> Tensor:
        return self.gamma * (bound.rate.mean() - per_item(self.capacity, bound)).abs()
