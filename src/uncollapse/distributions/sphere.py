"""What laws on the unit sphere share: its area, and points at an angle to a direction."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_area(dimension: int) -> float:
    r"""The logarithm of the area of the unit sphere in R^d.

    .. math:: \log \frac{2 \pi^{d/2}}{\Gamma(d/2)}
    """
    return math.log(2) + dimension / 2 * math.log(math.pi) - math.lgamma(dimension / 2)


def around(direction: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Random points at an angle to a direction, uniform among those at that angle, (..., d).

    No reflection that takes a pole to the direction is needed, so that nothing is odd where the two meet.

    Arguments:
        direction: Unit vectors, (B, d).
        cosine, sine: Of the angle, with shape (..., B).
    """
    noise = torch.randn(*cosine.shape, direction.shape[-1], dtype=direction.dtype, device=direction.device)
    beside = noise - (noise * direction).sum(-1, keepdim=True) * direction
    beside = beside / beside.norm(dim=-1, keepdim=True)
    return cosine.unsqueeze(-1) * direction + sine.unsqueeze(-1) * beside


def direction(vector: Tensor) -> Tensor:
    """The unit vector of each vector (..., d); of 0 the first axis, with no gradient."""
    axis = torch.zeros_like(vector).index_fill(-1, torch.zeros(1, dtype=torch.long, device=vector.device), 1.0)
    vector = torch.where((vector == 0).all(-1, keepdim=True), axis, vector)
    # By the largest element first: the squares of small ones would vanish.
    vector = vector / vector.detach().abs().amax(-1, keepdim=True)
    return vector / vector.norm(dim=-1, keepdim=True)
