r"""The mean of the true posterior of one or two units, by cells that are divided where the mass is."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from uncollapse.metrics.posterior_mean import HALF, NOTHING, Joint, Means, weighted

#: The adaptive rule's first cells along a dimension, and the most points of an item: a twentieth of the grid's.
SIDE, BUDGET = {1: 64, 2: 32}, {1: 200, 2: 8000}
#: The first cells are this much wider at the ends of the cube than they would be on a scale without stretch.
_STRETCH = 3.0
#: Cells with a smaller share of an item's mass are left as they are.
_LIGHT = 1e-5
#: The largest share of the cells that are left for want of points.
_DIVIDED = 1e-3
#: A cell with a larger share is wider than the posterior, which is not seen yet.
_HEAVY = 0.4
#: The share from which a cell's wider neighbours may hide what matters, and of how many cells they are looked at.
_NEAR, _PEAKS = 0.01, 9


def adaptive(
    density: Joint,
    items: int,
    dimensions: int = 1,
    half: float = HALF,
    tolerance: float = 1e-4,
    budget: int | None = None,
) -> Means:
    r"""The mean by a midpoint rule whose cells are divided where the mass is, each item's own, until it settles.

    The cells are equal on a scale u with :math:`z \propto \sinh 3u`, about 0.2 wide at 0 in one dimension. Each round
    divides the cells with more than 1e-5 of an item's mass into three along each dimension, so that points are used
    again, and with them wider neighbours, whose own centres a narrow mode at their border does not reach. It ends when
    no mean has moved by more than the tolerance and no cell is wider than the posterior; from there on the rule
    converges exponentially, so that the error is far below the last move. A mode much narrower than a first cell, far
    from any other, can be missed.

    Arguments:
        density: log p(x, z).
        items: B.
        dimensions: d, 1 or 2.
        half: z is looked for in the cube from -half to half.
        tolerance: The largest move of a mean that has settled.
        budget: The most points of an item; 200 in one dimension and 8,000 in two where it is None.
    """
    budget, children = budget or BUDGET[dimensions], 3**dimensions
    cells = _first(density, items, dimensions, half)
    mean, spent = cells.mean(half), len(cells.u)
    settled, exists = torch.zeros(items, dtype=torch.bool), cells.density.amax(0) > NOTHING / 2
    while not settled.all():
        urgency = cells.mass.maximum(cells.hidden())
        order = urgency.argsort(0, descending=True)
        needed = int((urgency > math.log(_LIGHT)).sum(0)[~settled].max())
        count = min(needed, (budget - spent) // (children - 1))
        # Cells of two widths where the mass is cost more accuracy than the division of some gains.
        if urgency.gather(0, order[count:])[:, ~settled].exp().sum(0).max() > _DIVIDED:
            break
        cells = _divided(cells, order, count, density, half)
        before, mean, spent = mean, cells.mean(half), spent + count * (children - 1)
        seen = (cells.mass.amax(0).exp() < _HEAVY) & (cells.hidden().amax(0).exp() < _NEAR)
        settled = seen & exists & ((mean - before).abs().amax(1) < tolerance)
    return Means(mean, settled, spent)


class _Cells(NamedTuple):
    """Cubes on the scale u, n of each of B items."""

    u: Tensor
    """(n, B, d), their centres."""
    width: Tensor
    """(n, B)."""
    density: Tensor
    """(n, B), log p(x, z) at the centre, and the logarithm of how z stretches there."""

    @property
    def mass(self) -> Tensor:
        """(n, B), the logarithm of what each holds of its item's mass."""
        mass = self.density + self.u.shape[2] * self.width.log()
        return mass - mass.logsumexp(0)

    def mean(self, half: float) -> Tensor:
        return weighted(self.mass, _z(self.u, half))

    def hidden(self) -> Tensor:
        """(n, B), the mass of the heaviest cells that each touches and is wider than; -inf for none."""
        found = torch.full_like(self.mass, -torch.inf)
        mass, peaks = self.mass.topk(min(_PEAKS, len(self.u)), 0)
        for weight, which in zip(mass, peaks.unsqueeze(1), strict=True):
            width = self.width.gather(0, which)
            apart = (self.u - _taken(self.u, which)).abs().amax(2)
            touches = (apart < 0.51 * (self.width + width)) & (self.width > 1.5 * width)
            found = torch.where(touches, found.maximum(weight), found)
        return found


def _first(density: Joint, items: int, dimensions: int, half: float) -> _Cells:
    side = SIDE[dimensions]
    line = (2 * torch.arange(side, dtype=torch.float64) + 1) / side - 1
    u = torch.cartesian_prod(*[line] * dimensions).view(-1, 1, dimensions).expand(-1, items, -1)
    return _Cells(u, torch.full(u.shape[:2], 2 / side, dtype=torch.float64), _stretched(density, u, half))


def _divided(cells: _Cells, order: Tensor, count: int, density: Joint, half: float) -> _Cells:
    """The cells with the first of each item's divided; a child at the centre keeps its parent's density."""
    dimensions = cells.u.shape[2]
    chosen, left = order[:count], order[count:]
    third = cells.width.gather(0, chosen) / 3
    steps = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)] * dimensions)
    steps = steps.view(-1, dimensions)
    steps = steps[steps.abs().sum(1) > 0]
    parents = _taken(cells.u, chosen)
    u = (parents + steps.view(-1, 1, 1, dimensions) * third.unsqueeze(2)).flatten(0, 1)
    old = torch.cat([left, chosen])
    return _Cells(
        torch.cat([_taken(cells.u, old), u]),
        torch.cat([cells.width.gather(0, left), third, third.repeat(len(steps), 1)]),
        torch.cat([cells.density.gather(0, old), _stretched(density, u, half)]),
    )


def _taken(u: Tensor, which: Tensor) -> Tensor:
    return u.gather(0, which.unsqueeze(2).expand(-1, -1, u.shape[2]))


def _z(u: Tensor, half: float) -> Tensor:
    return half * (_STRETCH * u).sinh() / torch.tensor(_STRETCH, dtype=u.dtype).sinh()


def _stretched(density: Joint, u: Tensor, half: float) -> Tensor:
    """log p(x, z(u)) dz/du, but for a constant."""
    return density(_z(u, half)).cpu() + (_STRETCH * u).cosh().log().sum(2)
