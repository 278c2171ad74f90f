"""The latent skip of a text decoder: z beside the states that its output matrix reads."""

from __future__ import annotations

import torch
from torch import Tensor


def beside(hidden: Tensor, z: Tensor, skip: bool) -> Tensor:
    """What the output matrix reads, (..., T, H + d) with the skip and (..., T, H) without.

    So O h + U z is one product, [O, U] [h; z], and no second tensor of logits is made.

    Arguments:
        hidden: With shape (..., T, H).
        z: With shape (..., 1, d), or (..., T, d) where each step has its own.
        skip: Whether z reaches the logits directly.
    """
    return torch.cat([hidden, z.expand(*hidden.shape[:-1], -1)], -1) if skip else hidden
