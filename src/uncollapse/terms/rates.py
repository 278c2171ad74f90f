"""Terms of the bound itself: how badly x is told from z, and what z costs."""

from __future__ import annotations

from torch import Tensor

from uncollapse.bound import Bound


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
