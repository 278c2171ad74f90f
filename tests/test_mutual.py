"""Terms that push posteriors apart, against figures worked out elsewhere and closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from test_aggregate import bound_of, of_posteriors
from uncollapse.bound import Bound
from uncollapse.distributions.sphere import direction
from uncollapse.distributions.von_mises_fisher import VonMisesFisher
from uncollapse.errors import InputError
from uncollapse.posteriors import gaussian
from uncollapse.terms.decomposition import DecomposedRate
from uncollapse.terms.mutual import ContrastiveInformation, MutualPosteriorDivergence, divergences, information

pytestmark = pytest.mark.usefixtures("float64")


def three() -> Bound:
    variances = torch.tensor([[1.0, 1.0], [1.0, 0.25], [0.5, 1.0]])
    return of_posteriors([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], variances.sqrt())


def spherical() -> Bound:
    law = VonMisesFisher(direction(torch.randn(4, 3)), torch.rand(4) * 5)
    return bound_of(law, law.rsample((2,)), None)


@pytest.mark.parametrize(("form", "expected"), [("paper", 0.6983465622), ("code", 0.5385978119)])
def test_three_posteriors_have_the_diversity_worked_out_by_hand(form: Any, expected: float) -> None:
    assert MutualPosteriorDivergence(1.0, 0.0, form)(three()).item() == pytest.approx(expected, abs=1e-9)


def test_three_posteriors_have_the_divergences_and_the_smoothness_worked_out_by_hand() -> None:
    apart = divergences(three())

    assert apart.shape == (6, 2)
    assert apart.mean(0).tolist() == pytest.approx([0.5, 2.7083333333], abs=1e-9)
    assert apart.sum(1).std(correction=0).item() == pytest.approx(2.8903843456, abs=1e-9)
    assert MutualPosteriorDivergence(0.0, 2.0)(three()).item() == pytest.approx(2 * 3.1662574119, abs=1e-9)


def test_the_two_parts_add_up() -> None:
    found = MutualPosteriorDivergence(1.0, 0.5)(three()).item()

    assert found == pytest.approx(0.5385978119 + 0.5 * 3.1662574119, abs=1e-9)


def test_a_higher_weight_pushes_divergences_up_to_where_they_are_larger() -> None:
    apart = [0.5, 2.7083333333]
    expected = sum(2 * math.log1p(math.exp(-one / 2)) for one in apart)

    assert MutualPosteriorDivergence(2.0, 0.0)(three()).item() == pytest.approx(expected, abs=1e-9)
    assert MutualPosteriorDivergence(2.0, 0.0, "paper")(three()).item() == pytest.approx(2 * 0.6983465622, abs=1e-9)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_the_same_posteriors_cost_log_2_a_unit_and_have_finite_gradients(form: Any) -> None:
    mean = torch.zeros(4, 3, requires_grad=True)
    found = MutualPosteriorDivergence(1.0, 0.5, form)(of_posteriors(mean, torch.ones(4, 3)))
    found.backward()

    assert found.item() == pytest.approx(3 * math.log(2))
    assert mean.grad is not None
    assert mean.grad.isfinite().all()


def test_one_item_has_none_to_differ_from() -> None:
    mean = torch.zeros(1, 2, requires_grad=True)
    found = MutualPosteriorDivergence()(of_posteriors(mean, torch.ones(1, 2)))
    found.backward()

    assert found.item() == 0.0


def test_divergences_of_a_law_that_does_not_split_are_of_the_whole() -> None:
    bound = spherical()
    apart = divergences(bound).view(4, 3)
    law: Any = bound.q
    other = VonMisesFisher(law.loc[1], law.concentration[1])

    assert apart[0, 0].item() == pytest.approx(
        kl_divergence(VonMisesFisher(law.loc[0], law.concentration[0]), other).item()
    )
    assert (apart > 0).all()


def test_divergences_without_a_closed_form_are_drawn() -> None:
    plain = three()
    normal: Any = plain.q
    each = Independent(Normal(normal.mean.unsqueeze(1), normal.stddev.unsqueeze(1)), 1)
    law = MixtureSameFamily(Categorical(logits=torch.zeros(3, 1)), each)  # One component each: the same laws.
    z = normal.sample((20_000,))

    found = divergences(bound_of(law, z, None))

    torch.testing.assert_close(found, divergences(plain).sum(1, keepdim=True), atol=0.1, rtol=0)


def test_a_critic_that_says_nothing_finds_nothing() -> None:
    assert information(torch.zeros(3, 8, 8)).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("batch", "batches", "expected"), [(32, 2000, 0.6614), (4, 30_000, 0.4700)])
def test_the_best_critic_finds_what_a_batch_of_that_size_tells(batch: int, batches: int, expected: float) -> None:
    """The information is log 2 = 0.6931."""
    x = torch.randn(batches, batch)
    z = math.sqrt(0.75) * x + 0.5 * torch.randn(batches, batch)
    scores = -2 * (z.unsqueeze(2) - math.sqrt(0.75) * x.unsqueeze(1)).square()

    assert information(scores).item() == pytest.approx(expected, abs=0.01)


def test_posteriors_far_apart_are_told_up_to_the_cap_and_the_same_ones_not_at_all() -> None:
    far = torch.arange(8.0).unsqueeze(1) * 100

    assert ContrastiveInformation()(of_posteriors(far, torch.ones(8, 1))).item() == pytest.approx(-math.log(8))
    assert ContrastiveInformation()(of_posteriors(far * 0, torch.ones(8, 1))).item() == pytest.approx(0.0, abs=1e-12)


def test_one_item_is_told_from_none() -> None:
    assert ContrastiveInformation()(of_posteriors(torch.zeros(1, 2), torch.ones(1, 2))).item() == 0.0


def test_beside_the_rate_it_leaves_what_the_aggregate_posterior_costs() -> None:
    bound = of_posteriors(torch.randn(6, 3), torch.rand(6, 3) + 0.5)
    rest = DecomposedRate(6, information=0.0, sampling="stratified")(bound)

    torch.testing.assert_close((bound.log_q - bound.log_p).mean() + ContrastiveInformation()(bound), rest)


def test_it_descends_to_posteriors_further_apart() -> None:
    mean = torch.tensor([[-0.5], [0.5]], requires_grad=True)
    law = gaussian(mean, torch.zeros(2, 1))
    ContrastiveInformation()(bound_of(law, law.rsample(torch.Size((1000,))), None)).backward()

    assert mean.grad is not None
    assert mean.grad[0] > 0 > mean.grad[1]


def test_a_law_on_the_sphere_is_told_too() -> None:
    assert -math.log(4) < ContrastiveInformation()(spherical()).item() < 0


def test_without_a_law_the_terms_are_refused_in_a_line() -> None:
    for term, name in (
        (ContrastiveInformation(), "contrastive-information"),
        (MutualPosteriorDivergence(), "mutual-posterior-divergence"),
    ):
        with pytest.raises(InputError, match=f"the term `{name}` needs the law of z given x"):
            term(three()._replace(q=None))
