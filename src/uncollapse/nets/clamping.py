"""Units of z that say what the items of a batch have in common."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.bound import Given
from uncollapse.errors import InputError
from uncollapse.quantities import Count, Weight


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, active: Tensor, pull: float) -> Tensor:
        apart = z - z.mean(-2, keepdim=True)
        ctx.save_for_backward(active, apart)
        ctx.pull = pull
        return torch.where(active, z, z - apart)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        active, apart = ctx.saved_tensors
        return torch.where(active, gradients[0], ctx.pull * apart), None, None


def clamped(z: Tensor, active: Tensor, pull: float = 0.01) -> Tensor:
    r"""z with the units that are not active replaced by their mean over the items.

    Backward, the gradient of such a unit is none of a loss: it is :math:`k (z_i - \bar z)`, which draws the items'
    numbers together, whatever comes after.

    Arguments:
        z: With shape (..., B, d).
        active: Which units are, with shape (d,).
        pull: k.
    """
    return _Clamp.apply(z, active, pull)  # pyright: ignore[reportReturnType]


class Clamped(nn.Module):
    """A decoder whose first units of z say the class of an item alone, as batches of one class teach it.

    In training mode, where all items of a batch are of one class, the decoder sees the mean over the items in place of
    these units, and their gradient draws them together (`clamped`); of other batches, and in evaluation, all of z as it
    is. The rate is of z as it was drawn.

    References:
        | Deep Convolutional Inverse Graphics Network (Kulkarni et al., 2015)
        | https://arxiv.org/abs/1503.03167

    Arguments:
        decoder: What is wrapped.
        latent: The number of units of z.
        first: How many of them, the first, say the class.
        pull: How strongly they are drawn together.

    Raises:
        InputError: for more units than there are, and, in training, for items without labels.
    """

    active: Tensor

    def __init__(self, decoder: nn.Module, latent: int, first: Count, pull: Weight = 0.01) -> None:
        super().__init__()
        if first >= latent:
            raise InputError(f"{first} units of z are to say the class, and there are {latent}: leave some for others.")
        self.decoder, self.pull = decoder, pull
        self.register_buffer("active", torch.arange(latent) >= first, persistent=False)
        if "paint" in dir(decoder):  # Who writes items asks for it by its name.
            self.paint, self.shape = decoder.paint, decoder.shape

    def forward(self, z: Tensor, seen: Any) -> Distribution:
        if not self.training:
            return self.decoder(z, seen)
        if not isinstance(seen, Given):
            raise InputError("a decoder is to be clamped by class, and sees no labels: set `model.tells: wrappers`.")
        alike = bool((seen.label == seen.label[0]).all())
        return self.decoder(clamped(z, self.active, self.pull) if alike else z, seen)
