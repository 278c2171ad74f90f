"""The rate in parts, against figures worked out elsewhere and closed forms."""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal
from torch.quasirandom import SobolEngine

from test_aggregate import bound_of, of_posteriors
from uncollapse.bound import Bound
from uncollapse.distributions import operations
from uncollapse.distributions.one_hots import OneHots
from uncollapse.distributions.sphere import direction
from uncollapse.distributions.von_mises_fisher import VonMisesFisher
from uncollapse.errors import InputError
from uncollapse.posteriors import correlated_gaussian, gaussian
from uncollapse.priors import StandardNormal, UniformSphere
from uncollapse.terms.decomposition import DecomposedRate, DensityGap, Parts, decomposed

pytestmark = pytest.mark.usefixtures("float64")

Sampling = Literal["weighted", "stratified"]


def three(z: Any = ((0.1, -0.2), (0.9, -0.8), (-1.2, 1.5))) -> Bound:
    return of_posteriors([[0.0, 0.0], [1.0, -1.0], [-1.0, 2.0]], [[0.5, 1.0], [1.0, 0.5], [0.8, 0.8]], z)


def parts_of(bound: Bound, items: int, sampling: Sampling = "stratified", groups: int | None = None) -> Parts:
    return decomposed(bound, DecomposedRate(items, sampling=sampling).log_weights(bound.log_q), groups, "x")


def drawn(law: Distribution, prior: Distribution, samples: int) -> Bound:
    return bound_of(law, law.rsample(torch.Size((samples,))), prior)


def spherical(items: int = 6) -> Bound:
    law = VonMisesFisher(direction(torch.randn(items, 3)), torch.full((items,), 5.0))
    return drawn(law, UniformSphere(3)(), 2)


@pytest.mark.parametrize(
    ("items", "sampling", "expected"),
    [
        (3, "weighted", (2.0782935973, 1.6234752997, -2.3430959092)),
        (3, "stratified", (0.9796813087, 0.5248630111, -0.1458713318)),
        (1000, "weighted", (7.8874365877, 7.4326182901, -13.9613818898)),
        (1000, "stratified", (2.9959404065, 0.2725616148, -1.9098290333)),
    ],
)
def test_three_items_have_the_parts_worked_out_by_hand(items: int, sampling: Any, expected: tuple[float, ...]) -> None:
    found = parts_of(three(), items, sampling)

    assert (found.information, found.between, found.marginal) == pytest.approx(expected, abs=1e-9)
    assert found.within == 0
    assert sum(found) == pytest.approx(1.3586729879, abs=1e-9)


@pytest.mark.parametrize("groups", [None, 1, 2])
@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
def test_with_all_weights_1_value_and_gradient_are_those_of_the_drawn_rate(sampling: Any, groups: int | None) -> None:
    mean = torch.randn(5, 3, requires_grad=True)
    bound = drawn(gaussian(mean, torch.zeros(5, 3)), StandardNormal(3)(), 4)
    plain, found = (bound.log_q - bound.log_p).mean(), DecomposedRate(100, groups=groups, sampling=sampling)(bound)

    torch.testing.assert_close(found, plain)
    of_plain, of_found = (torch.autograd.grad(one, mean, retain_graph=True)[0] for one in (plain, found))
    torch.testing.assert_close(of_found, of_plain)


def test_every_part_has_its_own_weight() -> None:
    bound = of_posteriors(torch.randn(6, 4), torch.rand(6, 4) + 0.5)
    weights = (2.0, 3.0, 5.0, 7.0)

    found = DecomposedRate(50, *weights, groups=2, sampling="stratified")(bound)

    parts = parts_of(bound, 50, groups=2)
    assert found.item() == pytest.approx(sum(w * part.item() for w, part in zip(weights, parts, strict=True)))


