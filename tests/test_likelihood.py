"""The evidence and its bound, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from linear_gaussian import evidence, orthogonal, vae
from uncollapse.bound import Bound
from uncollapse.divergence import kl_by_group
from uncollapse.metrics import likelihood
from uncollapse.metrics.estimate import Answer, Estimate, Unavailable
from uncollapse.metrics.rows import Rows, collect
from uncollapse.posteriors import gaussian

pytestmark = pytest.mark.usefixtures("float64")


def rows(log_weights: Tensor | None = None, **changes: Tensor | int | None) -> Rows:
    """Rows of N items from their log-weights, with shape (K, N), or with columns as given."""
    n = 1 if log_weights is None else log_weights.shape[1]
    fields: dict = {
        "items": torch.arange(n),
        "batch": torch.zeros(n),
        "distortion": torch.ones(n),
        "kl": torch.ones(n, 1),
        "log_evidence": None,
        "effective": None,
        "symbols": None,
        "law": None,
        "samples": 0 if log_weights is None else len(log_weights),
        "bound_samples": 1,
        "seed": 0,
    }
    if log_weights is not None:
        share = log_weights.softmax(0)
        fields["log_evidence"] = log_weights.logsumexp(0) - math.log(len(log_weights))
        fields["effective"] = 1 / share.square().sum(0)
    return Rows(**(fields | changes))


def value(answer: Answer) -> float:
    assert isinstance(answer, Estimate)
    return answer.value


def fixed_weights(log_weights: Tensor) -> Callable[..., Bound]:
    """A model with these log-weights, which draws for itself."""

    def model(x: Tensor, q: Distribution | None = None, samples: int = 1) -> Bound:
        zeros = torch.zeros(samples, len(x))
        weights = log_weights[:samples].unsqueeze(1) + zeros
        return Bound(x, zeros, weights, zeros, zeros, torch.zeros(len(x), 1), None, None)

    return model


def one_unit(q_mean: float, q_sd: float, p_mean: float = 0.0, p_sd: float = 1.0) -> Callable[..., Bound]:
    """z of one unit, x | z ~ N(z, 0.25), under a posterior that does not look at x."""

    def model(x: Tensor, q: Distribution | None = None, samples: int = 1) -> Bound:
        own = gaussian(torch.full((len(x), 1), q_mean), torch.full((len(x), 1), 2 * math.log(q_sd)))
        q, p = q or own, Independent(Normal(torch.full((1,), p_mean), p_sd), 1)
        z = q.rsample(torch.Size((samples,)))
        log_q, log_p = q.log_prob(z), p.log_prob(z)
        log_likelihood = Normal(z, 0.5).log_prob(x).sum(-1)
        return Bound(x, z, log_likelihood, log_q, log_p, kl_by_group(q, p, log_q, log_p), q, p)

    return model


X = torch.tensor([[1.3]], dtype=torch.float64)
LOG_P = -1.706510


def test_weights_that_underflow_give_the_likelihood() -> None:
    found = collect(fixed_weights(torch.tensor([-1000.0, -1001.0, -1002.0])), torch.zeros(1, 1), 3, 3)

    assert value(likelihood.nll(found)) == pytest.approx(1000.691006, abs=1e-6)


@pytest.mark.parametrize(
    ("q", "p", "expected"),
    [((0.5, 0.5), (-0.2, 1.5), 0.763057), ((-0.2, 1.5), (0.5, 0.5), 3.881388), ((1.0, 1.0), (0.0, 1.0), 0.5)],
)
def test_the_kl_of_two_gaussians(q: tuple[float, float], p: tuple[float, float], expected: float) -> None:
    assert value(likelihood.kl(collect(one_unit(*q, *p), X, 0))) == pytest.approx(expected, abs=1e-6)


def test_the_kl_counts_variances_not_standard_deviations() -> None:
    law = gaussian(torch.tensor([[1.0, -0.5]]), torch.tensor([[1.0, 0.25]]).log())
    prior = Independent(Normal(torch.zeros(2), 1.0), 1)

    kl = kl_by_group(law, prior, torch.empty(0), torch.empty(0))

    assert value(likelihood.kl(rows(kl=kl))) == pytest.approx(0.943147, abs=1e-6)


@pytest.mark.parametrize("samples", [1, 5, 50])
def test_with_the_exact_posterior_any_number_of_samples_gives_the_likelihood(samples: int) -> None:
    found = collect(one_unit(1.04, math.sqrt(0.2)), X, samples)

    assert value(likelihood.nll(found)) == pytest.approx(-LOG_P, abs=1e-6)
    assert value(likelihood.effective_samples(found)) == pytest.approx(samples)


def test_the_elbo_of_a_posterior_equal_to_the_prior() -> None:
    found = collect(one_unit(0.0, 1.0), X, 0, bound_samples=200_000)

    assert value(likelihood.neg_elbo(found)) == pytest.approx(5.605791, abs=0.05)


def test_the_likelihood_estimate_rises_with_the_samples_towards_the_truth() -> None:
    x = X.expand(4000, 1)

    found = [-value(likelihood.nll(collect(one_unit(0.0, 1.0), x, k, chunk=k))) for k in (1, 5, 50, 500)]

    assert found == sorted(found)
    assert found[1] == pytest.approx(-2.074, abs=0.04)
    assert found[2] == pytest.approx(-1.729, abs=0.012)
    assert found[3] == pytest.approx(-1.711, abs=0.006)
    assert found[3] <= LOG_P + 0.002


def test_every_weight_of_the_exact_posterior_is_the_evidence() -> None:
    weight, sigma, x = orthogonal(2.0, 0.5, size=5), 0.5, torch.randn(7, 5)

    found = collect(vae(weight, sigma), x, 20)

    torch.testing.assert_close(found.log_evidence, evidence(weight, sigma).log_prob(x))
    torch.testing.assert_close(found.effective, torch.full((7,), 20.0))


def test_the_bound_of_a_shifted_posterior_is_below_the_evidence_by_its_divergence() -> None:
    weight, sigma, x = orthogonal(2.0, 0.5, size=5), 0.5, torch.randn(200, 5)
    exact, shifted = (collect(vae(weight, sigma, shift), x, 0, bound_samples=400) for shift in (0.0, 0.3))

    gap = value(likelihood.neg_elbo(shifted)) + evidence(weight, sigma).log_prob(x).mean().item()

    # Two units, each moved by 0.3 of its standard deviation.
    assert gap == pytest.approx(2 * 0.3**2 / 2, abs=0.01)
    assert value(likelihood.distortion(exact)) + value(likelihood.kl(exact)) == pytest.approx(
        value(likelihood.neg_elbo(exact))
    )


@pytest.mark.parametrize(
    ("variance", "rate", "expected"),
    [(1.0, 1.242453, 6.668207), (2.5, 0.346574, 7.094909), (5.0, 0.0, 7.764630)],
)
def test_the_optimum_of_the_linear_vae(variance: float, rate: float, expected: float) -> None:
    spectrum = torch.tensor([5.0, 2.0, 1.2, 0.5])
    x = torch.linalg.qr(torch.randn(100, 4)).Q * (100 * spectrum).sqrt()
    weight = (spectrum - variance).clamp_min(0).sqrt().diag()

    found = collect(vae(weight, math.sqrt(variance)), x, 5, bound_samples=2000, chunk=2000)

    assert value(likelihood.nll(found)) == pytest.approx(expected, abs=1e-6)
    assert value(likelihood.kl(found)) == pytest.approx(rate, abs=1e-6)
    assert value(likelihood.neg_elbo(found)) == pytest.approx(expected, abs=0.02)


def test_the_bias_of_the_likelihood_is_seen_in_the_weights() -> None:
    found = likelihood.nll(collect(one_unit(0.9, 0.6), X.expand(20_000, 1), 10, chunk=10))

    assert isinstance(found, Estimate)
    assert found.bias == pytest.approx(found.value + LOG_P, rel=0.3)


def test_no_weights_no_likelihood() -> None:
    assert likelihood.nll(rows()) == Unavailable("asked for 0 importance samples")
    assert likelihood.effective_samples(rows()) == Unavailable("asked for 0 importance samples")


def test_the_perplexity_is_that_of_all_nats_over_all_symbols() -> None:
    found = likelihood.perplexity(rows(torch.tensor([[-10.0, -30.0]]), symbols=torch.tensor([5.0, 5.0])))

    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(math.exp(4.0))
    assert found.unit == "per symbol, from the NLL"


def test_without_weights_the_perplexity_is_that_of_the_bound_and_says_so() -> None:
    found = likelihood.perplexity(rows(distortion=torch.tensor([9.0]), symbols=torch.tensor([5.0])))

    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(math.exp(2.0))
    assert found.unit == "per symbol, from -ELBO"


def test_items_without_symbols_have_no_perplexity() -> None:
    assert likelihood.perplexity(rows()) == Unavailable("the items are not made of symbols")


def test_a_perplexity_that_overflows_is_infinite() -> None:
    assert value(likelihood.perplexity(rows(torch.tensor([[-1e6]]), symbols=torch.tensor([1.0])))) == math.inf


def test_the_error_of_the_perplexity_is_its_spread_over_data_sets() -> None:
    symbols = torch.randint(5, 30, (500, 200)).double()
    nats = 1.5 * symbols + torch.randn(500, 200) * symbols.sqrt()
    found = [likelihood.perplexity(rows(-a.unsqueeze(0), symbols=s)) for a, s in zip(nats, symbols, strict=True)]

    spread = torch.tensor([value(e) for e in found]).std().item()

    errors = [e.se for e in found if isinstance(e, Estimate)]
    assert sum(errors) / len(errors) == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize(
    ("log_weights", "warned"),
    [
        (torch.zeros(500, 20), False),
        (torch.zeros(500, 20).index_fill(0, torch.tensor([0]), 100.0), True),
        (torch.zeros(1, 20), False),
    ],
)
def test_weights_that_degenerate_are_reported_with_what_to_do(log_weights: Tensor, warned: bool) -> None:
    found = likelihood.degeneracy(rows(log_weights))

    assert (found is not None) is warned
    assert found is None or "ten times as many" in found


def test_a_few_items_with_bad_weights_are_tolerated() -> None:
    log_weights = torch.zeros(500, 20)
    log_weights[0, :2] = 100.0

    assert likelihood.degeneracy(rows(log_weights)) is None


@pytest.mark.parametrize("samples", [2, 3, 4, 200])
def test_weights_that_differ_a_little_are_no_degenerate_ones_and_one_that_takes_all_is(samples: int) -> None:
    weights = torch.linspace(0, 0.1, samples).unsqueeze(1).repeat(1, 20)
    assert likelihood.degeneracy(rows(weights)) is None
    weights[0] = 50.0
    assert likelihood.degeneracy(rows(weights)) is not None


def test_one_item_has_no_error_of_its_effective_samples() -> None:
    found = likelihood.effective_samples(rows(torch.zeros(5, 1)))
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(5)
    assert math.isnan(found.se)
