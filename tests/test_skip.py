"""The skip of every decoder of text that has one: z reaches the logits directly, past all layers (T41)."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn

from test_weaken import D, V, text
from uncollapse.experiment.parts import SLOTS
from uncollapse.nets.mlp import MLPDecoder

pytestmark = pytest.mark.usefixtures("float64")

WIDTH = 8
DECODERS = {
    name: made
    for name, made in SLOTS["decoders"].items()
    if {"skip", "vocabulary"} <= inspect.signature(made).parameters.keys()
    and "tags" not in inspect.signature(made).parameters  # Of pairs: see test_conditional.
}


def decoder(name: str, skip: bool = True) -> Any:
    torch.manual_seed(1)
    made: nn.Module = DECODERS[name](vocabulary=V, embedding=WIDTH, hidden=WIDTH, latent=D, skip=skip)
    return made.eval()


def without_skip(name: str) -> tuple[Any, Any]:
    """A decoder with a skip whose weights are 0, and one without, otherwise alike."""
    with_it, plain = decoder(name), decoder(name, skip=False)
    weights = plain.state_dict()
    for key, value in with_it.state_dict().items():
        if key in weights and weights[key].shape == value.shape:
            value.copy_(weights[key])
        else:  # What reads z, in its last columns.
            value.zero_()
            if key in weights:
                value[..., :-D] = weights[key]
    return with_it, plain


@pytest.mark.parametrize("name", DECODERS)
def test_a_skip_without_weight_is_no_skip(name: str) -> None:
    with_it, plain = without_skip(name)
    x, z = text(), torch.randn(2, 4, D)

    found, expected = (one(z, x.seen).log_prob(x.target) for one in (with_it, plain))

    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", DECODERS)
def test_with_a_skip_alone_the_logits_depend_on_z_only(name: str) -> None:
    made, x = decoder(name), text()
    with torch.no_grad():
        if name == "awd-lstm":  # Its logits are by the embeddings.
            made.embedding.weight.zero_()
        else:
            made.output.weight[:, :-D] = 0
    law = made(torch.randn(1, 4, D), x.seen)

    torch.testing.assert_close(law.logits(0), law.logits(-1), rtol=0, atol=1e-12)
    assert not torch.allclose(law.logits(0)[0, 0], law.logits(0)[0, 1])


@pytest.mark.parametrize("hidden", [[6], [6, 5, 4]])
def test_the_skip_of_an_mlp_without_weight_is_no_skip_and_alone_tells_of_z(hidden: list[int]) -> None:
    torch.manual_seed(0)
    plain, with_it = (MLPDecoder((7,), D, hidden, skip=skip) for skip in (False, True))
    z = torch.randn(2, 4, D)
    skipped: Any = with_it.layers
    skipped.layers.load_state_dict(plain.layers.state_dict())
    weights = [layer.weight.detach().clone() for layer in skipped.beside]
    for layer in skipped.beside:
        layer.weight.detach().zero_()
    torch.testing.assert_close(with_it.found(z), plain.found(z), rtol=0, atol=0)
    for layer, weight in zip(skipped.beside, weights, strict=True):
        layer.weight.detach().copy_(weight)
    skipped.layers[-1].weight.detach().zero_()  # Of the last hidden layer nothing is read.
    expected = skipped.layers[-1].bias + z @ weights[-1].T
    torch.testing.assert_close(with_it.found(z), expected, rtol=0, atol=1e-12)
    assert len(weights) == len(hidden)