def test_two_posteriors_have_the_information_and_the_marginal_kl_of_their_mixture() -> None:
    law = gaussian(torch.tensor([[-1.0], [1.0]]), torch.full((2, 1), 2 * math.log(0.5)))
    noise = Normal(0.0, 1.0).icdf((torch.arange(2000.0) + 0.5) / 2000)[:, None, None]
    found = parts_of(bound_of(law, torch.tensor([[-1.0], [1.0]]) + 0.5 * noise, StandardNormal(1).double()()), 2)

    assert found.information.item() == pytest.approx(0.6327201937, abs=1e-3)
    assert found.marginal.item() == pytest.approx(0.1854269868, abs=1e-3)


def test_correlated_units_have_the_total_correlation_between_and_within_groups_of_their_gaussian() -> None:
    covariance = torch.full((4, 4), 0.2) + torch.block_diag(*[torch.full((2, 2), 0.3)] * 2) + 0.5 * torch.eye(4)
    points = Normal(0.0, 1.0).icdf(SobolEngine(8, scramble=True, seed=0).draw(1024).double())
    spread = 0.4
    means = points[:, :4] @ torch.linalg.cholesky(covariance - spread * torch.eye(4)).T
    bound = of_posteriors(means, torch.full_like(means, spread**0.5), means + spread**0.5 * points[:, 4:])

    found = parts_of(bound, 1024, groups=2)

    assert found.within.item() == pytest.approx(2 * 0.1438410362, abs=0.02)
    assert found.between.item() == pytest.approx(0.0368830751, abs=0.02)
    assert parts_of(bound, 1024).between.item() == pytest.approx(0.3245651476, abs=0.03)


def test_groups_split_the_total_correlation_and_leave_the_rest() -> None:
    bound = of_posteriors(torch.randn(6, 4), torch.rand(6, 4) + 0.5)
    units, one, two = (parts_of(bound, 50, groups=groups) for groups in (None, 1, 2))

    torch.testing.assert_close(units, parts_of(bound, 50, groups=4))
    torch.testing.assert_close(one, units._replace(between=units.within, within=units.between))
    torch.testing.assert_close(two.between + two.within, units.between)
    assert two.between != 0
    assert two.within != 0
    assert (two.information, two.marginal) == (units.information, units.marginal)


def test_stratified_batches_give_an_aggregate_density_that_is_right_on_average() -> None:
    law, items, batch = gaussian(torch.randn(5, 2), torch.zeros(5, 2)), 5, 3
    z = law.sample()
    densities = operations.pairwise_log_prob(law, z).exp()
    weights = DecomposedRate(items, sampling="stratified").log_weights(torch.zeros(1, batch)).exp()
    of_batches = [
        (weights[0] * densities[0, [0, *others]]).sum() for others in itertools.combinations(range(1, items), batch - 1)
    ]

    torch.testing.assert_close(torch.stack(of_batches).mean(), densities[0].mean())
    torch.testing.assert_close(weights.sum(1), torch.ones(batch))


@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
def test_a_batch_of_one_item_is_finite(sampling: Any) -> None:
    mean = torch.zeros(1, 2, requires_grad=True)
    DecomposedRate(100, between=6.0, sampling=sampling)(
        drawn(gaussian(mean, torch.zeros(1, 2)), StandardNormal(2)(), 1)
    ).backward()

    assert mean.grad is not None
    assert mean.grad.isfinite().all()


def test_the_densities_of_pairs_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    whole = operations.pairwise_by_group
    monkeypatch.setattr(operations, "pairwise_by_group", lambda *given: calls.append(1) or whole(*given))

    DecomposedRate(10, 1.0, 2.0, 3.0, 4.0, groups=2)(three())

    assert len(calls) == 1


