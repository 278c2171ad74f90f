"""How far the mutual information reads below the truth, as a markdown table.

For x ~ N(0, I_d) and q(z|x) = N(x, s^2 I) the truth is d/2 log(1 + 1/s^2). Every replicate is a new data set.
Run it with `python benchmarks/mi_bias.py`; it takes about six minutes on one core.
"""

from __future__ import annotations

import math

import torch

from uncollapse.metrics.estimate import Estimate
from uncollapse.metrics.information import is_floor, mutual_information
from uncollapse.posteriors import gaussian

SEED = 20260101
DIMENSIONS, SCALES = (1, 4, 32), (2.0, 1.0, 0.5, 0.2)
SIZES = {400: 200, 2000: 40, 10_000: 20}  # items: replicates


def main() -> None:
    print("| d | s | n | cap | true I | mean of `mi` | bias | `bias` says | se | covers | warns |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for d in DIMENSIONS:
        for s in SCALES:
            for n, replicates in SIZES.items():
                print(row(d, s, n, replicates), flush=True)


def row(d: int, s: float, n: int, replicates: int) -> str:
    """One row of the table."""
    torch.manual_seed(SEED)
    truth = 0.5 * d * math.log1p(1 / s**2)
    found = [estimate(d, s, n, seed) for seed in range(replicates)]
    value, bias, se = (sum(getattr(e, k) for e in found) / replicates for k in ("value", "bias", "se"))
    error = torch.tensor([e.value for e in found]).std().item() / math.sqrt(replicates)
    covers = sum(abs(e.value - truth) <= 1.96 * e.se for e in found) / replicates
    warns = sum(map(is_floor, found)) / replicates
    figures = (
        f"{math.log(n):.2f} | {truth:.3f} | {value:.3f} | {value - truth:.3f} ± {error:.3f} | {bias:.3f} | {se:.3f}"
    )
    return f"| {d} | {s} | {n} | {figures} | {covers:.0%} | {warns:.0%} |"


def estimate(d: int, s: float, n: int, seed: int) -> Estimate:
    """The mutual information of a new data set of n items."""
    x = torch.randn(n, d)
    found = mutual_information(gaussian(x, torch.full_like(x, 2 * math.log(s))), seed, passes=1)
    assert isinstance(found, Estimate)
    return found


if __name__ == "__main__":
    main()
