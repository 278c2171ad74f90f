"""Terms of the rate: what they charge, and what they let pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from uncollapse.bound import Bound
from uncollapse.terms.rates import FreeBits


def bound(kl: Tensor, log_likelihood: Tensor | None = None) -> Bound:
    """The bound on items of this KL by group, each group a unit; p(x | z) = 1 unless it is given."""
    z, scores = torch.zeros(1, *kl.shape), torch.zeros(1, len(kl))
    return Bound(z, z, scores if log_likelihood is None else log_likelihood, scores, scores, kl, None, None)


ONE = torch.tensor([[0.1, 0.7, 0.02, 1.5]])
TWO = torch.tensor([[0.0, 0.8], [1.0, 0.2]])


@pytest.mark.parametrize(("kl", "floor", "value"), [(ONE, "0.5 nats/unit", 3.2), (TWO, 1.0, 1.0)])
def test_free_bits_take_the_maximum_of_the_mean_by_unit(kl: Tensor, floor: float | str, value: float) -> None:
    assert float(FreeBits(floor)(bound(kl))) == pytest.approx(value)  # T28, T29


def test_free_bits_have_no_gradient_below_the_floor_and_the_rates_above() -> None:
    kl = TWO.clone().requires_grad_()
    FreeBits("0.5 nats/unit")(bound(kl)).backward()
    assert kl.grad is not None
    assert kl.grad.tolist() == [[0.5, 0.5], [0.5, 0.5]]

    kl = ONE.clone().requires_grad_()
    FreeBits("0.5 nats/unit")(bound(kl)).backward()
    assert kl.grad is not None
    assert kl.grad.tolist() == [[0.0, 1.0, 0.0, 1.0]]
