r"""The mean of the true posterior, by rules of quadrature in one or two dimensions and by importance weights beyond.

.. math:: \mathbb{E}_{p(z|x)}[z] = \frac{\int z \, p(x | z) p(z) \, dz}{\int p(x | z) p(z) \, dz}

Every rule asks a model for log p(x, z) alone, so that it holds for any decoder and any prior with a density.

References:
    | Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He et al., 2019), Appendix A
    | https://arxiv.org/abs/1901.05534
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from uncollapse.bound import Batch, Bound, size
from uncollapse.distributions import operations
from uncollapse.distributions.loose import loose, tight
from uncollapse.errors import InputError
from uncollapse.inference import Aim
from uncollapse.metrics.rows import OWN_NOISE, SEQUENCES
from uncollapse.model import Model, ask
from uncollapse.posteriors import gaussian
from uncollapse.refinement import Slope, Values, detached, loss_of, slopes, start

#: From points z (S, B, d) to log p(x, z) (S, B), in float64.
Joint = Callable[[Tensor], Tensor]

#: z is looked for in the cube from -HALF to HALF.
HALF = 20.0
#: How far the points of the grid are apart, by dimension: the paper's stride, and the default of its authors' toy.py.
STRIDE = {1: 0.01, 2: 0.1}
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


class Means(NamedTuple):
    """The true posterior's means of B items, and how far they can be trusted."""

    mean: Tensor
    """(B, d), float64."""
    reliable: Tensor
    """(B,) bool: by quadrature, whether the last refinement moved the mean less than the tolerance; by weights,
    whether enough of them count."""
    evaluations: int
    """How many points z of an item its decoder was asked for."""
    error: Tensor | None = None
    """(B, d), the standard error of the mean; None by quadrature."""
    effective: Tensor | None = None
    """(B,), the effective number of samples, (sum w)^2 / sum w^2; None by quadrature."""


def joint(model: Callable[..., Bound], x: Batch, like: Tensor) -> Joint:
    """log p(x, z) of a batch at any points, some points at a time.

    Arguments:
        model: Any model that draws z from the law that it is given.
        x: The batch.
        like: (B, d), of the type and on the device of its z.

    Raises:
        InputError: when asked, where the model draws other points.
    """
    carrier, step = gaussian(torch.zeros_like(like), torch.zeros_like(like)), max(1, SEQUENCES // size(x))

    def some(z: Tensor) -> Tensor:
        found = ask(model, x, operations.fixed(carrier, z), len(z))
        if found.z is not z and not torch.equal(found.z, z):
            raise InputError(f"the true posterior's mean is not known: {OWN_NOISE}")
        return (found.log_likelihood + found.log_p).double()

    return lambda z: torch.cat([some(part) for part in z.to(like).split(step)])


def grid(density: Joint, items: int, dimensions: int = 1, half: float = HALF, stride: float | None = None) -> Means:
    r"""The mean over a regular grid, as in the reference.

    .. math:: \mu_x = \sum_i z_i \frac{p(x, z_i)}{\sum_j p(x, z_j)}

    For a Gaussian posterior with standard deviation s and a stride h the error is at most
    :math:`(4 \pi s^2 / h) \exp(-2 \pi^2 s^2 / h^2)`: less than 1e-8 where s is h or more.

    Arguments:
        density: log p(x, z).
        items: B.
        dimensions: d, 1 or 2.
        half: The grid is from -half to half, the right end left out.
        stride: h; 0.01 in one dimension and 0.1 in two where it is None.
    """
    stride = stride or STRIDE[dimensions]
    line = -half + stride * torch.arange(round(2 * half / stride), dtype=torch.float64)
    points = torch.cartesian_prod(*[line] * dimensions).view(-1, dimensions)
    total = torch.full((items,), -torch.inf, dtype=torch.float64)
    mean = torch.zeros(items, dimensions, dtype=torch.float64)
    for block in points.split(SEQUENCES):
        z = block.unsqueeze(1).expand(-1, items, -1)
        mass = density(z).cpu()
        here = mass.logsumexp(0)
        both = total.logaddexp(here)
        mean = mean * (total - both).exp().unsqueeze(1) + _weighted(mass - both, z)
        total = both
    return Means(mean, torch.ones(items, dtype=torch.bool), len(points))


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
    settled = torch.zeros(items, dtype=torch.bool)
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
        settled = seen & ((mean - before).abs().amax(1) < tolerance)
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
        return _weighted(self.mass, _z(self.u, half))

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


def _weighted(log_weights: Tensor, z: Tensor) -> Tensor:
    """(B, d), the sum of points (S, B, d) by their weights (S, B)."""
    return (log_weights.exp().unsqueeze(2) * z).sum(0)


def by_weights(log_weights: Tensor, z: Tensor, least: float = 10.0) -> Means:
    r"""The mean by self-normalised importance weights, with its error and how many samples count.

    .. math:: \mu = \sum_k \tilde w_k z_k, \quad \text{se}^2 = \sum_k \tilde w_k^2 (z_k - \mu)^2, \quad
              \text{ESS} = 1 / \sum_k \tilde w_k^2, \qquad \tilde w_k = w_k / \sum_j w_j

    The weights know only of what was drawn: a mode of p(z | x) that q never visits shows in neither figure.

    Arguments:
        log_weights: log p(x, z) - log q(z | x), with shape (S, B).
        z: The draws from q, with shape (S, B, d).
        least: The effective samples from which a mean is called reliable: at 10 its error is a third of the
            posterior's own spread.
    """
    log_weights, z = log_weights.double().cpu(), z.double().cpu()
    shares = log_weights - log_weights.logsumexp(0)
    mean = _weighted(shares, z)
    error = _weighted(2 * shares, (z - mean).square()).sqrt()
    effective = (-(2 * shares).logsumexp(0)).exp()
    return Means(mean, effective >= least, len(z), error, effective)


@dataclass(frozen=True)
class Refined:
    """Finds q by Adam on each item's own bound from the encoder's answer, on a scale of its own for every number.

    An inference for `metrics.rows.infer`; to train with, see `refinement`.

    Arguments:
        count: How many steps.
        rate: About how far a number goes in a step.

    Raises:
        InputError: for a model whose posterior cannot be refined.
    """

    count: int = 100
    rate: float = 0.1

    def __call__(self, model: Model, x: Batch, aim: Aim) -> Distribution:
        with torch.enable_grad():
            law = start(model, x)
            loss = loss_of(model, x, aim, law)
            return tight(law, self._descended(detached(loose(law)), partial(slopes, loss)))

    def _descended(self, values: Values, slope: Slope) -> Values:
        first = {name: torch.zeros_like(value) for name, value in values.items()}
        second = {name: torch.zeros_like(value) for name, value in values.items()}
        for t in range(1, self.count + 1):
            for name, g in slope(values).items():
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.99 * second[name] + 0.01 * g.square()
                scale = (second[name] / (1 - 0.99**t)).sqrt() + 1e-8
                # Ever smaller steps, as each draws noise anew.
                rate = self.rate * (1 - (t - 1) / self.count)
                values = {**values, name: values[name] - rate * first[name] / (1 - 0.9**t) / scale}
        return values
