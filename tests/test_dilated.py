"""The decoder of dilated causal convolutions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from test_weaken import D, V, text
from uncollapse.decoding import greedy
from uncollapse.nets.dilated import DilatedDecoder


def decoder(size: Any = "s", skip: bool = False) -> DilatedDecoder:
    return DilatedDecoder(V, 5, 6, D, size, dropout_in=0.0, dropout_out=0.0, skip=skip)


def seen_at(model: DilatedDecoder, step: int, length: int) -> Tensor:
    """How much the state at a step moves with the embedding of each token, (length,)."""
    embedded: list[Tensor] = []
    hook = model.embedding.register_forward_hook(lambda _, __, found: embedded.append(found))
    law = model(torch.rand(1, 1, D), torch.full((1, length), 5))
    hook.remove()
    (gradient,) = torch.autograd.grad(law.hidden[0, 0, step].sum(), embedded)
    return gradient[0].abs().sum(-1)


@pytest.mark.parametrize(("size", "layers", "field"), [("s", 3, 15), ("m", 5, 63), ("l", 10, 125), ("vl", 15, 187)])
def test_a_step_sees_as_many_tokens_as_published(float64: None, size: str, layers: int, field: int) -> None:
    model = decoder(size)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.1, 0.3)  # Positive, so that no unit is off.

    moves = seen_at(model, 199, 200)

    assert len(model.blocks) == layers
    assert moves.nonzero().flatten().tolist() == list(range(200 - field, 200))


def test_no_step_sees_a_token_after_it() -> None:
    model = decoder()
    for step in range(9):
        assert seen_at(model, step, 9)[step + 1 :].eq(0).all()


@pytest.mark.parametrize("skip", [False, True])
def test_every_parameter_gets_a_gradient(skip: bool) -> None:
    model, x = decoder(skip=skip), text()

    model(torch.randn(2, 4, D), x.seen).log_prob(x.target).sum().backward()

    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_samples_and_items_are_scored_as_if_alone() -> None:
    model, x, z = decoder().eval(), text(), torch.randn(3, 4, D)

    rows = zip(z.transpose(0, 1), x.seen, x.target, strict=True)
    alone = [model(draws.unsqueeze(1), seen.unsqueeze(0)).log_prob(target) for draws, seen, target in rows]

    torch.testing.assert_close(model(z, x.seen).log_prob(x.target), torch.cat(alone, 1))


@pytest.mark.parametrize("which", ["dropout_in", "dropout_out"])
def test_dropouts_act_in_training_alone(which: str) -> None:
    model, x, z = decoder(), text(), torch.randn(1, 4, D)
    setattr(model, which, 0.5)

    a, b = (model(z, x.seen).log_prob(x.target) for _ in range(2))
    assert not torch.equal(a, b)
    model.eval()
    a, b = (model(z, x.seen).log_prob(x.target) for _ in range(2))
    assert torch.equal(a, b)


def test_longer_texts_begin_as_shorter_ones_do() -> None:
    model, z = decoder().eval(), 2 * torch.randn(6, D)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -2, 2)

    found = [greedy(model, z, length) for length in range(1, 9)]

    for shorter, longer in pairwise(found):
        assert all(b[: len(a)] == a for a, b in zip(shorter, longer, strict=True))
    assert any(found[-1])
