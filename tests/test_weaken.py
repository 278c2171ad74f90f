"""Decoder wrappers: what they hide, when, and what they leave alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from uncollapse.data.text import END, PAD, START, UNK, Text
from uncollapse.decoding import Replay, beam, greedy, sample
from uncollapse.errors import InputError
from uncollapse.experiment import build
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
from uncollapse.nets.lstm import LSTMDecoder
from uncollapse.weaken import ContiguousDropout, Historyless, TokenDropout

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
    nn.init.zeros_(made.embedding.weight[PAD])
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


def test_a_hidden_token_is_a_vector_of_zeros_where_that_is_asked() -> None:
    made, tokens = TokenDropout(decoder(), V, 1.0, "zero"), text().seen
    read: list[Tensor] = []
    made.decoder.embedding.register_forward_hook(lambda _, __, found: read.append(found))
    made(torch.randn(1, 4, D), tokens)

    assert read[0][:, 1:].eq(0).all()
    assert read[0][:, 0].ne(0).all()


# Runs of tokens. The probabilities are those of the formula, 1 - prod_k (1 - rate P(l > k)).


@pytest.mark.parametrize(
    ("length", "place", "probability"),
    [(3.0, 1, 0.095021), (3.0, 4, 0.243190), (3.0, 18, 0.267135), (3.5, 1, 0.096980), (3.5, 18, 0.304435)],
)
def test_runs_hide_each_place_with_the_probability_of_their_law(length: float, place: int, probability: float) -> None:
    tokens = torch.full((60_000, 19), 5)
    tokens[:, 0] = START
    hidden = seen_by(ContiguousDropout(decoder(), V, 0.1, length), tokens) == UNK

    share = hidden[:, place].float().mean().item()
    assert share == pytest.approx(probability, abs=4 * (probability * (1 - probability) / 60_000) ** 0.5)
    assert not hidden[:, 0].any()


def test_runs_without_end_hide_all_that_may_be_hidden() -> None:
    tokens = text(400, 30).seen
    hidden = seen_by(ContiguousDropout(decoder(), V, 1.0, 1e6), tokens) == UNK

    assert torch.equal(hidden, (tokens != START) & (tokens != PAD))


# No history.


@pytest.mark.parametrize("sees", ["unk", "zero"])
def test_without_history_the_order_of_the_words_before_is_nothing(sees: Any) -> None:
    model, x, z = Historyless(decoder(), V, sees).eval(), text(), torch.randn(2, 4, D)
    shuffled = torch.cat([x.seen[:, :1], x.seen[:, 1:][:, torch.randperm(5)]], 1)

    assert torch.equal(model(z, x.seen).log_prob(x.target), model(z, shuffled).log_prob(x.target))
    plain = model.decoder
    assert not torch.equal(plain(z, x.seen).log_prob(x.target), plain(z, shuffled).log_prob(x.target))


def test_no_history_is_dropout_at_a_rate_of_1() -> None:
    inner, x, z = decoder(), text(), torch.randn(2, 4, D)

    historyless = Historyless(inner, V).eval()(z, x.seen).log_prob(x.target)
    dropped = TokenDropout(inner.train(), V, 1.0)(z, x.seen).log_prob(x.target)

    torch.testing.assert_close(historyless, dropped)


def test_both_ways_of_no_history_are_one_where_markers_have_no_embedding() -> None:
    inner, x, z = decoder(), text(), torch.randn(2, 4, D)
    inner.embedding.weight.data[[PAD, START, UNK]] = 0

    a, b = (Historyless(inner, V, sees).eval()(z, x.seen).log_prob(x.target) for sees in ("unk", "zero"))

    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("sees", ["unk", "zero"])
def test_without_history_decoding_takes_one_run_and_says_what_steps_say(sees: Any) -> None:
    model, z = Historyless(decoder(), V, sees).eval(), 2 * torch.randn(20, D)
    runs: list[int] = []
    model.register_forward_hook(lambda *_: runs.append(1))

    at_once = greedy(model, z, 8)
    assert len(runs) == 1
    assert at_once == greedy(Replay(model), z, 8) == [tokens for row in z for tokens in beam(model, row[None], 8, 1)]
    assert sample(model, z, 8, temperature=1e-4) == at_once
    assert greedy(model, z, 0) == [[]] * 20


def test_no_history_stays_in_evaluation() -> None:
    tokens = text().seen

    assert set(seen_by(Historyless(decoder(), V).eval(), tokens).flatten().tolist()) == {START, UNK}
    assert set(seen_by(Historyless(decoder(), V, "zero").eval(), tokens).flatten().tolist()) == {PAD}


WRAPPERS = {"token-dropout": TokenDropout, "contiguous-dropout": ContiguousDropout}


def test_wrappers_stack() -> None:
    plain, z = decoder().eval(), 2 * torch.randn(6, D)
    stacked = TokenDropout(ContiguousDropout(plain, V), V).eval()

    assert beam(stacked, z, 8) == beam(plain, z, 8)


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
