"""Posteriors that are codes on the unit sphere with a little noise."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from uncollapse.bound import Batch
from uncollapse.posteriors import gaussian
from uncollapse.quantities import Positive


class UnitCodes(nn.Module):
    r"""q(z | x) = N(f(x) / |f(x)|, s^2 I), of an s that is the same for all items and is not learned.

    References:
        | Adversarially Regularized Autoencoders (Zhao et al., 2018), who add the noise in training alone
        | https://arxiv.org/abs/1706.04223

    Arguments:
        net: f, from a batch to (B, d).
        noise: s, which a dial may move; it stays in evaluation, so that there is a density.
    """

    def __init__(self, net: nn.Module, noise: float) -> None:
        super().__init__()
        self.net, self.noise = net, noise

    def forward(self, x: Batch) -> Distribution:
        code: Tensor = F.normalize(self.net(x), dim=-1)
        return gaussian(code, (2 * code.new_tensor(self.noise).log()).expand_as(code))


def unit_codes(net: Callable[[int], nn.Module], latent: int, noise: Positive = 0.05) -> UnitCodes:
    """Codes of length 1 with Gaussian noise of one size; see `UnitCodes`.

    Arguments:
        net: Makes the encoder's network, from the number of its outputs.
        latent: The number of units.
        noise: The standard deviation of the noise.
    """
    return UnitCodes(net(latent), noise)
