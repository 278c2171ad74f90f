r"""How much of z's variance x explains, by unit and by direction.

.. math:: R_d = \frac{A_{dd}}{A_{dd} + N_{dd}}, \quad
          A = \text{Cov}_x(\mathbb{E}[z | x]), \quad N = \mathbb{E}_x \text{Cov}[z | x]

The generalised eigenvalues s of (A, N) are the signal-to-noise ratios of z's independent directions. No linear map of z
changes them, and of a linear-Gaussian model :math:`\frac12 \log(1 + s)` is the rate of a direction.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from uncollapse.distributions import operations
from uncollapse.metrics.draws import draw

#: Of more units no eigenvalues are taken.
MOST = 512
#: Draws an item, where a law's covariance has to be sampled.
DRAWS = 8


class Directions(NamedTuple):
    """The share of z's variance that x explains."""

    units: Tensor
    """In the shape of z."""
    ratios: Tensor | None
    """(D,), signal-to-noise ratios in descending order; None with more than 512 units, or too few items."""

    def informative(self, nats: float) -> int | None:
        """How many directions carry at least so many nats, by their ratios."""
        return None if self.ratios is None else int((0.5 * self.ratios.log1p() >= nats).sum())


def directions(law: Any, seed: int = 0) -> Directions | None:
    """The shares of the posteriors of all items, batch shape (N,); None where they have no means.

    Arguments:
        law: Independent Gaussians, whose noise is known, or any law, whose noise is sampled.
        seed: Decides those draws.
    """
    try:
        means = operations.mean(law).flatten(1).double()
    except NotImplementedError:
        return None
    n, units = means.shape
    signal, full = means - means.mean(0), units <= MOST and n > units
    noise = _noise(law, seed, full)
    variance = signal.square().mean(0)
    spread = variance + (noise.diagonal() if full else noise)
    shares = (variance / spread.clamp(min=torch.finfo(torch.float64).tiny)).view(law.event_shape)
    return Directions(shares, _ratios(signal.T @ signal / n, noise, spread) if full else None)


def _noise(law: Any, seed: int, full: bool) -> Tensor:
    """N, with shape (D, D), or its diagonal alone: all of it takes 2 GB of 16,384 units."""
    if isinstance(law, Independent) and isinstance(law.base_dist, Normal):
        variance = law.base_dist.scale.flatten(1).double().square().mean(0)
        return variance.diag() if full else variance
    # Of pairs of draws, as few laws know their covariance.
    draws = draw(law, seed, "directions", range(law.batch_shape[0]), DRAWS).flatten(2).double()
    apart = (draws[::2] - draws[1::2]).flatten(0, 1)
    return apart.T @ apart / (2 * len(apart)) if full else apart.square().mean(0) / 2


def _ratios(signal: Tensor, noise: Tensor, spread: Tensor) -> Tensor:
    """The generalised eigenvalues of signal and noise, with each unit in its own spread first."""
    unit = spread.clamp(min=torch.finfo(torch.float64).tiny).rsqrt()
    signal, noise = unit.unsqueeze(1) * signal * unit, unit.unsqueeze(1) * noise * unit
    noise = noise + 1e-12 * torch.eye(len(unit), dtype=torch.float64)
    root = torch.linalg.cholesky_ex(noise).L
    whitened = torch.linalg.solve_triangular(
        root, torch.linalg.solve_triangular(root, signal, upper=False).T, upper=False
    )
    return torch.linalg.eigvalsh(0.5 * (whitened + whitened.T)).clamp(min=0).flip(0)
