"""Terms of the rate: what they charge, and what they let pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from uncollapse.bound import Bound
from uncollapse.terms.rates import (
    Capacity,
    FreeBits,
    FreeBitsPerItem,
    FreeBitsTotal,
    FreeBitsTotalPerItem,
    HABits,
    rate,
)


def bound(kl: Tensor, log_likelihood: Tensor | None = None) -> Bound:
    """The bound on items of this KL by group, each group a unit; p(x | z) = 1 unless it is given."""
    z, scores = torch.zeros(1, *kl.shape), torch.zeros(1, len(kl))
    return Bound(z, z, scores if log_likelihood is None else log_likelihood, scores, scores, kl, None, None)


def gradient(term: Callable[[Bound], Tensor], kl: Tensor) -> list[list[float]]:
    """Of a term, by item and group."""
    kl = kl.clone().requires_grad_()
    term(bound(kl)).backward()
    assert kl.grad is not None
    return kl.grad.tolist()


ONE = torch.tensor([[0.1, 0.7, 0.02, 1.5]])
TWO = torch.tensor([[0.0, 0.8], [1.0, 0.2]])
SIX = torch.tensor([[0.1, 0.3, 1.0], [0.4, 0.05, 0.2]])


@pytest.mark.parametrize(
    ("term", "kl", "value"),
    [
        (FreeBits("0.5 nats/unit"), ONE, 3.2),
        (FreeBitsTotal(2.0), ONE, 2.32),
        (FreeBitsTotal("3 nats/item"), ONE, 3.0),
        (FreeBits(1.0), TWO, 1.0),
        (FreeBitsPerItem(1.0), TWO, 1.4),
        (FreeBitsTotal(1.0), TWO, 1.0),
        (FreeBitsTotalPerItem(1.0), TWO, 1.1),
        (FreeBitsPerItem(0.75), SIX, 1.225),
        (FreeBits(0.75), SIX, 1.10),
        (FreeBitsTotalPerItem(0.75), SIX, 1.075),
        (rate, SIX, 1.025),
        (HABits("0.2 nats/unit"), ONE, 0.58),
        (HABits("0.6 nats/unit"), ONE, 0.6),
        (Capacity(100.0, 2.0), ONE, 32.0),
        (Capacity(100.0, 3.0), ONE, 68.0),
    ],
)
def test_each_charges_what_it_says(term: Any, kl: Tensor, value: float) -> None:  # T28, T29, T31, B27
    assert float(term(bound(kl))) == pytest.approx(value)


def test_a_group_below_its_floor_has_no_gradient_and_the_others_have_the_rates() -> None:
    assert gradient(FreeBits("0.5 nats/unit"), ONE) == [[0.0, 1.0, 0.0, 1.0]]
    assert gradient(FreeBitsPerItem(1.0), TWO) == [[0.0, 0.5], [0.5, 0.0]]
    assert gradient(FreeBits(0.8), TWO) == gradient(rate, TWO)


def test_a_rate_below_its_floor_has_no_gradient() -> None:
    assert gradient(FreeBitsTotal(1.5), TWO) == gradient(FreeBitsTotalPerItem(1.5), TWO) == [[0.0, 0.0]] * 2
    assert gradient(FreeBitsTotalPerItem(1.0), TWO) == [[0.0, 0.0], [0.5, 0.5]]


def test_charging_nothing_below_the_floor_has_the_gradient_of_free_bits_per_item() -> None:
    def masked(bound: Bound) -> Tensor:
        return torch.where(bound.kl > 0.25, bound.kl, 0.0).sum(1).mean()

    assert float(masked(bound(SIX))) == pytest.approx(0.85)  # B27
    assert gradient(masked, SIX) == gradient(FreeBitsPerItem(0.75), SIX)


def test_free_bits_of_each_item_charge_no_less_than_those_of_the_mean() -> None:
    kl = torch.rand(50, 4)
    assert FreeBitsPerItem("0.5 nats/unit")(bound(kl)) > FreeBits("0.5 nats/unit")(bound(kl))


def test_ha_bits_are_the_total_ones_over_the_number_of_units() -> None:
    assert HABits(3.0)(bound(ONE)) * 4 == FreeBitsTotal(3.0)(bound(ONE))
    assert gradient(HABits(1.0), ONE) == [[0.25] * 4]


def test_a_capacity_pulls_the_rate_up_from_below_and_down_from_above() -> None:
    assert gradient(Capacity(100.0, 3.0), ONE) == [[-100.0] * 4]  # C3
    assert gradient(Capacity(100.0, 2.0), ONE) == [[100.0] * 4]


@pytest.mark.parametrize(
    "term", [FreeBits(1.0), FreeBitsPerItem(1.0), FreeBitsTotal(1.0), FreeBitsTotalPerItem(1.0), HABits(1.0)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rate_of_zero_and_one_at_the_floor_have_finite_gradients(term: Any, dtype: torch.dtype) -> None:
    for value in (0.0, 0.5, 1.0):
        grads = torch.tensor(gradient(term, torch.full((3, 2), value, dtype=dtype)))
        assert ((grads >= 0) & (grads <= 1 / 3 + 1e-6)).all()
