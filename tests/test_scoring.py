"""Scores of tokens whose gradients are taken along with them, against those of torch's own functions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from uncollapse.distributions import scoring
from uncollapse.distributions.scoring import scores

P, H, V = 9, 4, 7

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows at a time, so that the last has one."""
    monkeypatch.setattr(scoring, "LOGITS", 2 * V)


def inputs(hidden: bool = True, weight: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(P, H, requires_grad=hidden), torch.randn(V, H, requires_grad=weight), torch.randint(V, (P,))


def plain(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    return (hidden @ weight.T).log_softmax(-1).gather(1, target.unsqueeze(1)).squeeze(1)


COUNTS = {
    "alike": lambda s: -s.sum() / 3,
    "not alike": lambda s: (s * torch.linspace(-1, 2, P)).sum(),
    "importance weights": lambda s: s.logsumexp(0),
}


@pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize(("hidden", "weight"), [(True, True), (True, False), (False, True)])
def test_gradients_are_those_of_the_plain_path(hidden: bool, weight: bool, count: Callable[[Tensor], Tensor]) -> None:
    h, w, x = inputs(hidden, weight)
    asked = [tensor for tensor in (h, w) if tensor.requires_grad]

    found, expected = count(scores(h, w, x)), count(plain(h, w, x))

    torch.testing.assert_close(found, expected)
    for a, b in zip(torch.autograd.grad(found, asked), torch.autograd.grad(expected, asked), strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_agree_with_finite_differences_twice_over() -> None:
    h, w, x = inputs()

    assert torch.autograd.gradcheck(lambda h, w: scores(h, w, x), (h, w))
    assert torch.autograd.gradgradcheck(lambda h, w: scores(h, w, x), (h, w))


def test_a_weight_that_the_states_depend_on_is_counted_once_for_each_way() -> None:
    h, w, x = inputs(hidden=False)
    tied = [count(h * w[0], w, x).sum() for count in (scores, plain)]

    once, twice = (torch.autograd.grad(total, w, create_graph=True)[0] for total in tied)

    torch.testing.assert_close(once, twice)
    torch.testing.assert_close(*(torch.autograd.grad(g.square().sum(), w)[0] for g in (once, twice)))


def test_a_graph_that_is_kept_gives_the_same_gradients_again() -> None:
    h, w, x = inputs()
    total = scores(h, w, x).sum()

    first, second = (torch.autograd.grad(total, (h, w), retain_graph=True) for _ in range(2))

    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)


def test_a_frozen_weight_costs_no_gradient_of_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    h, w, x = inputs(weight=False)
    monkeypatch.setattr(torch, "zeros_like", lambda tensor: pytest.fail(f"made {tuple(tensor.shape)}"))

    scores(h, w, x).sum().backward()

    assert h.grad is not None


def test_hopeless_tokens_cost_what_they_should() -> None:
    h, w, x = torch.full((1, 1), 1000.0, requires_grad=True), torch.tensor([[1.0], [0.0]]), torch.tensor([1])

    found = scores(h, w, x)

    assert found.item() == -1000.0
    assert torch.autograd.grad(found.sum(), h)[0].item() == -1.0


def test_no_gradient_is_prepared_where_none_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    h, w, x = inputs()
    expected = scores(h, w, x)
    monkeypatch.setattr(torch, "empty_like", lambda tensor: pytest.fail(f"made {tuple(tensor.shape)}"))

    with torch.no_grad():
        torch.testing.assert_close(scores(h, w, x), expected)
