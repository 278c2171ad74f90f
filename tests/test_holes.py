"""Holes in the aggregate posterior, against shares that are known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from uncollapse.distributions.von_mises_fisher import VonMisesFisher
from uncollapse.metrics.estimate import Estimate, Unavailable
from uncollapse.metrics.holes import holes
from uncollapse.priors import UniformSphere


def gaussian(mean: Tensor, scale: float) -> Independent:
    return Independent(Normal(mean, torch.full_like(mean, scale)), 1)


def standard(units: int, scale: float = 1.0) -> Independent:
    return gaussian(torch.zeros(units), scale)


def estimate(law: Any, prior: Distribution, seed: int = 0) -> Estimate:
    found = holes(law, prior, seed)
    assert isinstance(found, Estimate)
    return found


@pytest.mark.parametrize("spread", [1.0, 0.7, 0.5])
def test_the_share_beyond_codes_that_are_narrower_than_the_prior(spread: float) -> None:
    law = gaussian(math.sqrt(spread**2 - 0.04) * torch.randn(4000, 1), 0.2)
    found = estimate(law, standard(1))
    # q(z) = N(0, spread^2), of which 5 % lie beyond 1.96 spread.
    truth = math.erfc(1.959964 * spread / math.sqrt(2))
    assert found.value == pytest.approx(truth, abs=3 * found.se)
    assert found.se < 0.025


def test_the_share_between_two_clusters() -> None:
    centres = torch.tensor([-2.0, 2.0]).repeat(2000).unsqueeze(1)
    law = gaussian(centres, 0.3)
    found = estimate(law, standard(1))
    # 5 % of the codes are more than 1.96 deviations of 0.3 from their centre.
    low, high = (Normal(0.0, 1.0).cdf(torch.tensor(2 + side * 1.959964 * 0.3)).item() for side in (-1, 1))
    assert found.value == pytest.approx(1 - 2 * (high - low), abs=3 * found.se)


@pytest.mark.parametrize("units", [1, 4, 16, 64])
@pytest.mark.parametrize("noise", [0.3, 0.9])
def test_where_codes_are_the_prior_as_much_is_rare_of_both(units: int, noise: float) -> None:
    law = gaussian(math.sqrt(1 - noise**2) * torch.randn(1000, units), noise)
    found = estimate(law, standard(units))
    assert found.value == pytest.approx(0.05, abs=4 * found.se)
    assert 0.005 < found.se < 0.04


def test_a_collapsed_posterior_has_no_holes() -> None:
    assert estimate(gaussian(torch.zeros(500, 3), 1.0), standard(3)).value == pytest.approx(0.05, abs=0.06)


def test_the_standard_error_is_how_far_it_varies() -> None:
    found = [estimate(gaussian(0.8 * torch.randn(400, 2), 0.3), standard(2), seed) for seed in range(60)]
    values = torch.tensor([one.value for one in found])
    assert values.std().item() == pytest.approx(torch.tensor([one.se for one in found]).mean().item(), rel=0.35)


def test_neither_scale_nor_turn_of_z_changes_it() -> None:
    means = 0.5 * torch.randn(600, 3)
    plain = estimate(gaussian(means, 0.3), standard(3))
    scaled = estimate(gaussian(100 * means, 30.0), standard(3, 100.0))
    turn = torch.linalg.qr(torch.randn(3, 3)).Q
    turned = estimate(gaussian(means @ turn, 0.3), standard(3))
    assert scaled.value == pytest.approx(plain.value, abs=2 / 300)
    assert turned.value == pytest.approx(plain.value, abs=3 * (plain.se**2 + turned.se**2) ** 0.5)


def test_of_a_sphere_with_codes_on_one_half() -> None:
    means = torch.randn(1000, 3)
    means = means / means.norm(dim=1, keepdim=True)
    whole = VonMisesFisher(means, torch.full((1000,), 20.0))
    uniform = UniformSphere(3)()
    assert estimate(whole, uniform).value == pytest.approx(0.05, abs=0.06)
    half = VonMisesFisher(means * torch.where(means[:, :1] < 0, -1, 1), torch.full((1000,), 200.0))
    assert estimate(half, uniform).value == pytest.approx(0.5, abs=0.1)


def test_what_has_no_answer_says_why() -> None:
    law = gaussian(torch.randn(500, 2), 0.5)
    for found in (
        holes(None, standard(2)),
        holes(law, None),
        holes(law, gaussian(torch.zeros(500, 2), 1.0)),
        holes(gaussian(torch.randn(40, 2), 0.5), standard(2)),
    ):
        assert isinstance(found, Unavailable)
