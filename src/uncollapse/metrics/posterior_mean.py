r"""The mean of the true posterior, by a grid in one or two dimensions and by importance weights beyond.

.. math:: \mathbb{E}_{p(z|x)}[z] = \frac{\int z \, p(x | z) p(z) \, dz}{\int p(x | z) p(z) \, dz}

Every rule asks a model for log p(x, z) alone, so that it holds for any decoder and any prior with a density.

References:
    | Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He et al., 2019), Appendix A
    | https://arxiv.org/abs/1901.05534
"""

from __future__ import annotations

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

#: The logarithm of no density at all; also of what is not a number, as a decoder may give far from all codes.
NOTHING = -1e300


class Means(NamedTuple):
    """The true posterior's means of B items, and how far they can be trusted."""

    mean: Tensor
    """(B, d), float64."""
    reliable: Tensor
    """(B,) bool: by a grid, whether there is any density; by cells, whether the mean has settled; by weights, whether
    enough of them count."""
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
        return (found.log_likelihood + found.log_p).double().nan_to_num(nan=NOTHING, neginf=NOTHING)

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
        mean = mean * (total - both).exp().unsqueeze(1) + weighted(mass - both, z)
        total = both
    return Means(mean, total > NOTHING / 2, len(points))


def weighted(log_weights: Tensor, z: Tensor) -> Tensor:
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
    mean = weighted(shares, z)
    error = weighted(2 * shares, (z - mean).square()).sqrt()
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
