"""Priors: modules whose `forward()` returns a law."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal


class StandardNormal(nn.Module):
    r"""The prior N(0, I).

    Arguments:
        latent: The number of latent units D, or the shape of z, such as (4, 8, 8).
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, latent: int | Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(latent), persistent=False)
        self.register_buffer("scale", torch.ones(latent), persistent=False)

    def forward(self) -> Distribution:
        return Independent(Normal(self.loc, self.scale, validate_args=False), self.loc.ndim, validate_args=False)

    def extra_repr(self) -> str:
        return f"latent={self.loc.numel() if self.loc.ndim == 1 else tuple(self.loc.shape)}"
