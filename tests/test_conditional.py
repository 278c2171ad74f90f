"""The decoder of pairs: what it is told, what it may not see, and that it writes by its own law."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from uncollapse.data.pairs import Condition, Pair
from uncollapse.data.vocabulary import END, START
from uncollapse.decoding import Conditioned, greedy, ranked, search
from uncollapse.distributions.tokens import PAD
from uncollapse.nets.conditional import AdditiveAttention, ConditionalGRU, Tagged
from uncollapse.nets.lstm import LSTMDecoder
from uncollapse.weaken import Historyless, TokenDropout

V, M, D, B = 9, 4, 3, 5
BYPASSES = ("none", "state", "attention")


def decoder(bypass: Any = "none", tags: int = M, **more: Any) -> ConditionalGRU:
    return ConditionalGRU(V, tags, 6, 8, D, tag_embedding=5, attention=4, bypass=bypass, **more).eval()


def ids(lengths: list[int]) -> Tensor:
    found = torch.randint(4, V, (len(lengths), max(lengths) + 2))
    found[:, 0] = START
    for row, length in enumerate(lengths):
        found[row, length + 1], found[row, length + 2 :] = END, PAD
    return found


def pairs(tags: int = M) -> Pair:
    flags = torch.randint(2, (B, tags)).to(torch.get_default_dtype())
    return Pair(ids([3, 5, 1, 2, 4]), flags, ids([4, 2, 5, 1, 3]))


def given(x: Pair) -> Condition:
    return Condition(x.tags, x.source)


@pytest.mark.parametrize("bypass", BYPASSES)
@pytest.mark.parametrize("tags", [0, M])
def test_steps_say_what_the_whole_target_does(bypass: str, tags: int) -> None:
    model, x, z = decoder(bypass, tags, skip=True), pairs(tags), torch.randn(1, B, D)
    law = model(z, x.seen)

    state, found = model.begin(z[0], given(x)), []
    for token in x.seen.tokens.unbind(1):
        logits, state = model.next(token, state)
        found.append(logits)

    for place, logits in enumerate(found):
        torch.testing.assert_close(law.logits(place)[0], logits)


@pytest.mark.parametrize("bypass", BYPASSES)
def test_no_token_is_predicted_from_itself_or_those_after_it(bypass: str) -> None:
    model, x, z = decoder(bypass), pairs(), torch.randn(2, B, D)
    before = model(z, x.seen)
    for place in range(x.seen.tokens.shape[1]):
        changed = x.sequence.clone()
        changed[:, place + 1 :] = torch.randint(4, V, changed[:, place + 1 :].shape)
        after = model(z, x._replace(sequence=changed).seen)
        torch.testing.assert_close(after.logits(place), before.logits(place))


@pytest.mark.parametrize(("bypass", "reads"), [("none", False), ("state", True), ("attention", True)])
def test_the_source_reaches_the_decoder_by_a_bypass_alone(bypass: str, reads: bool) -> None:
    model, x, z = decoder(bypass), pairs(), torch.randn(1, B, D)
    other = x._replace(source=ids([2, 4, 3, 5, 1]))

    alike = torch.equal(model(z, x.seen).log_prob(x.target), model(z, other.seen).log_prob(x.target))

    assert alike is not reads


@pytest.mark.parametrize("bypass", BYPASSES)
def test_padding_changes_nothing(bypass: str) -> None:
    model, x, z = decoder(bypass), pairs(), torch.randn(3, B, D)
    together = model(z, x.seen).log_prob(x.target)

    for i in range(B):
        source, sequence = (part[i][part[i] != PAD].unsqueeze(0) for part in (x.source, x.sequence))
        alone = Pair(source, x.tags[i : i + 1], sequence)
        torch.testing.assert_close(model(z[:, i : i + 1], alone.seen).log_prob(alone.target), together[:, i : i + 1])


def test_each_tag_matters_and_their_rows_have_weights_that_sum_to_one() -> None:
    model, x, z = decoder(), pairs(), torch.randn(1, B, D)
    scores = model(z, x.seen).log_prob(x.target)
    for tag in range(M):
        flipped = x.tags.clone()
        flipped[:, tag] = 1 - flipped[:, tag]
        assert (model(z, x._replace(tags=flipped).seen).log_prob(x.target) != scores).all()

    attention, values = AdditiveAttention(8, 5, 4), torch.ones(B, M, 5)
    rows = attention.rows(values, torch.ones(B, M, dtype=torch.bool))
    torch.testing.assert_close(attention(torch.randn(B, 8), rows), torch.ones(B, 5))


def test_attention_is_the_formula_by_hand(float64: None) -> None:
    attention, h, values = AdditiveAttention(3, 2, 4), torch.randn(1, 3), torch.randn(1, 3, 2)
    there = torch.tensor([[True, False, True]])
    w, b, u, v = attention.query.weight, attention.query.bias, attention.row.weight, attention.weigh.weight[0]

    scores = [(v * torch.tanh(w @ h[0] + b + u @ row)).sum() for row in values[0]]
    first, third = (scores[k].exp() for k in (0, 2))
    expected = (first * values[0, 0] + third * values[0, 2]) / (first + third)

    torch.testing.assert_close(attention(h, attention.rows(values, there))[0], expected)


@pytest.mark.parametrize("bypass", BYPASSES)
def test_the_gradient_reaches_every_parameter(bypass: str) -> None:
    model, x = decoder(bypass, skip=True), pairs()
    model(torch.randn(2, B, D), x.seen).log_prob(x.target).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_skip_alone_tells_of_z_and_without_weight_is_none(float64: None) -> None:
    x, z, skipping, plain = pairs(), torch.randn(1, B, D), decoder(skip=True), decoder()
    for name, value in plain.state_dict().items():
        if name != "output.weight":
            skipping.state_dict()[name].copy_(value)
    weight = skipping.output.weight.data
    weight[:, :-D], weight[:, -D:] = plain.output.weight.data, 0
    torch.testing.assert_close(skipping(z, x.seen).log_prob(x.target), plain(z, x.seen).log_prob(x.target))

    weight[:, :-D], weight[:, -D:] = 0, torch.randn(V, D)
    law = skipping(z, x.seen)
    torch.testing.assert_close(law.logits(0), law.logits(-1))
    assert not torch.allclose(law.logits(0)[0, 0], law.logits(0)[0, 1])


@pytest.mark.parametrize("bypass", BYPASSES)
def test_conditioned_decoding_takes_the_most_probable_token_of_its_own_item(bypass: str) -> None:
    model, x, z = decoder(bypass), pairs(), torch.randn(B, D)
    written = greedy(Conditioned(model, given(x)), z, 6)

    for i, text in enumerate(written):
        tokens = torch.tensor([[START, *text]])
        law = model(
            z[i].view(1, 1, D), given(x)._replace(tags=x.tags[i : i + 1], source=x.source[i : i + 1]).before(tokens)
        )
        for place, token in enumerate(text):
            assert law.logits(place)[0, 0].index_fill(0, torch.tensor([PAD, START]), -torch.inf).argmax() == token


@pytest.mark.parametrize("make", [lambda: decoder("attention"), lambda: Tagged(LSTMDecoder(V, 6, 8, D + M)).eval()])
def test_ranked_guesses_have_their_log_probabilities_in_order_and_begin_with_the_best(make: Any) -> None:
    model, x, z = make(), pairs(), torch.randn(B, D)
    conditioned = Conditioned(model, given(x))
    found = ranked(conditioned, z, 4, width=6)

    assert [beam[0] for beam in found] == search(conditioned, z, 4, width=6)
    for i, beam in enumerate(found):
        assert len({tuple(one.tokens) for one in beam}) == len(beam) == 6
        assert sorted((one.score for one in beam), reverse=True) == [one.score for one in beam]
        for one in beam:
            tokens = torch.tensor([[START, *one.tokens]])
            seen = Condition(x.tags[i : i + 1], x.source[i : i + 1]).before(tokens[:, :-1])
            score = model(z[i].view(1, 1, D), seen).log_prob(tokens[:, 1:])
            # No marker is written, which leaves the others their own probabilities.
            assert one.score == pytest.approx(score.item(), abs=1e-4)


def test_a_decoder_of_text_is_told_the_tags_by_units_of_z() -> None:
    inner, x, z = LSTMDecoder(V, 6, 8, D + M).eval(), pairs(), torch.randn(2, B, D)
    law = Tagged(inner)(z, x.seen)
    whole = torch.cat([z, x.tags.expand(2, B, M)], 2)
    torch.testing.assert_close(law.log_prob(x.target), inner(whole, x.seen.tokens).log_prob(x.target))


@pytest.mark.parametrize("make", [lambda: decoder(), lambda: Tagged(LSTMDecoder(V, 6, 8, D + M)).eval()])
@pytest.mark.parametrize("sees", ["unk", "zero"])
def test_without_history_the_tokens_before_are_nothing_and_the_tags_are_something(make: Any, sees: Any) -> None:
    model, x, z = Historyless(make(), V, sees), pairs(), torch.randn(1, B, D)
    other = x.sequence.clone()
    other[:, 1] = other[:, 1] % (V - 5) + 4 + (other[:, 1] == other[:, 1] % (V - 5) + 4)
    assert not torch.equal(other, x.sequence)

    scores = model(z, x.seen).log_prob(x.target)

    assert torch.equal(model(z, x._replace(sequence=other).seen).log_prob(x.target), scores)
    assert not torch.equal(model(z, x._replace(tags=1 - x.tags).seen).log_prob(x.target), scores)
    conditioned = Conditioned(model, given(x))
    assert greedy(conditioned, z[0], 5) == [
        beam.tokens[:-1] if beam.tokens[-1] == END else beam.tokens for beam in search(conditioned, z[0], 5, width=1)
    ]


def test_dropout_hides_tokens_and_leaves_tags_and_source_alone() -> None:
    heard: list[Any] = []

    class Listening(ConditionalGRU):
        def forward(self, z: Tensor, seen: Any) -> Any:
            heard.append(seen)
            return super().forward(z, seen)

    x = pairs()
    model = TokenDropout(Listening(V, M, 6, 8, D), V, rate=1.0, fill="zero").train()
    model(torch.randn(1, B, D), x.seen)

    assert heard[0].tokens[:, 1:].eq(PAD).all()
    assert heard[0].tokens[:, 0].eq(START).all()
    assert heard[0].tags is x.tags
    assert heard[0].source is x.source
