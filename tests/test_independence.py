"""Terms of independence, against figures worked out elsewhere and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from test_aggregate import bound_of, of_posteriors
from uncollapse.bound import Bound
from uncollapse.distributions.sphere import direction
from uncollapse.distributions.von_mises_fisher import VonMisesFisher
from uncollapse.errors import InputError
from uncollapse.posteriors import correlated_gaussian
from uncollapse.terms.independence import DIP, HSIC, criterion

pytestmark = pytest.mark.usefixtures("float64")

COVARIANCE = torch.tensor([[1.5, 0.3], [0.3, 0.8]], dtype=torch.float64)


def scaled(*values: float, gamma: float) -> Tensor:
    """Numbers whose kernel is exp(-gamma r^2), where that of one number is of a width of its own."""
    return torch.tensor(values).double().unsqueeze(1) * math.sqrt(gamma / (math.pi / 8))


def grid(*sizes: int) -> list[Tensor]:
    return [one.flatten().unsqueeze(1).double() for one in torch.meshgrid(*map(torch.arange, sizes), indexing="ij")]


def with_covariance() -> Tensor:
    """Four means of which the covariance, divided by their number, is `COVARIANCE`."""
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    return corners @ torch.linalg.cholesky(COVARIANCE).T


@pytest.mark.parametrize(("diagonal", "of_means", "of_draws"), [(100.0, 30.8, 50.8), (10.0, 4.7, 6.7)])
def test_a_covariance_costs_what_was_worked_out_by_hand(diagonal: float, of_means: float, of_draws: float) -> None:
    bound = of_posteriors(with_covariance() + 7, torch.full((4, 2), 0.2**0.5))

    assert DIP("means", 10.0, diagonal)(bound).item() == pytest.approx(of_means, abs=1e-9)
    assert DIP("draws", 10.0, diagonal)(bound).item() == pytest.approx(of_draws, abs=1e-9)


def test_a_covariance_is_compared_with_the_identity() -> None:
    assert DIP(off_diagonal=1.0, diagonal=1.0).penalty(COVARIANCE).item() == pytest.approx(0.47)
    assert DIP().penalty(torch.eye(3)).item() == 0.0


def test_collapsed_posteriors_cost_the_diagonal_of_means_and_nothing_of_draws() -> None:
    bound = of_posteriors(torch.zeros(5, 3), torch.ones(5, 3))

    assert DIP("means", 10.0, 100.0)(bound).item() == 300.0
    assert DIP("draws", 10.0, 10.0)(bound).item() == 0.0


def test_units_that_covary_within_a_posterior_count_in_draws() -> None:
    law = correlated_gaussian(torch.zeros(3, 2), torch.zeros(3, 2), torch.full((3, 1), 0.5))
    bound = bound_of(law, law.rsample(torch.Size((1,))), None)

    # L = [[1, 0], [.5, 1]], so that C is [[1, .5], [.5, 1.25]].
    assert DIP("draws", 10.0, 100.0)(bound).item() == pytest.approx(10 * 2 * 0.25 + 100 * 0.0625)


def test_mixed_precision_leaves_the_covariance_its_digits() -> None:
    bound = of_posteriors(torch.randn(6, 3).float(), torch.ones(6, 3).float())
    plain = DIP()(bound)

    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(DIP()(bound), plain)


def test_a_law_of_unknown_covariance_is_refused_in_a_line() -> None:
    law = VonMisesFisher(direction(torch.randn(4, 3)), torch.ones(4))
    bound = bound_of(law, law.rsample((1,)), None)

    assert DIP()(bound).isfinite()
    with pytest.raises(InputError, match="covariance of z, which the law `VonMisesFisher` does not say: set `of`"):
        DIP("draws")(bound)
    with pytest.raises(InputError, match="the term `dip` needs the law of z given x"):
        DIP()(bound._replace(q=None))


def test_the_criterion_is_that_worked_out_by_hand() -> None:
    two, three = scaled(0, 1, gamma=1.0), scaled(0, 1, 2, gamma=0.5)

    assert criterion([two, two]).item() == pytest.approx(0.0998941002, abs=1e-9)
    assert criterion([three, scaled(0, 1, 1, gamma=0.5)]).item() == pytest.approx(0.0412472214, abs=1e-9)


@pytest.mark.parametrize(("units", "gamma"), [(1, 0.3926991), (2, 0.1591549), (5, 0.0552233), (32, 0.0079355)])
def test_the_width_of_the_kernel_grows_with_the_number_of_units(units: int, gamma: float) -> None:
    two = torch.zeros(2, units)
    two[1, 0] = 1.0

    assert criterion([two, two]).item() == pytest.approx((1 - math.exp(-gamma)) ** 2 / 4, rel=1e-5)


def test_independent_variables_have_none() -> None:
    assert criterion(grid(2, 2)).item() == pytest.approx(0.0, abs=1e-15)
    assert criterion(grid(2, 3, 2)).item() == pytest.approx(0.0, abs=1e-15)


def test_three_variables_may_depend_on_each_other_though_no_two_do() -> None:
    one, other = grid(2, 2)
    either = (one != other).double()

    assert criterion([one, either]).item() == pytest.approx(0.0, abs=1e-15)
    assert criterion([one, other, either]).item() > 1e-3


def test_classes_are_alike_or_not() -> None:
    classes = torch.tensor([[0], [7], [9]])

    # The kernels are identities: 1/3 + 1/9 - 2/9.
    assert criterion([classes, classes]).item() == pytest.approx(2 / 9)


def labelled(z: Tensor, label: Tensor) -> Bound:
    return of_posteriors(torch.zeros_like(z), torch.ones_like(z), z)._replace(extras={"label": label})


def test_groups_of_units_are_compared_and_what_a_batch_says_of_its_items() -> None:
    one, other = grid(4, 2)
    bound = labelled(torch.cat([one, other], 1), other.squeeze(1).long())

    assert HSIC()(bound).item() == pytest.approx(0.0, abs=1e-15)
    assert HSIC(groups=1, against="label")(bound).item() > 0.01
    only_first = labelled(one, other.squeeze(1).long())
    assert HSIC(groups=1, against="label")(only_first).item() == pytest.approx(0.0, abs=1e-15)


def test_labels_of_several_numbers_are_one_variable() -> None:
    z, label = torch.randn(5, 2), torch.randn(5, 3)

    assert HSIC(1, "label")(labelled(z, label)).item() == pytest.approx(criterion([z, label]).item())


def test_gradients_are_finite_where_draws_are_the_same() -> None:
    z = torch.zeros(4, 2, requires_grad=True)
    HSIC()(of_posteriors(torch.zeros(4, 2), torch.ones(4, 2), z)).backward()

    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_a_dependence_is_descended() -> None:
    both = torch.randn(20, 1)
    z = torch.cat([both, both + 0.1 * torch.randn(20, 1)], 1).requires_grad_()
    before = HSIC()(of_posteriors(z, torch.ones(20, 2), z))
    before.backward()
    after = z.detach() - 0.1 * z.grad  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]

    assert HSIC()(of_posteriors(after, torch.ones(20, 2), after)).item() < before.item()


def test_what_is_not_there_is_refused_in_a_line() -> None:
    bound = labelled(torch.randn(4, 1), torch.zeros(4))

    with pytest.raises(InputError, match=r"unknown extra `lable`\. Did you mean `label`\?"):
        HSIC(1, "lable")(bound)
    with pytest.raises(InputError, match="`hsic` has 2 groups of units, and this model's z splits into 1"):
        HSIC()(bound)
    with pytest.raises(InputError, match="one group of units and nothing for it to be independent of"):
        HSIC(groups=1)