@pytest.mark.parametrize(
    ("law", "groups"),
    [
        (gaussian(torch.randn(4, 3), torch.randn(4, 3)), 3),
        (OneHots(torch.randn(4, 2, 3)), 2),
        (VonMisesFisher(direction(torch.randn(4, 3)), torch.rand(4)), 1),
        (correlated_gaussian(torch.randn(4, 2), torch.randn(4, 2), torch.randn(4, 1)), 1),
    ],
    ids=["gaussian", "choices", "von-mises-fisher", "full-gaussian"],
)
def test_log_densities_by_group_add_up_to_those_of_z(law: Any, groups: int) -> None:
    z = law.sample((5,))[:, 0]
    found = operations.pairwise_by_group(law, z)

    assert found.shape == (5, 4, groups)
    torch.testing.assert_close(found.sum(-1), operations.pairwise_log_prob(law, z), check_dtype=False)


def test_choices_have_their_information_and_total_correlation_by_choice() -> None:
    """Two items, and two choices that both say which it is: log 2 each, and what they share is log 2."""
    law = OneHots(torch.tensor([[[30.0, 0.0], [30.0, 0.0]], [[0.0, 30.0], [0.0, 30.0]]]))
    found = parts_of(drawn(law, OneHots(torch.zeros(2, 2)), 3), 2)

    assert [part.item() for part in found] == pytest.approx([math.log(2), math.log(2), 0.0, 0.0], abs=1e-9)


def test_what_does_not_split_has_no_total_correlation() -> None:
    found = parts_of(spherical(), 6)

    assert found.between == 0
    assert found.information > 0


def test_more_groups_than_units_are_refused_in_a_line() -> None:
    with pytest.raises(InputError, match="`decomposed-rate` has 3 groups of units, and this model's z splits into 2"):
        DecomposedRate(10, groups=3)(three())


def test_two_posteriors_have_the_density_gap_of_their_mixture() -> None:
    bound = of_posteriors([[-1.0], [1.0]], [[0.5], [0.5]])

    assert DensityGap(samples=200_000)(bound).item() == pytest.approx(0.1854269868, abs=0.005)


def test_a_single_item_has_its_rate_as_its_density_gap() -> None:
    bounds = [of_posteriors([[mean]], [[0.5]]) for mean in (-1.0, 1.0)]
    found = [DensityGap(samples=200_000)(one).item() for one in bounds]

    assert sum(found) / 2 == pytest.approx(0.8181471806, abs=0.005)


def test_the_density_gap_does_not_charge_that_units_depend_on_each_other() -> None:
    apart = of_posteriors([[-1.0, -1.0], [1.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]])

    assert DensityGap(samples=200_000)(apart).item() == pytest.approx(2 * 0.1854269868, abs=0.01)


def test_the_density_gap_of_a_law_that_does_not_split_is_that_of_the_whole() -> None:
    one = spherical(1)
    rate: Tensor = (one.q.entropy().neg() - one.log_p[0]).mean()  # pyright: ignore[reportOptionalMemberAccess]

    assert DensityGap(samples=100_000)(one).item() == pytest.approx(rate.item(), abs=0.01)


def test_the_density_gap_pulls_the_aggregate_and_no_single_posterior() -> None:
    """At the prior's quantiles posteriors are where they should be, though each is far from the prior."""
    mean = Normal(0.0, 1.0).icdf((torch.arange(50.0) + 0.5) / 50).unsqueeze(1).requires_grad_()
    bound = of_posteriors(mean, torch.full((50, 1), 0.3))

    (at_prior,) = torch.autograd.grad(DensityGap(2000)(bound), mean)

    assert at_prior.norm() < 0.2 * (mean / 50).norm()  # The gradient that the rate has.


def test_without_laws_the_terms_are_refused_in_a_line() -> None:
    for term, name in ((DecomposedRate(10), "decomposed-rate"), (DensityGap(), "density-gap")):
        with pytest.raises(InputError, match=f"the term `{name}` needs the law of z given x"):
            term(three()._replace(q=None))
    with pytest.raises(InputError, match="`density-gap` needs a prior's law"):
        DensityGap()(three()._replace(p=None))
