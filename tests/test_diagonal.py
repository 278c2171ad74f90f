"""The lean Gaussian says what torch's says, in either precision and any shape."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

import uncollapse as uc
from uncollapse.distributions.diagonal import Diagonal
from uncollapse.divergence import kl_by_group

SHAPES = [(5,), (2, 3), (2, 3, 4)]


def laws(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Diagonal, Independent]:
    loc, log_scale = torch.randn(2, 7, *shape, dtype=dtype)
    plain = Independent(Normal(loc, log_scale.exp()), len(shape))
    return Diagonal(loc, log_scale.exp(), len(shape), log_scale), plain


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_its_density_moments_and_entropy_are_those_of_torch(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    lean, plain = laws(shape, dtype)
    z = plain.sample((4,))
    assert lean.log_prob(z).dtype == dtype
    for name in ("batch_shape", "event_shape", "has_rsample"):
        assert getattr(lean, name) == getattr(plain, name)
    pairs = [(lean.log_prob(z), plain.log_prob(z)), (lean.entropy(), plain.entropy())]
    pairs += [(lean.mean, plain.mean), (lean.variance, plain.variance)]
    wide = (lean.expand((3, 7)), plain.expand((3, 7)))
    for ours, theirs in [*pairs, (wide[0].log_prob(z[:3]), wide[1].log_prob(z[:3]))]:
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", SHAPES)
def test_its_density_without_the_logarithm_at_hand_and_of_shared_scales_is_the_same(shape: tuple[int, ...]) -> None:
    loc, scale = torch.randn(7, *shape), torch.rand(shape) + 0.1
    z = torch.randn(3, 7, *shape)
    plain = Independent(Normal(loc, scale), len(shape)).log_prob(z)
    torch.testing.assert_close(Diagonal(loc, scale, len(shape)).log_prob(z), plain)


def test_it_draws_as_torch_does_from_the_same_seed() -> None:
    lean, plain = laws((5,), torch.float32)
    torch.manual_seed(3)
    ours = lean.rsample((4,))
    torch.manual_seed(3)
    torch.testing.assert_close(ours, plain.rsample((4,)))


@pytest.mark.parametrize("shape", SHAPES)
def test_its_kl_to_the_standard_normal_prior_and_the_gradients_are_those_of_torch(shape: tuple[int, ...]) -> None:
    mean = torch.randn(7, *shape, dtype=torch.float64, requires_grad=True)
    log_variance = torch.randn(7, *shape, dtype=torch.float64, requires_grad=True)
    prior = uc.StandardNormal(shape)().expand(())
    none = torch.zeros(1, 7)

    def gradients(kl: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(kl.sum(), (mean, log_variance))

    ours = kl_by_group(uc.gaussian(mean, log_variance), uc.StandardNormal(shape)(), none, none)
    plain = Independent(Normal(mean, (0.5 * log_variance).exp()), len(shape))
    theirs = kl_divergence(plain, prior)
    torch.testing.assert_close(ours.sum(1), theirs)
    for one, other in zip(gradients(ours), gradients(theirs), strict=True):
        torch.testing.assert_close(one, other)


def test_the_standard_prior_scores_as_torchs_normal_does() -> None:
    z = torch.randn(3, 7, 4)
    plain = Independent(Normal(torch.zeros(4), torch.ones(4)), 1)
    torch.testing.assert_close(uc.StandardNormal(4)().log_prob(z), plain.log_prob(z))
