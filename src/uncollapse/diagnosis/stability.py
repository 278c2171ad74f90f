r"""Whether posteriors still change: those of the same items at two times of a training.

.. math:: r = \frac{\sum_i a_i \cdot b_i}{\sqrt{\sum_i |a_i|^2 \sum_i |b_i|^2}}, \quad
          \text{change of width} = \exp \overline{|\log (\sigma' / \sigma)|} - 1

a and b are the posterior means less their average; the standard error of r is over items, by its influence function.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor

from uncollapse.metrics.rows import Rows
from uncollapse.metrics.usage import euclidean


class Stability(NamedTuple):
    """How far two looks at the same items agree."""

    means: float
    """The correlation of the posterior means."""
    se: float
    """Its standard error over items."""
    widths: float | None
    """By what share standard deviations have changed, on average; None of laws that are no independent Gaussians."""


def stability(before: Rows, after: Rows) -> Stability | None:
    """The agreement of two looks; None where they are of other items or laws, or where means do not vary."""
    if before.means is None or after.means is None or before.means.shape != after.means.shape:
        return None
    a, b = ((means - means.mean(0)).double().flatten(1) for means in (before.means, after.means))
    of_a, of_b = a.square().sum(1), b.square().sum(1)
    spread = math.sqrt(of_a.sum().item() * of_b.sum().item())
    if spread <= 1e-6 * len(a):
        return None
    r = ((a * b).sum() / spread).item()
    influence: Tensor = (a * b).sum(1) / spread - r / 2 * (of_a / of_a.sum() + of_b / of_b.sum())
    return Stability(r, influence.square().sum().sqrt().item(), _widths(before.law, after.law))


def _widths(before: Any, after: Any) -> float | None:
    if not (euclidean(before) and euclidean(after)):
        return None
    return (after.base_dist.scale.log() - before.base_dist.scale.log()).abs().mean().exp().item() - 1
