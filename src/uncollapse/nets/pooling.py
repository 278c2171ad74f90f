"""One state a text, from the states of its tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def pooled(states: Tensor, real: Tensor, pooling: str) -> Tensor:
    """A state for every text, with shape (B, H).

    Arguments:
        states: Of the tokens, with shape (B, T, H).
        real: Which of them are no padding, which is on the right, with shape (B, T).
        pooling: "first" or "last" for the state of that token, "max" for the largest number of each unit over the text,
            "mean" for their mean.
    """
    lengths, mask = real.sum(1, keepdim=True), real.unsqueeze(2)
    if pooling == "first":
        return states[:, 0]
    if pooling == "max":
        return states.masked_fill(~mask, -torch.inf).amax(1)
    if pooling == "mean":
        return states.masked_fill(~mask, 0).sum(1) / lengths
    return states.take_along_dim((lengths - 1).unsqueeze(2), 1).squeeze(1)
