"""The verdict on models whose state is known."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Laplace, Normal, kl_divergence

import uncollapse as uc
from linear_gaussian import evidence, orthogonal, vae
from uncollapse.diagnosis import verdict
from uncollapse.metrics.information import marginal_kl_floor


class Known(nn.Module):
    """q(z | x) whose first units carry x, with a signal of a given size, and whose others are the prior."""

    def __init__(self, used: int, signal: float) -> None:
        super().__init__()
        self.used, self.signal = used, signal

    def forward(self, x: Tensor) -> Distribution:
        mean = torch.zeros(len(x), 4)
        mean[:, : self.used] = self.signal * x[:, : self.used]
        return uc.gaussian(mean, torch.zeros_like(mean))


class Unit(nn.Module):
    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        return Independent(Normal(z, 1.0), 1)


@pytest.mark.parametrize(
    ("used", "signal", "said"),
    [
        (0, 1.0, "collapsed: 0 of 4 units active, MI 0.00 nats"),
        (1, 1.0, "partly collapsed: 1 of 4 units active"),
        (3, 1.0, "healthy: 3 of 4 units active"),
        (4, 0.15, "collapsed: 4 of 4 units active"),  # 4 units above 0.01, and 0.04 nats in all
    ],
)
def test_the_verdict_is_the_state(used: int, signal: float, said: str) -> None:
    model = uc.VAE(Known(used, signal), Unit(), uc.StandardNormal(4))
    assert verdict(uc.evaluate(model, torch.randn(2000, 4), samples=0, bound_samples=1)).startswith(said)


class Wide(nn.Module):
    """q(z | x) around a stretched x, as where the rate costs next to nothing; `turned`, all units carry the same."""

    def __init__(self, stretch: float, sd: float, turned: bool = False) -> None:
        super().__init__()
        self.stretch, self.sd, self.turned = stretch, sd, turned

    def forward(self, x: Tensor) -> Distribution:
        mean = self.stretch * x
        if self.turned:  # Each unit has the variance of the prior, and all carry the same.
            mean = mean[:, :1].expand_as(mean)
        return uc.gaussian(mean, torch.full_like(mean, 2 * math.log(self.sd)))


def judged(encoder: nn.Module, n: int, d: int) -> str:
    model = uc.VAE(encoder, Unit(), uc.StandardNormal(d))
    return verdict(uc.evaluate(model, torch.randn(n, d), samples=0, bound_samples=1))


@pytest.mark.parametrize(
    ("encoder", "n", "d"),
    [
        (Wide(4.0, 1.0), 2000, 1),  # Told by the marginal KL itself.
        (Wide(3.0, 0.1), 100, 4),  # And by the moments of q(z), as the MI is at its cap.
        (Wide(1.0, 0.01, turned=True), 100, 4),
    ],
)
def test_a_model_whose_posteriors_lie_where_the_prior_does_not_is_not_healthy(
    encoder: nn.Module, n: int, d: int
) -> None:
    says = r"mismatched: KL\(q\(z\) \|\| p\(z\)\) is at least \d+\.\d nats: what the prior draws is not what .*; "
    assert re.match(
        rf"{says}{d} of {d} units active, MI \d+\.\d\d nats(, at its cap \(KL \d+\.\d\))?$", judged(encoder, n, d)
    )


def test_a_mutual_information_at_its_cap_is_said_with_the_rate_that_it_hides() -> None:
    # q(z) is the prior, and each posterior a point of it: nothing is wrong, and the log of 100 tells little.
    told = judged(Wide(1.0, 0.001), 100, 4)
    assert re.fullmatch(r"healthy: 4 of 4 units active, MI 4\.6\d nats, at its cap \(KL 2[3-8]\.\d\)", told), told


class Peaked(nn.Module):
    """A law whose moments are not looked at."""

    def forward(self, x: Tensor) -> Distribution:
        return Independent(Laplace(6 * x, torch.ones_like(x)), 1)


def test_of_any_law_the_marginal_kl_tells_a_mismatch() -> None:
    assert judged(Peaked(), 2000, 1).startswith("mismatched: ")


@pytest.mark.parametrize("d", [1, 4, 16, 32])
@pytest.mark.parametrize("n", [30, 100, 400])
@pytest.mark.parametrize("length", [1.0, 5.0])
def test_an_exact_posterior_is_healthy_however_few_the_items(d: int, n: int, length: float) -> None:
    weight = orthogonal(*[length] * d, size=40)
    x = evidence(weight, 1.0).sample((n,))
    assert verdict(uc.evaluate(vae(weight, 1.0), x, samples=0, bound_samples=1)).startswith("healthy: ")


def test_the_floor_of_the_marginal_kl_is_the_truth_for_gaussians() -> None:
    x = torch.randn(50_000, 3) * torch.tensor([3.0, 1.0, 0.2])
    law = uc.gaussian(x, torch.full_like(x, 2 * math.log(0.5)))
    rate = kl_divergence(law, uc.StandardNormal(3)()).double()
    variance = torch.tensor([9.0, 1.0, 0.04]) + 0.25
    floor = marginal_kl_floor(rate, law)
    assert floor is not None
    assert floor.value == pytest.approx(0.5 * (variance - 1 - variance.log()).sum().item(), abs=4 * floor.se)
    assert floor.se < 0.05


@pytest.mark.parametrize(("n", "d"), [(60, 2), (60, 20)])
def test_the_bias_of_the_floor_is_what_it_says_where_posteriors_are_narrow(n: int, d: int) -> None:
    values, bias = [], 0.0
    for _ in range(200):
        x = torch.randn(n, d)
        law = uc.gaussian(x, torch.full_like(x, 2 * math.log(1e-3)))
        found = marginal_kl_floor(kl_divergence(law, uc.StandardNormal(d)()).double(), law)
        assert found is not None
        values.append(found.value)
        bias = found.bias or 0.0
    error = torch.tensor(values).std().item() / 200**0.5
    assert sum(values) / 200 == pytest.approx(bias, abs=4 * error)


def test_of_other_laws_and_of_few_items_the_moments_say_nothing() -> None:
    few = uc.gaussian(torch.randn(8, 4), torch.zeros(8, 4))
    assert marginal_kl_floor(torch.ones(8), few) is None
    other = Independent(Laplace(torch.randn(50, 2), 1.0), 1)
    assert marginal_kl_floor(torch.ones(50), other) is None


def test_a_posterior_without_a_law_has_no_verdict() -> None:
    vae = uc.VAE(Known(1, 1.0), Unit(), uc.StandardNormal(4))

    def path(x: Tensor, q: Distribution | None = None, samples: int = 1) -> uc.Bound:
        return vae(x, q, samples)._replace(q=None)

    assert verdict(uc.evaluate(path, torch.randn(40, 4), samples=0)).startswith("unknown: ")


def test_a_posterior_without_a_law_and_without_a_rate_is_collapsed() -> None:
    vae = uc.VAE(Known(1, 1.0), Unit(), uc.StandardNormal(4))

    def path(x: Tensor, q: Distribution | None = None, samples: int = 1) -> uc.Bound:
        found = vae(x, q, samples)
        return found._replace(q=None, kl=torch.full_like(found.kl, 0.01))

    found = verdict(uc.evaluate(path, torch.randn(40, 4), samples=0))
    assert found == "collapsed: KL 0.04 nats over all steps"
