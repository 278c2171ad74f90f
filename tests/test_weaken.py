"""Decoder wrappers: what they hide, when, and what they leave alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from uncollapse.data.text import END, PAD, START, UNK, Text
from uncollapse.decoding import beam, greedy
from uncollapse.errors import InputError
from uncollapse.experiment import build
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
from uncollapse.nets.lstm import LSTMDecoder
from uncollapse.weaken import TokenDropout

V, D = 12, 3


class Recorder(nn.Module):
    """A decoder that remembers what it has seen."""

    def forward(self, z: Tensor, seen: Tensor) -> Any:
        self.seen = seen


def text(rows: int = 4, length: int = 7) -> Text:
    """Texts of which all but the first are shorter, without `<unk>`."""
    tokens = torch.randint(4, V, (rows, length))
    tokens[:, 0] = START
    for i, row in enumerate(tokens):
        row[length - 1 - i % 4], row[length - i % 4 :] = END, PAD
    return Text(tokens)


def decoder() -> LSTMDecoder:
    made = LSTMDecoder(V, 5, 6, D, dropout_in=0.0, dropout_out=0.0)
    for parameter in made.parameters():
        nn.init.uniform_(parameter, -2, 2)
    return made


def seen_by(wrapper: Any, seen: Tensor) -> Tensor:
    """What a decoder within a wrapper sees."""
    wrapper.decoder = Recorder()
    wrapper(torch.zeros(1, len(seen), D), seen)
    return wrapper.decoder.seen


def test_the_share_of_hidden_tokens_is_the_rate_and_markers_stay() -> None:
    tokens = text(400, 30).seen
    seen = seen_by(TokenDropout(decoder(), V, 0.38), tokens)

    real = (tokens != START) & (tokens != PAD)
    assert (seen[real] == UNK).float().mean().item() == pytest.approx(0.38, abs=0.02)
    assert torch.equal(seen[~real], tokens[~real])
    kept = real & (seen != UNK)
    assert torch.equal(seen[kept], tokens[kept])


def test_each_item_has_its_own_draws() -> None:
    tokens = text(40, 30).seen[::4]
    hidden = seen_by(TokenDropout(decoder(), V, 0.5), tokens) == UNK

    assert len({tuple(row) for row in hidden.tolist()}) == len(tokens)


def test_a_rate_of_0_hides_nothing_and_a_rate_of_1_every_token() -> None:
    tokens, made = text().seen, TokenDropout(decoder(), V, 0.0)
    assert torch.equal(seen_by(made, tokens), tokens)

    made.rate = 1.0
    seen = seen_by(made, tokens)
    assert set(seen.flatten().tolist()) == {START, UNK, PAD}


WRAPPERS = {"token-dropout": TokenDropout}


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=list(WRAPPERS))
def test_nothing_is_hidden_in_evaluation(wrapper: Any) -> None:
    made, tokens = wrapper(decoder(), V).eval(), text().seen

    assert torch.equal(seen_by(made, tokens), tokens)


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=list(WRAPPERS))
def test_what_is_decoded_is_what_the_decoder_itself_says(wrapper: Any) -> None:
    plain, z = decoder().eval(), 2 * torch.randn(6, D)

    for decode in (greedy, beam):
        assert decode(wrapper(plain, V).eval(), z, 8) == decode(plain, z, 8)


@pytest.mark.parametrize("kind", WRAPPERS)
def test_its_rate_can_be_dialled(kind: str) -> None:
    settings = ["data.train=a.txt", f"model.wrappers.w={{kind: {kind}}}"]
    sizes = [f"model.{net}.{size}=6" for net in ("encoder", "decoder") for size in ("embedding", "hidden")]
    dial = "training.dials.model.decoder.rate={kind: linear, start: 0.0, stop: 0.5, over: 2}"
    said = validated(compose("text", [], [*settings, *sizes, dial]))
    x = [text()]

    trainer = build.trainer(said.training, build.model(said, {"vocabulary": V}), x, x, seed=0)

    assert trainer.model.generation.decoder.rate == 0.25  # pyright: ignore[reportAttributeAccessIssue]


def test_a_wrapper_is_refused_where_there_are_no_tokens() -> None:
    said = validated(compose("vectors", [], ["data.train=a.npy", "model.wrappers.w={kind: token-dropout}"]))

    with pytest.raises(InputError, match="`token-dropout` needs the number of types of the text") as error:
        build.model(said, {"shape": (3,)})
    assert "\n" not in str(error.value)
