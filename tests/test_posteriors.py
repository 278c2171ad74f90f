"""Families of posteriors that commit to something: their floors, their draws, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.distributions import operations
from uncollapse.distributions.one_hots import OneHots
from uncollapse.divergence import kl_by_group
from uncollapse.errors import InputError
from uncollapse.metrics.information import mutual_information
from uncollapse.posteriors import Posterior, full, gaussian
from uncollapse.posteriors.choices import choices
from uncollapse.posteriors.committed import Committed, committed
from uncollapse.posteriors.normalised import diverse, normalised
from uncollapse.priors import Autoregressive, StandardNormal, UniformChoices

pytestmark = pytest.mark.usefixtures("float64")


def net(outputs: int) -> nn.Module:
    return nn.Linear(5, outputs)


def rate(q: Distribution, prior: nn.Module) -> Tensor:
    """KL by group."""
    return kl_by_group(q, prior(), torch.full((1, *q.batch_shape), torch.nan), torch.empty(0))


# Batch normalisation.


def test_normalised_means_have_the_scale_of_the_batch_they_are_in() -> None:
    mean = normalised(net, 32)(torch.randn(64, 5)).mean
    torch.testing.assert_close(mean.mean(0), torch.zeros(32), atol=1e-12, rtol=0)
    torch.testing.assert_close(mean.var(0, correction=0), torch.full((32,), 0.36), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("scale", "floor"), [(0.3, 1.44), (0.4, 2.56), (0.5, 4.0), (0.6, 5.76), (0.7, 7.84), (0.9, 12.96)]
)
def test_the_rate_of_normalised_means_has_a_floor(scale: float, floor: float) -> None:
    q = normalised(lambda n: nn.Linear(5, n), 32, scale)(50 * torch.randn(64, 5))
    paid = rate(gaussian(q.mean, torch.zeros_like(q.mean)), StandardNormal(32)).sum(1).mean()
    assert paid.item() == pytest.approx(floor, rel=1e-3)
    assert rate(q, StandardNormal(32)).sum(1).mean() > floor


def test_the_floor_holds_for_the_small_means_of_a_fresh_network() -> None:
    def faint(outputs: int) -> nn.Module:
        made = net(outputs)
        for parameter in made.parameters():
            nn.init.uniform_(parameter, -1e-4, 1e-4)
        return made

    q = normalised(faint, 32, scale=0.6)(torch.randn(64, 5))
    assert rate(q, StandardNormal(32)).sum(1).mean().item() >= 0.5 * 32 * 0.36 - 1e-3


def test_one_item_and_evaluation_go_by_running_averages() -> None:
    posterior, x = normalised(net, 4), torch.randn(64, 5)
    for _ in range(200):
        posterior(x)
    trained = posterior(x).mean
    torch.testing.assert_close(posterior.eval()(x).mean, trained, rtol=0.02, atol=1e-3)
    assert posterior.train()(x[:1]).mean.isfinite().all()


def test_running_averages_are_a_part_of_the_state() -> None:
    assert {"net.normalised.mean", "net.normalised.variance"} <= normalised(net, 4).state_dict().keys()


def test_diverse_means_share_the_scale_out_as_they_learn() -> None:
    posterior = diverse(net, 8, scale=0.5)
    gains = posterior.net.net.normalised.gains  # pyright: ignore[reportAttributeAccessIssue]
    gains.data = torch.rand(8) + 0.1
    mean = posterior(100 * torch.randn(64, 5)).mean
    assert mean.var(0, correction=0).mean().item() == pytest.approx(0.25, rel=1e-3)
    assert mean.var(0, correction=0).std() > 0.01


def test_diverse_variances_have_a_floor_and_dropout_in_training_alone() -> None:
    posterior, x = diverse(net, 8, floor=1.0, dropout=0.25), torch.randn(64, 5)
    raw = posterior.net.net.net(x)[:, 8:].exp()  # pyright: ignore[reportAttributeAccessIssue]
    variance, evaluated = posterior(x).variance, posterior.eval()(x).variance
    assert variance.min().item() == pytest.approx(0.0585498315, abs=1e-10)
    kept = variance > 0.05855
    torch.testing.assert_close(variance[kept] - 0.0585498315, raw[kept] / 0.75, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(evaluated - 0.0585498315, raw, rtol=1e-6, atol=1e-9)


# A committed rate.


@pytest.mark.parametrize(
    ("floor", "low", "high"),
    [
        (0.05, 0.6168168318, 1.5162211614),
        (0.1, 0.4932394238, 1.7722498296),
        (0.15, 0.4111131142, 1.9862468560),
        (0.5, 0.1585943396, 3.1461932206),
    ],
)
def test_the_variances_of_a_committed_rate_are_the_published_ones(floor: float, low: float, high: float) -> None:
    assert Committed(floor).variances() == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_parameter_gets_below_a_committed_rate_and_all_gradients_are_finite(dtype: torch.dtype) -> None:
    grid = torch.tensor([-1e4, -30.0, -1.0, 0.0, 1.0, 30.0, 1e4], dtype=dtype)
    b, a = (one.flatten().unsqueeze(1).requires_grad_() for one in torch.meshgrid(grid, grid, indexing="ij"))
    found = rate(Committed(0.1)(b, a), StandardNormal(1).to(dtype))
    found.sum().backward()
    assert found.min() > 0.1 - 1e-6
    torch.testing.assert_close(found, 0.1 + b.relu() / 2, rtol=1e-5, atol=1e-5)
    assert all(one.grad is not None and one.grad.isfinite().all() for one in (a, b))


def test_a_committed_rate_is_paid_by_a_posterior_that_says_nothing() -> None:
    posterior = committed(net, 4, "0.1 nats/unit")
    nn.init.zeros_(posterior.net.weight)  # pyright: ignore[reportArgumentType]
    q = posterior(torch.randn(50, 5))
    assert rate(q, StandardNormal(4)).sum(1).min() >= 0.4
    assert mutual_information(q).value == pytest.approx(0.0, abs=1e-12)  # pyright: ignore[reportAttributeAccessIssue]


def test_a_committed_rate_may_be_said_for_the_item() -> None:
    assert committed(net, 4, 0.4).family == committed(net, 4, "0.4 nats/item").family == Committed(0.1)


@pytest.mark.parametrize(
    ("units", "correlation", "floor"),
    [
        (2, 0.5, 0.1438410362),
        (16, 0.5, 1.7058458954),
        (16, 0.9, 4.9836535204),
        (16, 0.99, 6.7405492130),
        (80, 0.9, 23.9701125692),
    ],
)
def test_units_that_follow_each_other_have_the_published_least_rate(
    units: int, correlation: float, floor: float
) -> None:
    variance = torch.full((1, units), (1 - correlation**2) / (1 + correlation**2))
    variance[:, [0, -1]] = 1 - correlation**2
    prior, mean = Autoregressive(units, correlation), torch.zeros(1, units)
    log_variance = variance.log().requires_grad_()
    found = rate(gaussian(mean, log_variance), prior)
    found.sum().backward()
    assert found.item() == pytest.approx(floor, abs=1e-9)
    assert log_variance.grad is not None
    assert log_variance.grad.abs().max() < 1e-9


def test_units_that_follow_each_other_covary_so() -> None:
    order = torch.arange(4)
    exact = 0.7 ** (order.unsqueeze(1) - order).abs()
    torch.testing.assert_close(Autoregressive(4, 0.7)().covariance_matrix, exact)


# Covariance, and choices.


def test_a_full_gaussian_of_one_unit_is_a_gaussian() -> None:
    posterior, x = full(net, 1), torch.randn(3, 5)
    mean, log_variance, _ = posterior.params(x)
    z = torch.randn(3, 1)
    torch.testing.assert_close(posterior(x).log_prob(z), gaussian(mean, log_variance).log_prob(z))


def test_choices_cost_what_is_published() -> None:
    posterior = choices(lambda n: nn.Identity(), 3, classes=3)
    q = posterior(torch.tensor([[0.7, 0.2, 0.1]]).log())
    assert rate(q, UniformChoices(3, 3)).item() == pytest.approx(0.296794, abs=1e-6)


def test_the_rate_of_choices_is_by_choice() -> None:
    q = choices(net, 12, classes=3)(torch.randn(7, 5))
    assert rate(q, UniformChoices(12, 3)).shape == (7, 4)


def test_draws_of_choices_are_relaxed_in_training_alone() -> None:
    posterior, x = choices(net, 6, classes=3), torch.randn(50, 5)
    assert ((posterior(x).rsample() > 0) & (posterior(x).rsample() < 1)).any()  # pyright: ignore[reportOperatorIssue]
    for exact in (posterior.eval()(x).rsample(), choices(net, 6, 3, draws="straight-through")(x).rsample()):
        assert ((exact == 0) | (exact == 1)).all()
        assert (exact.unflatten(-1, (2, 3)).sum(-1) == 1).all()


@pytest.mark.parametrize("draws", ["relaxed", "straight-through"])
def test_draws_of_choices_have_a_gradient(draws: str) -> None:
    for posterior in (choices(net, 6, 3, draws=draws), choices(net, 6, 3, draws=draws).eval()):  # pyright: ignore
        posterior(torch.randn(7, 5)).rsample()[:, 0].sum().backward()
        gradient = posterior.net.weight.grad  # pyright: ignore[reportAttributeAccessIssue]
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


def test_choices_that_are_rebuilt_draw_as_before() -> None:
    q = choices(net, 6, classes=3, temperature=0.5)(torch.randn(4, 5))
    found = operations.take(q, slice(0, 2))
    assert isinstance(found, OneHots)
    assert (found.temperature, found.relaxed) == (0.5, True)


def test_a_low_temperature_makes_relaxed_draws_choices() -> None:
    posterior = choices(net, 6, classes=3)
    posterior.family.temperature = 1e-3  # As a dial sets it.
    z = posterior(torch.randn(20, 5)).rsample()
    assert ((z - z.round()).abs() < 1e-3).double().mean() > 0.95


@pytest.mark.parametrize("made", [lambda: choices(net, 8, classes=3), lambda: UniformChoices(8, 3)])
def test_choices_that_do_not_make_a_code_are_refused(made: object) -> None:
    with pytest.raises(InputError, match=r"codes of 3, 6, \.\.\. units, and `model\.latent` is 8: change it"):
        made()  # pyright: ignore[reportCallIssue]


def test_priors_of_other_classes_are_refused() -> None:
    with pytest.raises(InputError, match="choices among 3 classes and the prior"):
        rate(choices(net, 12, classes=3)(torch.randn(7, 5)), UniformChoices(12, 4))


def test_parameters_of_every_posterior_are_named_by_its_sizes() -> None:
    for made in (full, committed, normalised, diverse):
        posterior: Posterior = made(net, 3)
        assert [one.shape[1] for one in posterior.params(torch.randn(4, 5))] == list(posterior.sizes)


def test_the_entropy_of_a_variance_at_the_floor_is_nothing() -> None:
    q = gaussian(torch.zeros(1, 1), torch.full((1, 1), 1 / (2 * math.pi * math.e)).log())
    assert q.entropy().item() == pytest.approx(0.0, abs=1e-12)
