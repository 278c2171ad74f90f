"""Terms of the aggregate posterior, against closed forms and figures worked out elsewhere."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from uncollapse.bound import Bound
from uncollapse.errors import InputError
from uncollapse.posteriors import gaussian
from uncollapse.priors import StandardNormal
from uncollapse.terms.aggregate import MMD

pytestmark = pytest.mark.usefixtures("float64")

X, Y = torch.tensor([[0.0], [1.0], [2.0]]).double(), torch.tensor([[0.0], [1.0], [3.0]]).double()


def bound_of(law: Distribution | None, z: Tensor, prior: Distribution | None) -> Bound:
    """A record with no more in it than terms of q(z) look at."""
    none = torch.zeros(z.shape[:2])
    log_q = none if law is None else law.log_prob(z)
    log_p = none if prior is None else prior.log_prob(z)
    return Bound(None, z, none, log_q, log_p, (log_q - log_p).mean(0).unsqueeze(1), law, prior)


def of_posteriors(mean: Any, scale: Any, z: Any = None) -> Bound:
    mean, scale = torch.as_tensor(mean), torch.as_tensor(scale)
    law, prior = gaussian(mean, 2 * scale.log()), StandardNormal(mean.shape[1]).to(mean.dtype)()
    return bound_of(law, law.rsample((1,)) if z is None else torch.as_tensor(z).unsqueeze(0), prior)  # pyright: ignore


def standard(n: int) -> Tensor:
    """N(0, 1) as n of its quantiles, evenly spread."""
    return Normal(0.0, 1.0).icdf((torch.arange(float(n)) + 0.5) / n).unsqueeze(1)


@pytest.mark.parametrize(
    ("kernel", "statistic", "expected"),
    [
        ("rbf", "biased", 0.0874376312),
        ("rbf", "unbiased", -0.3457433086),
        ("imq", "biased", 0.0740740741),
        ("imq", "unbiased", -0.2760942761),
    ],
)
def test_three_points_have_the_discrepancy_worked_out_by_hand(kernel: Any, statistic: Any, expected: float) -> None:
    assert MMD(statistic, kernel, [1.0]).between(X, Y).item() == pytest.approx(expected, abs=1e-9)


def test_kernels_of_several_widths_add_up() -> None:
    assert MMD().between(X, X).item() == pytest.approx(-2.1598845599, abs=1e-9)


@pytest.mark.parametrize(("kernel", "expected"), [("rbf", -0.3670229772), ("imq", -0.2962962963)])
def test_a_sample_has_no_discrepancy_from_itself_but_for_what_the_unbiased_one_leaves_out(
    kernel: Any, expected: float
) -> None:
    assert MMD("biased", kernel).between(X, X).item() == pytest.approx(0.0, abs=1e-14)
    assert MMD("unbiased", kernel, [1.0]).between(X, X).item() == pytest.approx(expected, abs=1e-9)


def test_the_discrepancy_of_two_gaussians_is_that_of_their_closed_form() -> None:
    found = MMD("biased", "rbf", [1.0]).between(standard(1000), standard(1000) + 1).item()

    assert found == pytest.approx(2 / math.sqrt(3) * (1 - math.exp(-1 / 6)), abs=1e-4)


def test_two_posteriors_have_their_mixtures_discrepancy_from_the_prior() -> None:
    mixture = torch.cat([standard(500) / 2 - 1, standard(500) / 2 + 1])

    assert MMD("biased", "rbf", [1.0]).between(mixture, standard(1000)).item() == pytest.approx(0.0255617701, abs=1e-4)


def test_the_width_of_the_kernel_grows_with_the_number_of_units() -> None:
    found = MMD("biased", "rbf", [1.0]).between(torch.zeros(1, 4), torch.randn(1000, 4)).item()

    assert found == pytest.approx(0.1644444444, abs=0.015)


def test_a_wider_prior_has_wider_kernels() -> None:
    assert MMD("biased", variance=9.0).between(3 * X, 3 * Y).item() == pytest.approx(MMD("biased").between(X, Y).item())


@pytest.mark.parametrize("statistic", ["biased", "unbiased"])
@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_gradients_are_finite_where_draws_are_the_same(statistic: Any, kernel: Any) -> None:
    for q in (X, torch.zeros(3, 1), X[:1]):
        z = q.clone().requires_grad_()
        MMD(statistic, kernel).between(z, q).backward()
        assert z.grad is not None
        assert z.grad.isfinite().all()


def test_an_unbiased_discrepancy_of_one_item_is_nothing() -> None:
    assert MMD("unbiased").between(X[:1], Y).item() == 0.0


def test_a_prior_that_learns_learns_from_its_draws() -> None:
    prior = gaussian(torch.zeros(2, requires_grad=True), torch.zeros(2))
    bound = of_posteriors(torch.zeros(5, 2), torch.ones(5, 2))._replace(p=prior)

    MMD()(bound).backward()

    assert prior.mean.grad_fn is None
    assert prior.mean.grad is not None


def test_a_prior_of_each_items_own_gives_each_a_draw() -> None:
    bound = of_posteriors(torch.zeros(5, 2), torch.ones(5, 2))

    assert MMD()(bound._replace(p=gaussian(torch.zeros(5, 2), torch.zeros(5, 2)))).shape == ()


def test_without_a_prior_the_term_is_refused_in_a_line() -> None:
    with pytest.raises(InputError, match=r"the term `mmd` .* this model's prior depends on the path"):
        MMD()(of_posteriors(X, X + 1)._replace(p=None))
