"""An LSTM with frozen weights over shared tokens, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from uncollapse.nets import recurrence
from uncollapse.nets.lstm import LSTMDecoder
from uncollapse.nets.recurrence import unrolled

T, S, B, H = 3, 2, 3, 2
SHAPES = {"tokens": (T, B, 4 * H), "constant": (S, B, 4 * H), "h": (S, B, H), "c": (S, B, H)}

pytestmark = pytest.mark.usefixtures("float64")


def inputs(*differentiated: str) -> dict[str, Tensor]:
    return {name: torch.randn(shape, requires_grad=name in differentiated) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("differentiated", [("constant",), ("tokens", "h"), tuple(SHAPES)])
def test_gradients_agree_with_finite_differences_twice_over(differentiated: tuple[str, ...]) -> None:
    given, recurrent = inputs(*differentiated), torch.randn(4 * H, H)

    def states(*values: Tensor) -> Tensor:
        return unrolled(*values, recurrent)

    assert torch.autograd.gradcheck(states, tuple(given.values()))
    assert torch.autograd.gradgradcheck(states, tuple(given.values()))


def test_states_without_gradient_are_those_with_it() -> None:
    given, recurrent = inputs(*SHAPES), torch.randn(4 * H, H)
    with torch.no_grad():
        alone = unrolled(*given.values(), recurrent)

    assert torch.equal(alone, unrolled(*given.values(), recurrent))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many draws each call of `unrolled` was for."""
    seen, plain = [], unrolled
    monkeypatch.setattr(recurrence, "unrolled", lambda *given: seen.append(len(given[1])) or plain(*given))
    return seen


def decoder(frozen: bool, skip: bool) -> LSTMDecoder:
    return LSTMDecoder(12, 5, 6, 3, dropout_in=0.0, dropout_out=0.0, skip=skip).requires_grad_(not frozen)


def score(model: LSTMDecoder, z: Tensor) -> Tensor:
    tokens = torch.tensor([[1, 5, 4, 2], [1, 6, 2, 0]])
    return model(z, tokens[:, :-1]).log_prob(tokens[:, 1:])


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("skip", [False, True])
def test_a_frozen_decoder_gives_z_the_gradient_that_a_learning_one_gives(
    samples: int, skip: bool, calls: list[int]
) -> None:
    z, learning, frozen = torch.randn(samples, 2, 3, requires_grad=True), decoder(False, skip), decoder(True, skip)
    frozen.load_state_dict(learning.state_dict())

    expected, found = score(learning, z), score(frozen, z)

    torch.testing.assert_close(found, expected)
    for a, b in zip(*(torch.autograd.grad(s.square().sum(), z) for s in (found, expected)), strict=True):
        torch.testing.assert_close(a, b)
    assert calls == [samples]


def test_a_part_that_learns_beside_frozen_recurrent_weights_gets_its_gradient(calls: list[int]) -> None:
    z, learning, partly = torch.randn(2, 2, 3), decoder(False, True), decoder(False, True)
    partly.load_state_dict(learning.state_dict())
    partly.lstm.requires_grad_(False)

    for model in (learning, partly):
        score(model, z).sum().backward()

    assert calls == [2]
    for name in ("embedding", "start", "output"):
        torch.testing.assert_close(getattr(partly, name).weight.grad, getattr(learning, name).weight.grad)


@pytest.mark.parametrize(("samples", "shared"), [(1, []), (3, [3])])
def test_draws_share_their_tokens_in_evaluation(samples: int, shared: list[int], calls: list[int]) -> None:
    z, model = torch.randn(samples, 2, 3), decoder(False, True)
    expected = score(model, z).detach()

    with torch.no_grad():
        torch.testing.assert_close(score(model, z), expected)
    assert calls == shared
