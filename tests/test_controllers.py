"""Terms whose weight follows the model: where they come to, in numbers and on a rate and a distortion known in full."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from test_rates import bound
from uncollapse.bound import Bound
from uncollapse.errors import InputError
from uncollapse.terms.controllers import GECO, ControlledRate, MinimumRate, MinimumRateDual, SoftFreeBits
from uncollapse.terms.rates import distortion, rate


def of_rate(value: float) -> Bound:
    """The bound on two items of this rate on average, in four units."""
    return bound(torch.tensor([[0.5], [1.5]]) * value / 4 * torch.ones(4))


def settled(term: Any, *others: Any) -> float:
    """The rate R that descent of a term and others ends at, where the distortion is 10 exp(-R)."""
    where = torch.tensor([[2.0]], requires_grad=True)
    for _ in range(300):
        here = bound(where, -10 * (-where).exp().T)
        (slope,) = torch.autograd.grad(torch.stack([one(here) for one in (term, *others)]).sum(), where)
        with torch.no_grad():
            where -= 0.4 * slope
            term.update(bound(where, -10 * (-where).exp().T))
    return where.item()


# Soft free bits.


def test_soft_free_bits_move_the_weight_by_a_tenth_outside_their_band() -> None:  # T30
    term, found = SoftFreeBits(5.0, start=0.5), []
    for value in (3.0, 5.2, 5.3, 6.0, 4.9):
        term.update(of_rate(value))
        found.append(float(term(of_rate(2.0))) / 2)
    assert found == pytest.approx([0.454545, 0.454545, 0.5, 0.55, 0.5], abs=1e-6)


@pytest.mark.parametrize(("value", "weight"), [(9.0, 1.0), (0.0, 0.2)])
def test_soft_free_bits_keep_within_their_limits(value: float, weight: float) -> None:
    term = SoftFreeBits("1 nats/unit", start=0.5, least=0.2)
    for _ in range(50):
        term.update(of_rate(value))
    assert float(term.weight) == pytest.approx(weight)


def test_soft_free_bits_may_listen_to_a_moving_average() -> None:
    term = SoftFreeBits(5.0, start=0.5, smoothing=0.5)
    found = []
    for value in (8.0, 8.0, 3.0):
        term.update(of_rate(value))
        found.append(float(term.weight))
    assert found == pytest.approx([0.5 / 1.1, 0.5, 0.5 / 1.1])  # Averages 4, 6, 4.5.


# Minimum desired rate.


def test_the_published_multiplier_has_these_values_and_slopes() -> None:  # T32
    term, kl = MinimumRateDual(5.0), torch.tensor([[2.0]], requires_grad=True)
    term.position.requires_grad_()
    value = term(bound(kl))
    pull, climb = torch.autograd.grad(value, (kl, term.position))

    assert float(value.detach()) == pytest.approx(2.079442, abs=1e-6)
    assert float(climb) == pytest.approx(1.5)
    assert 1 + float(pull) == pytest.approx(0.306853, abs=1e-6)


def test_the_published_multiplier_climbs_as_rmsprop_does() -> None:
    term, free = MinimumRateDual(5.0, learning_rate=0.01), torch.zeros((), requires_grad=True)
    optimiser = torch.optim.RMSprop([free], lr=0.01)
    for value in (2.0, 4.0, 7.0, 5.5, 1.0):
        term.update(of_rate(value))
        optimiser.zero_grad()
        (-torch.nn.functional.softplus(free) * (5.0 - value)).backward()
        optimiser.step()
    torch.testing.assert_close(term.position, free.detach())


@pytest.mark.parametrize(
    ("term", "multiplier"),
    [
        (MinimumRate(4.0, penalty=0.5, step=0.05), lambda term: term.multiplier),
        (MinimumRateDual(4.0, learning_rate=0.01), lambda term: torch.nn.functional.softplus(term.position)),
    ],
)
def test_a_minimum_rate_is_met_at_the_saddle(term: Any, multiplier: Any) -> None:  # T33
    assert settled(term, distortion, rate) == pytest.approx(4.0, abs=0.02)
    assert float(multiplier(term)) == pytest.approx(1 - 10 * math.exp(-4), abs=0.01)  # 0.816844


@pytest.mark.parametrize("term", [MinimumRate(1.0, penalty=0.5, step=0.05), MinimumRateDual(1.0, learning_rate=0.05)])
def test_a_minimum_rate_that_is_exceeded_anyway_changes_nothing(term: Any) -> None:  # T33
    assert settled(term, distortion, rate) == pytest.approx(math.log(10), abs=0.01)


def test_the_augmented_lagrangian_of_a_small_penalty_is_the_multipliers_term() -> None:
    term = MinimumRate(5.0, penalty=1e-6)
    term.multiplier.fill_(0.7)
    assert float(term(of_rate(2.0))) == pytest.approx(0.7 * 3.0, rel=1e-2)


@pytest.mark.parametrize(("kl", "push"), [(2.0, 0.2 + 0.5 * 3), (5.0, 0.2), (5.4, 0.0), (8.0, 0.0)])
def test_the_augmented_lagrangian_lowers_the_rates_weight_while_it_is_needed(kl: float, push: float) -> None:
    term, here = MinimumRate(5.0, penalty=0.5), torch.tensor([[kl]], requires_grad=True)
    term.multiplier.fill_(0.2)
    (slope,) = torch.autograd.grad(term(bound(here)), here)
    assert float(slope) == pytest.approx(-push, abs=1e-6)


# GECO.


def test_the_distortion_comes_to_its_target_at_the_least_rate() -> None:  # C1
    term = GECO(2.0, speed=0.02, smoothing=0.9)
    assert settled(term, rate) == pytest.approx(math.log(5), abs=1e-3)  # 1.609438
    assert float(term.weight) == pytest.approx(0.5, abs=1e-3)


def test_a_distortion_within_its_target_is_the_bounds_at_weight_one() -> None:
    term, here = GECO(2.0), torch.tensor([[1.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(term(bound(here, -10 * (-here).exp().T)), here)
    assert float(slope) == pytest.approx(-10 * math.exp(-1))


@pytest.mark.parametrize(("excess", "weight"), [(1e6, 100.0), (-1e6, 0.01)])
def test_a_target_out_of_reach_ends_at_the_weights_limit(excess: float, weight: float) -> None:
    term = GECO(1e7)
    for _ in range(3):
        term.update(bound(torch.zeros(1, 1), torch.tensor([[-1e7 - excess]])))
    assert float(term.weight) == pytest.approx(weight)


# A controlled rate.


def test_the_controller_sets_these_weights() -> None:  # B28
    term, found = ControlledRate(3.0), []
    for value in (0.0, 1.0, 5.0, 10.0, 3.0):
        term.update(of_rate(value))
        found.append(float(term(of_rate(2.0))) / 2)
    assert found == pytest.approx([0.00017426, 0.00069203, 0.00850797, 0.01039089, 0.0054], abs=1e-8)


def test_the_integral_rests_where_the_weight_is_at_its_limit() -> None:
    term = ControlledRate(3.0, integral=0.01)
    for _ in range(200):
        term.update(of_rate(0.0))
    assert float(term.weight) == 0.0
    assert float(term.total) == 0.0
    term.update(of_rate(10.0))
    assert float(term.weight) == pytest.approx(0.07 + 0.01 / (1 + math.exp(-7)))


def test_a_controlled_rate_comes_to_its_target() -> None:
    assert settled(ControlledRate(1.2, 0.01, 0.05, most=10.0), distortion) == pytest.approx(1.2, abs=0.01)


def test_no_rate_overflows_the_controller() -> None:
    term = ControlledRate("3 nats/item")
    term.update(of_rate(1e30))
    assert float(term.weight) == 1.0


@pytest.mark.parametrize("make", [GECO, ControlledRate])
def test_limits_without_room_are_refused(make: Any) -> None:
    with pytest.raises(InputError, match="a weight from 2 to 1 has no room to move: give a `least` below `most`"):
        make(3.0, least=2.0, most=1.0)


# All of them.

EVERY = [SoftFreeBits, MinimumRate, MinimumRateDual, GECO, ControlledRate]


def shifted(term: Any, dtype: torch.dtype) -> Tensor:
    kl = torch.zeros(3, 2, dtype=dtype, requires_grad=True)
    for value in (0.0, 3.0, 9.0):
        term.update(bound(torch.full((3, 2), value, dtype=dtype)))
    return torch.autograd.grad(term(bound(kl, kl.sum(1)[None])), kl)[0]


@pytest.mark.parametrize("make", EVERY)
def test_gradients_are_finite_and_alike_in_both_types(make: Any) -> None:
    single, double = shifted(make(3.0), torch.float32), shifted(make(3.0), torch.float64)
    assert single.isfinite().all()
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("make", EVERY)
def test_the_weight_moves_in_updates_alone_and_is_in_the_state(make: Any) -> None:
    term = make(3.0)
    before = {name: value.clone() for name, value in term.state_dict().items()}
    term(of_rate(9.0))
    assert before
    assert all(value.equal(before[name]) for name, value in term.state_dict().items())
    term.update(of_rate(9.0))
    term.update(of_rate(1.0))
    again = make(3.0)
    again.load_state_dict(term.state_dict())
    assert again(of_rate(2.0)) == term(of_rate(2.0))
