"""Laws of values on a scale of levels: the logistic law in bins, and a probability for each level."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent

from uncollapse.distributions.bits import Bits
from uncollapse.distributions.levels import Levels
from uncollapse.distributions.logistic import DiscretisedLogistic
from uncollapse.errors import InputError

#: Means and scales: usual ones, a scale far below and far above the bins, means out of reach.
MEANS, SCALES = [0.5, 0.0, 1.0, 0.123, -3.0, 40.0], [1.0, 0.05, 1 / 255, 1e-3, 1e-5, 1e4]


def scale(levels: int, dtype: torch.dtype) -> Tensor:
    return torch.arange(levels, dtype=dtype) / (levels - 1)


def laws(levels: int, dtype: torch.dtype) -> list[Distribution]:
    torch.manual_seed(0)
    logits = 5 * torch.randn(36, levels, dtype=dtype)
    mean, spread = torch.cartesian_prod(torch.tensor(MEANS, dtype=dtype), torch.tensor(SCALES, dtype=dtype)).T
    return [DiscretisedLogistic(mean, spread, levels), Levels(logits)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_probabilities_sum_to_1(levels: int, dtype: torch.dtype) -> None:
    for law in laws(levels, dtype):
        total = law.log_prob(scale(levels, dtype).unsqueeze(1)).logsumexp(0)
        exact, off = torch.zeros(36, dtype=dtype), 2e-5 if dtype.itemsize == 4 else 1e-9
        torch.testing.assert_close(total, exact, rtol=0, atol=off)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_means_are_those_of_the_levels(levels: int, float64: None) -> None:
    for law in laws(levels, torch.float64):
        x = scale(levels, torch.float64).unsqueeze(1)
        torch.testing.assert_close(law.mean, (law.log_prob(x).exp() * x).sum(0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("levels", [2, 17])
def test_draws_are_as_frequent_as_their_probability(levels: int, float64: None) -> None:
    torch.manual_seed(1)
    for law in [DiscretisedLogistic(torch.tensor(0.7), torch.tensor(0.1), levels), Levels(torch.randn(levels))]:
        drawn, x = law.sample((40_000,)), scale(levels, torch.float64)
        share = (drawn.unsqueeze(1) - x).abs().lt(1e-9).double().mean(0)
        p = law.log_prob(x).exp()
        assert share.sum() == 1
        assert ((share - p).abs() <= 5 * (p * (1 - p) / 40_000).sqrt() + 1e-12).all()


def test_a_bin_has_what_the_logistic_law_gives_it(float64: None) -> None:
    found = DiscretisedLogistic(torch.tensor(0.3), torch.tensor(0.02)).log_prob(torch.tensor([0.0, 80 / 255, 1.0]))
    first, low, high, last = (torch.tensor([0.5, 79.5, 80.5, 254.5]) / 255 - 0.3) / 0.02
    exact = torch.stack([first.sigmoid(), high.sigmoid() - low.sigmoid(), (-last).sigmoid()])
    torch.testing.assert_close(found, exact.log())


def test_of_two_levels_the_logistic_law_is_a_bernoulli_law(float64: None) -> None:
    loc, x = torch.randn(50), torch.randint(2, (50,)).double()
    exact = Bernoulli(logits=(loc - 0.5) / 0.3).log_prob(x)
    torch.testing.assert_close(DiscretisedLogistic(loc, torch.tensor(0.3), 2).log_prob(x), exact)


def test_far_from_its_mean_a_bin_has_the_tail_of_the_law(float64: None) -> None:
    """1000 scales away both sides of the bin are 1, or 0, to the last bit."""
    law = DiscretisedLogistic(torch.tensor(0.0), torch.tensor(1e-3))
    exact = -1000 * 254 / 255 + math.log(2 * math.sinh(500 / 255))
    assert law.log_prob(torch.tensor(254 / 255)).item() == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("x", [0.0, 1 / 255, 100 / 255, 254 / 255, 1.0])
@pytest.mark.parametrize("spread", [0.3, 0.01, 1e-3])
def test_gradients_are_those_of_finite_differences(x: float, spread: float, float64: None) -> None:
    def score(loc: Tensor, log_scale: Tensor) -> Tensor:
        return DiscretisedLogistic(loc, log_scale.exp()).log_prob(torch.tensor(x))

    loc = torch.tensor(0.4, requires_grad=True)
    log_scale = torch.tensor(math.log(spread), requires_grad=True)
    assert torch.autograd.gradcheck(score, (loc, log_scale), eps=1e-7, rtol=1e-5)


@pytest.mark.parametrize("spread", SCALES)
@pytest.mark.parametrize("mean", MEANS)
def test_gradients_are_finite_in_single_precision(mean: float, spread: float) -> None:
    loc, log_scale = (torch.tensor(value, requires_grad=True) for value in (mean, math.log(spread)))
    scored = DiscretisedLogistic(loc, log_scale.exp()).log_prob(scale(256, torch.float32))
    scored.sum().backward()
    assert scored.isfinite().all()
    assert loc.grad is not None
    assert log_scale.grad is not None
    assert loc.grad.isfinite()
    assert log_scale.grad.isfinite()


def test_levels_have_the_probabilities_of_a_softmax(float64: None) -> None:
    logits, k = torch.randn(3, 4, 7, 17), torch.randint(17, (4, 7))
    exact = Categorical(logits=logits).log_prob(k)
    torch.testing.assert_close(Levels(logits).log_prob(k / 16), exact)


@pytest.mark.parametrize("value", [0.5, -1 / 255, 256 / 255, float("nan"), 100.0])
def test_a_value_on_none_of_the_levels_is_refused(value: float) -> None:
    for law in (DiscretisedLogistic(torch.zeros(3), torch.ones(3)), Levels(torch.zeros(3, 256))):
        with pytest.raises(InputError, match=r"of the 256 values 0, 1/255, ..., 1, and the data has"):
            law.log_prob(torch.tensor([0.0, value, 1.0]))


def test_all_256_levels_of_bytes_are_known_in_single_precision() -> None:
    bytes_as_read = torch.arange(256, dtype=torch.uint8).float() / 255
    exact = Levels(torch.eye(256)).log_prob(bytes_as_read)
    torch.testing.assert_close(exact, torch.full((256,), 1 - math.log(math.e + 255)))


def test_laws_of_levels_are_discrete_and_broadcast() -> None:
    assert Independent(Bits(torch.zeros(36)), 1).support.is_discrete  # pyright: ignore
    for law in laws(17, torch.float32):
        assert Independent(law, 1).support.is_discrete  # pyright: ignore
        wide = law.expand(torch.Size((5, 36)))
        assert wide.sample((2,)).shape == (2, 5, 36)
        x = wide.sample()
        torch.testing.assert_close(wide.log_prob(x), law.log_prob(x))
