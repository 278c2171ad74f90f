"""Critics: networks that tell draws of one law from those of another."""

from __future__ import annotations

from torch import Tensor, nn

from uncollapse.nets.mlp import layers
from uncollapse.quantities import Count


class LatentCritic(nn.Module):
    """Tells where a latent variable is from through layers of rectified units.

    Arguments:
        latent: The number of units of z.
        hidden: The widths of the hidden layers, the first of them next to z; none for a linear critic.
    """

    def __init__(self, latent: int, hidden: list[Count] = [1000, 1000]) -> None:  # noqa: B006 - never written to
        super().__init__()
        self.layers = layers(latent, hidden, 1)

    def forward(self, z: Tensor) -> Tensor:
        """The logit that z is from the first law, with shape (...,) for z (..., d)."""
        return self.layers(z).squeeze(-1)
