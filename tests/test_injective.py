"""The text decoder under which no two codes have one likelihood."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from test_weaken import D, V, text
from uncollapse.data.text import PAD, Text
from uncollapse.decoding import Replay, beam, greedy
from uncollapse.nets.injective import InjectiveDecoder

H = 6


def decoder(inverse_lipschitz: float = 0.0, skip: bool = False) -> InjectiveDecoder:
    model = InjectiveDecoder(V, 5, H, D, inverse_lipschitz, dropout_in=0.0, dropout_out=0.0, skip=skip).eval()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -1, 1)
    nn.init.zeros_(model.embedding.weight[PAD])
    return model


@pytest.mark.parametrize("inverse_lipschitz", [0.0, 2.0])
def test_no_two_codes_come_closer_than_the_bound_at_any_token(inverse_lipschitz: float, float64: None) -> None:
    model, x, z = decoder(inverse_lipschitz), text(), torch.randn(2, 500, 4, D)
    a, b = (model(one, x.seen).hidden for one in z)

    ratio = (a - b).norm(dim=-1) / (z[0] - z[1]).norm(dim=-1, keepdim=True)

    assert ratio.min() > inverse_lipschitz
    assert ratio.min() > 1e-3


def test_the_bound_is_reached_where_the_convex_function_is_flat(float64: None) -> None:
    model, x, z = decoder(2.0), text(), torch.randn(2, 1, 4, D)
    for layer in list[nn.Linear](model.gradient.read):  # pyright: ignore[reportArgumentType]
        nn.init.zeros_(layer.weight)
    a, b = (model(one, x.seen).hidden for one in z)

    distance = (z[0] - z[1]).norm(dim=-1, keepdim=True).expand(-1, -1, 6)
    torch.testing.assert_close((a - b).norm(dim=-1), 2 * distance)


def test_the_language_model_before_the_map_does_not_see_z() -> None:
    model, x = decoder(), text()
    read: list[Tensor] = []
    model.lstm.register_forward_hook(lambda _, __, found: read.append(found[0]))

    for z in torch.randn(2, 3, 4, D):
        model(z, x.seen)

    assert torch.equal(*read)


@pytest.mark.parametrize("skip", [False, True])
def test_steps_give_the_logits_of_the_whole_and_decoding_agrees(skip: bool) -> None:
    model, x, z = decoder(1.0, skip), text(), torch.randn(4, D)

    law, state = model(z.unsqueeze(0), x.seen), model.begin(z)
    for t, tokens in enumerate(x.seen.T):
        logits, state = model.next(tokens, state)
        torch.testing.assert_close(logits, law.logits(t).squeeze(0), atol=1e-4, rtol=1e-4)
    assert greedy(model, z, 8) == greedy(Replay(model), z, 8)
    assert beam(model, z, 8) == beam(Replay(model), z, 8)


@pytest.mark.parametrize("skip", [False, True])
def test_every_parameter_gets_a_gradient(skip: bool) -> None:
    model, x = decoder(1.0, skip).train(), text()

    model(torch.randn(2, 4, D), x.seen).log_prob(x.target).sum().backward()

    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_samples_and_items_are_scored_as_if_alone_and_without_padding() -> None:
    model, x, z = decoder(), text(), torch.randn(3, 4, D)
    alone = []
    for draws, tokens in zip(z.unbind(1), x.tokens, strict=True):
        one = Text(tokens[tokens != PAD].unsqueeze(0))
        alone.append(torch.cat([model(draw.view(1, 1, D), one.seen).log_prob(one.target) for draw in draws]))

    torch.testing.assert_close(model(z, x.seen).log_prob(x.target), torch.cat(alone, 1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("which", ["dropout_in", "dropout_out"])
def test_dropouts_act_in_training_alone(which: str) -> None:
    model, x, z = decoder().train(), text(), torch.randn(1, 4, D)
    setattr(model, which, 0.5)

    a, b = (model(z, x.seen).log_prob(x.target) for _ in range(2))
    assert not torch.equal(a, b)
    model.eval()
    a, b = (model(z, x.seen).log_prob(x.target) for _ in range(2))
    assert torch.equal(a, b)
