"""The true posterior's mean: by grid, by the adaptive rule and by weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal
from torch.nn.functional import logsigmoid

import linear_gaussian
from uncollapse.errors import InputError
from uncollapse.metrics.adaptive_mean import BUDGET, adaptive
from uncollapse.metrics.posterior_mean import STRIDE, Joint, Refined, by_weights, grid, joint
from uncollapse.metrics.rows import infer
from uncollapse.model import VAE
from uncollapse.priors import StandardNormal

RULES: tuple[Callable[..., object], ...] = (grid, adaptive)
COARSE = {"grid": 1e-4, "adaptive": 1e-3}


def density(log_likelihood: Callable[[Tensor], Tensor]) -> Joint:
    """log p(x, z) of one item under a standard normal prior."""
    return lambda z: log_likelihood(z).sum(2) - z.square().sum(2) / 2


def gaussian(x: Tensor, variance: float) -> Joint:
    """p(x | z) = N(x; z, variance), for items x (B, d)."""
    return density(lambda z: -(x - z).square() / (2 * variance))


#: The analytic tests T11 to T14 of the reference: a likelihood, and the mean of its posterior.
KNOWN = {
    "T11": (lambda z: Normal(z, 0.5).log_prob(torch.tensor(1.3)), 1.04),
    "T12": (lambda z: logsigmoid(3 * z), 0.689027),
    "T13": (lambda z: Normal(z.square(), 0.5).log_prob(torch.tensor(2.0)), 0.0),
    "T14": (torch.zeros_like, 0.0),
}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_known_posteriors_have_their_means(rule: Callable, name: str) -> None:
    likelihood, mean = KNOWN[name]
    found = rule(density(likelihood), 1)
    assert found.mean.item() == pytest.approx(mean, abs=2e-6 + (rule is adaptive) * 1e-4)
    assert found.reliable.all()


@pytest.mark.parametrize("variance", [1e-4, 1e-3, 0.25, 4.0, 100.0])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_gaussian_posteriors_of_any_width_have_their_means(rule: Callable, variance: float) -> None:
    x = torch.linspace(-3, 3, 40, dtype=torch.float64).unsqueeze(1)
    found = rule(gaussian(x, variance), 40)
    assert (found.mean - x / (1 + variance)).abs().max() < COARSE[rule.__name__]
    assert found.reliable.all()


@pytest.mark.parametrize("variance", [0.02, 0.25, 4.0])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_gaussian_posteriors_in_two_dimensions_have_their_means(rule: Callable, variance: float) -> None:
    x = torch.tensor([[0.0, 0.0], [2.0, -1.0], [-3.1, 2.7]], dtype=torch.float64)
    found = rule(gaussian(x, variance), 3, 2)
    assert (found.mean - x / (1 + variance)).abs().max() < COARSE[rule.__name__]


def mixture(narrowest: float) -> tuple[Joint, Tensor]:
    """Likelihoods that are mixtures of three Gaussians in z for 100 items, and the means of their posteriors."""
    draw = torch.Generator().manual_seed(1)
    loc, scale, weight = (torch.rand(100, 3, generator=draw, dtype=torch.float64) for _ in range(3))
    loc, scale, weight = 4 * loc - 2, narrowest * (1 + 4 * scale), weight.log()

    def likelihood(z: Tensor) -> Tensor:
        return (weight - scale.log() - (z - loc).square() / (2 * scale.square())).logsumexp(2, keepdim=True)

    # Each component times the prior is a Gaussian of its own, with the evidence of its component.
    evidence = weight - (1 + scale.square()).log() / 2 - loc.square() / (2 * (1 + scale.square()))
    return density(likelihood), (evidence.softmax(1) * loc / (1 + scale.square())).sum(1, keepdim=True)


@pytest.mark.parametrize("narrowest", [0.05, 0.2])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_posteriors_of_several_modes_have_their_means(rule: Callable, narrowest: float) -> None:
    log_joint, mean = mixture(narrowest)
    found = rule(log_joint, 100)
    assert (found.mean - mean).abs().max() < COARSE[rule.__name__]
    assert found.reliable.all() or narrowest < 0.1


def test_the_adaptive_rule_says_where_its_points_were_too_few() -> None:
    log_joint, mean = mixture(0.05)
    found = adaptive(log_joint, 100, budget=70)
    wrong = (found.mean - mean).abs().squeeze(1) > 1e-3
    assert wrong.any()
    assert not found.reliable[wrong].any()


@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_adaptive_rule_takes_a_twentieth_of_the_grids_points_at_most(dimensions: int) -> None:
    asked = 0

    def counted(z: Tensor) -> Tensor:
        nonlocal asked
        asked += len(z)
        return gaussian(torch.ones(1, dimensions, dtype=torch.float64), 0.25)(z)

    found = adaptive(counted, 1, dimensions)
    assert asked == found.evaluations <= BUDGET[dimensions]
    assert BUDGET[dimensions] * 20 == round(40 / STRIDE[dimensions]) ** dimensions


def test_a_models_joint_density_is_its_decoders_and_its_priors() -> None:
    weight = linear_gaussian.orthogonal(1.5, 0.7, size=4)
    model, x = linear_gaussian.vae(weight, 0.8), torch.randn(5, 4)
    z = torch.randn(300, 5, 2)
    with torch.no_grad():
        found = joint(model, x, torch.zeros(5, 2))(z)
    p = Normal(0.0, 1.0).log_prob(z).sum(2) + Normal(z @ weight.T, 0.8).log_prob(x).sum(2)
    torch.testing.assert_close(found, p.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_where_a_decoder_gives_no_density_there_is_none(rule: Callable) -> None:
    class Broken(linear_gaussian.LinearGaussian):
        def forward(self, z: Tensor, seen: Tensor) -> Independent:
            # The first item is never explained; the second by positive codes alone.
            never = torch.stack([z[:, 0] > -math.inf, z[:, 1] < 0], 1)
            return Independent(Normal(0 * z, torch.where(never, math.nan, 1.0), validate_args=False), 1)

    model = VAE(nn.Identity(), Broken(torch.ones(1, 1), 1.0), StandardNormal(1))
    found = rule(joint(model, torch.zeros(2, 1), torch.zeros(2, 1)), 2)
    assert found.reliable.tolist() == [False, rule is grid]  # A jump settles slowly.
    # Of a half-normal law.
    assert found.mean[1].item() == pytest.approx(math.sqrt(2 / math.pi), abs=0.01)


def test_a_model_with_noise_of_its_own_is_refused() -> None:
    model = linear_gaussian.vae(linear_gaussian.orthogonal(1.5, size=4), 0.8)
    with pytest.raises(InputError, match="does not draw z from the `q`"):
        joint(lambda x, q=None, samples=1: model(x, None, samples), torch.randn(5, 4), torch.zeros(5, 1))(
            torch.zeros(2, 5, 1)
        )


def test_weights_give_the_mean_with_an_error_that_holds() -> None:
    q, p = Normal(0.0, 1.5), Normal(0.4, 0.5)
    z = q.sample((500, 2000, 1))
    found = by_weights((p.log_prob(z) - q.log_prob(z)).squeeze(2), z)
    assert found.error is not None
    assert found.effective is not None
    scores = (found.mean - 0.4) / found.error
    assert scores.std().item() == pytest.approx(1, abs=0.06)
    # S / ESS tends to E_q[(p / q)^2] = 1.5^2 / (0.5 sqrt(2 1.5^2 - 0.5^2)) exp(0.4^2 / (2 1.5^2 - 0.5^2)).
    ratio = 1.5**2 / (0.5 * math.sqrt(4.25)) * math.exp(0.16 / 4.25)
    assert (500 / found.effective).mean().item() == pytest.approx(ratio, rel=0.02)
    assert found.reliable.all()


def test_weights_that_degenerate_are_not_relied_on() -> None:
    z = torch.randn(100, 2, 1)
    log_weights = torch.stack([torch.zeros(100), 20 * z[:, 1, 0]], 1)
    found = by_weights(log_weights, z)
    assert found.reliable.tolist() == [True, False]
    assert found.effective is not None
    assert found.effective[0].item() == pytest.approx(100)


def test_refinement_finds_a_posterior_that_the_encoder_misses() -> None:
    weight = linear_gaussian.orthogonal(3.0, 2.0, 2.5, size=6)
    lagging = linear_gaussian.vae(weight, 0.8, shift=8.0, widen=0.5)
    exact = linear_gaussian.vae(weight, 0.8)
    x = MultivariateNormal(torch.zeros(6), torch.eye(6)).sample((20,))
    with torch.no_grad():
        q, true = infer(lagging, Refined(), x, range(20), 0), exact.encoder(x)
    assert q is not None
    apart = (q.mean - true.mean) / true.stddev
    assert apart.abs().max() < 1
    assert ((lagging.encoder(x).mean - true.mean) / true.stddev).abs().min() > 7
