"""95 % intervals hold the truth in 95 % of new data sets."""

from __future__ import annotations

import torch

from linear_gaussian import channel, evidence, information, orthogonal, vae
from uncollapse.metrics.estimate import Answer, Estimate
from uncollapse.metrics.information import mutual_information
from uncollapse.metrics.likelihood import nll
from uncollapse.metrics.rows import collect

# Fixed before the first look, and not to be changed.
SEED = 20260101
REPLICATES = 2000
N = 400


def _covers(answer: Answer, truth: float) -> bool:
    assert isinstance(answer, Estimate)
    return abs(answer.value - truth) <= 1.96 * answer.se


def test_intervals_of_the_nll_cover_the_truth() -> None:
    weight, sigma = orthogonal(1.5, size=3), 0.7
    model, law = vae(weight, sigma, shift=0.2, widen=1.1), evidence(weight, sigma)
    torch.manual_seed(SEED)

    covered = 0
    for replicate in range(REPLICATES):
        rows = collect(model, law.sample((N,)), samples=50, bound_samples=1, seed=replicate, chunk=50)
        covered += _covers(nll(rows), law.entropy().item())

    assert 0.935 <= covered / REPLICATES <= 0.965


def test_intervals_of_the_mutual_information_cover_the_truth() -> None:
    torch.manual_seed(SEED)

    covered = 0
    for replicate in range(REPLICATES):
        law = channel(torch.randn(N, 1), 0.5)
        covered += _covers(mutual_information(law, seed=replicate, passes=1), information(1, 0.5))

    assert 0.935 <= covered / REPLICATES <= 0.965
