"""Decoding: greedy, at random, by beam search."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, Normal

from uncollapse.data.text import END, PAD, START, UNK
from uncollapse.decoding import SPOKEN, Replay, beam, greedy, sample, search
from uncollapse.errors import InputError
from uncollapse.nets.lstm import LSTMDecoder

V, D, N, LONGEST = 9, 2, 6, 8


def decoder(skip: bool = True) -> LSTMDecoder:
    """A decoder with large weights, so that its sequences differ and mostly end."""
    model = LSTMDecoder(V, 5, 7, D, skip=skip).eval()
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -2, 2)
    return model


def latents(n: int = N) -> Tensor:
    return 2 * torch.randn(n, D)


def score(model: LSTMDecoder, z: Tensor, tokens: list[int]) -> float:
    """log p(tokens | z) under the law of the whole sequence."""
    seen = torch.tensor([[START, *tokens[:-1]]])
    return model(z.view(1, 1, -1), seen).log_prob(torch.tensor([tokens])).item()


@pytest.mark.parametrize("skip", [False, True])
def test_greedy_steps_agree_with_runs_over_the_whole_prefix(skip: bool) -> None:
    model, z = decoder(skip), latents()

    assert greedy(model, z, LONGEST) == greedy(Replay(model), z, LONGEST)
    assert beam(model, z, LONGEST) == beam(Replay(model), z, LONGEST)


@torch.no_grad()
def test_greedy_takes_the_most_probable_token_of_the_law_at_every_step() -> None:
    model, z = decoder(), latents()

    for row, tokens in zip(z, greedy(model, z, LONGEST), strict=True):
        whole = [*tokens, END][:LONGEST]
        law = model(row.view(1, 1, -1), torch.tensor([[START, *whole[:-1]]]))
        allowed = torch.stack([law.logits(t)[0, 0] for t in range(len(whole))])
        allowed[:, [PAD, START]] = -torch.inf
        assert allowed.argmax(-1).tolist() == whole


def test_a_beam_of_one_is_greedy() -> None:
    model, z = decoder(), latents(30)

    assert beam(model, z, LONGEST, width=1) == greedy(model, z, LONGEST)


@pytest.mark.parametrize("width", [1, 5])
def test_a_score_of_beam_search_is_the_log_probability_of_its_sequence(width: int) -> None:
    model, z = decoder(), latents(30)

    for row, found in zip(z, search(model, z, LONGEST, width), strict=True):
        assert found.score == pytest.approx(score(model, row, found.tokens), abs=1e-4)


@torch.no_grad()
def test_a_wide_beam_finds_the_best_of_all_sequences() -> None:
    model, z = decoder(), latents()
    words = range(UNK, V)
    ended = [[*w, END] for k in range(3) for w in itertools.product(words, repeat=k)]
    everything = ended + [list(w) for w in itertools.product(words, repeat=3)]

    for row, found in zip(z, search(model, z, 3, width=300), strict=True):
        assert found.score == pytest.approx(max(score(model, row, tokens) for tokens in everything), abs=1e-4)


def test_wider_beams_never_lose_to_greedy_here() -> None:
    model, z = decoder(), latents(30)
    narrow, wide = ([found.score for found in search(model, z, LONGEST, width)] for width in (1, 60))

    assert all(b >= a - 1e-5 for a, b in zip(narrow, wide, strict=True))


@pytest.mark.parametrize("decode", [greedy, sample, beam])
def test_each_latent_is_decoded_and_no_marker_is_emitted(decode: Callable[..., list[list[int]]]) -> None:
    found = decode(decoder(), latents(20), LONGEST)

    assert len(found) == 20
    assert all(len(tokens) <= LONGEST for tokens in found)
    assert not {PAD, START, END} & {token for tokens in found for token in tokens}


@pytest.mark.parametrize("decode", [greedy, beam])
def test_a_latent_is_decoded_as_if_alone(decode: Callable[..., list[list[int]]]) -> None:
    model, z = decoder(), latents()

    assert decode(model, z, LONGEST) == [decode(model, row.unsqueeze(0), LONGEST)[0] for row in z]


@torch.no_grad()
def test_samples_follow_the_law_without_its_markers() -> None:
    model, z = decoder(), latents(1)
    logits = model(z.unsqueeze(0), torch.tensor([[START]])).logits()[0, 0]
    logits[[PAD, START]] = -torch.inf
    expected = logits.div(2).softmax(-1)

    drawn = sample(model, z.expand(5000, -1), 1, temperature=2.0)
    share = Counter(tokens[0] if tokens else END for tokens in drawn)

    for token in range(V):
        sd = (expected[token] * (1 - expected[token]) / 5000).sqrt().item()
        assert share[token] / 5000 == pytest.approx(expected[token].item(), abs=5 * sd + 1e-6)


def test_samples_at_a_low_temperature_are_greedy() -> None:
    model, z = decoder(), latents()

    assert sample(model, z, LONGEST, temperature=1e-4) == greedy(model, z, LONGEST)


def test_a_decoder_without_steps_may_give_a_categorical_law() -> None:
    model, z = decoder(), latents()

    def whole(z: Tensor, seen: Tensor) -> Any:
        law = model(z, seen)
        return Independent(Categorical(logits=law.hidden @ law.weight.T), 1)

    assert greedy(whole, z, LONGEST) == greedy(model, z, LONGEST)


def test_no_token_is_emitted_where_none_is_allowed() -> None:
    assert greedy(decoder(), latents(), 0) == beam(decoder(), latents(), 0) == [[]] * N


def test_a_law_that_cannot_be_decoded_from_is_refused() -> None:
    with pytest.raises(InputError, match="cannot decode from the law `Normal`"):
        greedy(lambda z, seen: Normal(z, 1), latents(), 3)


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(InputError, match="above 0, or decode greedily"):
        sample(decoder(), latents(), 3, temperature=0)


def test_a_beam_that_holds_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        beam(decoder(), latents(), 3, width=0)


@pytest.mark.parametrize("decode", [greedy, sample, beam])
def test_unknown_words_are_not_spoken_where_they_are_banned(decode: Any) -> None:
    model, z = decoder(), latents(40)
    assert any(UNK in row for row in decode(model, z, LONGEST))
    assert not any(UNK in row for row in decode(model, z, LONGEST, never=SPOKEN))
