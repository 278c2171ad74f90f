"""Draws from posteriors that are functions of the item, so that no figure depends on what else is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from uncollapse.distributions import operations
from uncollapse.randomness import mixed, seeded

#: Laws other than Gaussians are drawn in blocks of this many draws, so that fewer are a prefix of more.
BLOCK = 16


def draw(law: Any, seed: int, purpose: str, items: Sequence[int], count: int) -> Tensor:
    """Draws z ~ q with shape (count, B, ...), each a function of (seed, purpose, item, number of the draw).

    Arguments:
        law: The posteriors, batch shape (B,).
        seed: Decides the noise.
        purpose: Names the stream, so that one figure's draws are not another's.
        items: The id of each of the B items.
        count: How many draws an item.
    """
    if isinstance(law, Independent) and isinstance(law.base_dist, Normal):
        loc, scale = law.base_dist.loc, law.base_dist.scale
        noise = _normal(seed, purpose, items, (count, *loc.shape[1:]))
        return loc + scale * noise.to(loc)
    host = operations.rebuild(law, {k: v.cpu() for k, v in operations.parameters(law).items()})
    draws = []
    for i, item in enumerate(items):
        one = operations.take(host, slice(i, i + 1))
        with seeded(seed, purpose, item):
            blocks = [one.sample(torch.Size((BLOCK,))) for _ in range(-(-count // BLOCK))]
        draws.append(torch.cat(blocks)[:count])
    return torch.cat(draws, 1).to(next(iter(operations.parameters(law).values())).device)


def _normal(seed: int, purpose: str, items: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal numbers with shape (count, B, ...), for each item of the shape (count, ...)."""
    size = torch.Size(shape).numel()
    # In whole blocks of 16, which torch fills one after the other: so fewer draws are a prefix of more.
    noise = torch.empty(len(items), -(-size // 16) * 16)  # One tensor: a million small ones are 600 MB.
    random = torch.Generator()
    for row, number in zip(noise.unbind(0), mixed(seed, purpose, items), strict=True):
        row.normal_(generator=random.manual_seed(number))
    return noise[:, :size].view(len(items), *shape).transpose(0, 1).contiguous()
