"""Priors that are more than N(0, I)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from uncollapse.divergence import kl_by_group
from uncollapse.posteriors import gaussian
from uncollapse.priors import Mixture, StandardNormal

pytestmark = pytest.mark.usefixtures("float64")


def mixture(*means: float, scale: float = 1.0) -> Mixture:
    """A mixture in one dimension."""
    made = Mixture(1, len(means))
    nn.init.constant_(made.log_variances, 2 * math.log(scale))
    made.means.data = torch.tensor(means).unsqueeze(1)
    return made


def test_a_mixture_of_standard_normals_costs_what_the_standard_normal_does() -> None:
    q = gaussian(torch.tensor([[0.5, -1.0]]), torch.tensor([[0.2, -0.7]]))
    prior = Mixture(2, 3)
    nn.init.zeros_(prior.means)
    z = q.rsample(torch.Size((200_000,)))

    found = kl_by_group(q, prior(), q.log_prob(z), prior().log_prob(z))

    exact = kl_by_group(q, StandardNormal(2)(), q.log_prob(z), z.sum(-1)).sum()
    assert found.shape == (1, 1)
    assert found.item() == pytest.approx(exact.item(), abs=0.01)


def test_a_mixture_has_the_density_of_its_components() -> None:
    found = mixture(-1.0, 1.0, scale=0.5)().log_prob(torch.tensor([[0.3]]))

    assert found.item() == pytest.approx(-1.8121023811, abs=1e-9)


def test_a_mixture_learns_its_weights_means_and_variances() -> None:
    prior = Mixture(2, 3)
    prior().log_prob(torch.randn(5, 2)).sum().backward()

    assert all(p.grad is not None and (p.grad != 0).all() for p in prior.parameters())
