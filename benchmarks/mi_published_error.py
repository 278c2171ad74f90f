"""How far the standard error of `mi_published` is from the spread of the figure, as a markdown table.

For x ~ N(0, I_d) and q(z|x) = N(x, s^2 I), 320 items in batches of B. Every replicate is a new data set.
Run it with `python benchmarks/mi_published_error.py`; it takes about two minutes on one core.
"""

from __future__ import annotations

import math

import torch

from uncollapse.metrics.estimate import Estimate
from uncollapse.metrics.information import mi_published
from uncollapse.posteriors import gaussian

SEED, ITEMS, REPLICATES = 20260101, 320, 1200
CASES = ((1, 0.5, 32), (4, 2.0, 32), (1, 0.5, 4))


def main() -> None:
    print("| d | s | B | spread | mean of `se` | ratio |")
    print("|---|---|---|---|---|---|")
    for d, s, size in CASES:
        torch.manual_seed(SEED)
        found = [estimate(d, s, size, seed) for seed in range(REPLICATES)]
        spread = torch.tensor([e.value for e in found]).std().item()
        error = sum(e.se for e in found) / REPLICATES
        print(f"| {d} | {s} | {size} | {spread:.4f} | {error:.4f} | {spread / error:.2f} |", flush=True)


def estimate(d: int, s: float, size: int, seed: int) -> Estimate:
    """The figure of a new data set."""
    x = torch.randn(ITEMS, d)
    found = mi_published(gaussian(x, torch.full_like(x, 2 * math.log(s))), torch.arange(ITEMS) // size, seed)
    assert isinstance(found, Estimate)
    return found


if __name__ == "__main__":
    main()
