"""The law of padded token sequences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from uncollapse.distributions import scoring
from uncollapse.distributions.tokens import PAD, Tokens
from uncollapse.errors import InputError

S, B, T, H, V = 3, 4, 6, 5, 11


def law(*batch: int, grad: bool = False) -> Tokens:
    return Tokens(torch.randn(*batch, T, H, requires_grad=grad), torch.randn(V, H, requires_grad=grad))


def padded() -> Tensor:
    value = torch.randint(1, V, (B, T))
    value[0, 4:] = PAD
    value[2, 1:] = PAD
    return value


@pytest.mark.parametrize("value", [padded(), torch.randint(1, V, (B, T))], ids=["padded", "full"])
def test_log_prob_is_the_sum_over_tokens_that_are_not_padding(value: Tensor) -> None:
    p = law(S, B)

    by_hand = (p.hidden @ p.weight.T).log_softmax(-1).gather(-1, value.expand(S, B, T).unsqueeze(-1)).squeeze(-1)

    torch.testing.assert_close(p.log_prob(value), (by_hand * (value != PAD)).sum(-1))


def test_shapes_are_those_of_a_law_of_sequences() -> None:
    p = law(S, B)

    assert p.batch_shape == (S, B)
    assert p.event_shape == (T,)
    assert p.log_prob(padded()).shape == (S, B)
    assert law().log_prob(padded()).shape == (B,)
    assert p.logits().shape == (S, B, V)


@pytest.mark.parametrize("at_a_time", [1, V * 7, 2**24])
def test_chunks_without_gradient_score_as_the_whole_with_gradient(
    at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    p, value = law(S, B, grad=True), padded()
    whole = p.log_prob(value).detach()
    monkeypatch.setattr(scoring, "LOGITS", at_a_time)

    with torch.no_grad():
        torch.testing.assert_close(p.log_prob(value), whole)


class Largest(TorchDispatchMode):
    """Remembers the most numbers that a tensor held."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        made = found if isinstance(found, tuple) else (found,)
        self.numbers = max([self.numbers, *(part.numel() for part in made if isinstance(part, Tensor))])
        return found


@pytest.mark.parametrize("grad", [False, True])
def test_no_more_logits_exist_at_a_time_than_promised(grad: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "LOGITS", 20 * 100)
    p = Tokens(torch.randn(S, B, T, H, requires_grad=grad), torch.randn(100, H, requires_grad=grad))

    with Largest() as largest:
        p.log_prob(padded()).sum()

    assert largest.numbers == 20 * 112  # 20 of the 51 rows, which start at multiples of 16.


def test_padding_gets_no_gradient() -> None:
    p, value = law(B, grad=True), padded()

    (gradient,) = torch.autograd.grad(p.log_prob(value).sum(), p.hidden)

    assert ((gradient.abs().sum(-1) > 0) == (value != PAD)).all()


@pytest.mark.usefixtures("float64")
def test_gradients_agree_with_finite_differences() -> None:
    value = padded()
    hidden, weight = torch.randn(S, B, T, H, requires_grad=True), torch.randn(V, H, requires_grad=True)

    assert torch.autograd.gradcheck(lambda h, w: Tokens(h, w).log_prob(value), (hidden, weight))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_scores_are_float32_or_finer(dtype: torch.dtype) -> None:
    p = Tokens(torch.randn(B, T, H, dtype=dtype), torch.randn(V, H, dtype=dtype))

    assert p.log_prob(padded()).dtype == torch.promote_types(dtype, torch.float32)


def test_near_zero_weights_cost_log_v_a_token() -> None:
    p = Tokens(1e-6 * torch.randn(B, T, H), 1e-6 * torch.randn(19_997, H))
    value = padded()

    torch.testing.assert_close(-p.log_prob(value), 9.903338 * (value != PAD).sum(1).float())


def test_an_item_of_padding_alone_costs_nothing() -> None:
    assert law(B).log_prob(torch.full((B, T), PAD)).tolist() == [0.0] * B


@pytest.mark.usefixtures("float64")
def test_a_term_in_z_can_be_part_of_the_hidden_states() -> None:
    p, value = law(S, B), padded()
    z, skip = torch.randn(S, B, 2), torch.randn(V, 2)

    joint = Tokens(torch.cat([p.hidden, z.unsqueeze(2).expand(-1, -1, T, -1)], -1), torch.cat([p.weight, skip], 1))
    logits = p.hidden @ p.weight.T + (z @ skip.T).unsqueeze(2)

    scores = logits.log_softmax(-1).gather(-1, value.expand(S, B, T).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(joint.log_prob(value), (scores * (value != PAD)).sum(-1))


def test_the_logits_are_those_of_the_last_position() -> None:
    p = law(S, B)

    torch.testing.assert_close(p.logits(), (p.hidden @ p.weight.T)[:, :, -1])


def test_samples_follow_the_softmax() -> None:
    p = Tokens(torch.randn(1, H).expand(2, 1, H), torch.randn(V, H))

    drawn = p.sample((20_000,))

    assert drawn.shape == (20_000, 2, 1)
    share = torch.bincount(drawn.flatten(), minlength=V) / drawn.numel()
    expected = p.logits()[0].softmax(-1)
    assert ((share - expected).abs() < 5 * (expected * (1 - expected) / drawn.numel()).sqrt() + 1e-9).all()
    assert p.sample().shape == (2, 1)


def test_the_law_is_normalised() -> None:
    p = Tokens(torch.randn(1, 2, H), torch.randn(4, H))
    pairs = torch.cartesian_prod(torch.arange(1, 4), torch.arange(1, 4))

    # PAD is a class of the softmax but no outcome of a text: what is missing to 1 is what it takes.
    no_pad = 1 - (p.hidden @ p.weight.T).softmax(-1)[0, :, PAD]
    assert p.log_prob(pairs).exp().sum().item() == pytest.approx(no_pad.prod().item(), rel=1e-5)


def test_tokens_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"tokens of shape \(4, 5\) do not fit a law of 6 tokens.*`seen`"):
        law(B).log_prob(torch.ones(B, T - 1, dtype=torch.long))
