"""Posteriors: a network gives parameters, a family makes a law of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from uncollapse.bound import Batch
from uncollapse.errors import InputError

Family = Callable[..., Distribution]


def gaussian(mean: Tensor, log_variance: Tensor) -> Distribution:
    r"""The diagonal Gaussian N(mean, exp(log_variance)), parameters with shape (B, ...).

    The second parameter is the logarithm of the variance, not of the standard deviation.
    """
    # Laws in float32 at least: a KL of 0.01 nats drowns in bfloat16.
    scale = (0.5 * log_variance.float() if log_variance.itemsize < 4 else 0.5 * log_variance).exp()
    law = Normal(mean.to(scale.dtype), scale, validate_args=False)
    return Independent(law, max(1, mean.ndim - 1), validate_args=False)


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
