"""The transformer encoder and decoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from test_weaken import D, V, text
from uncollapse.data.text import END, PAD, START, Text
from uncollapse.decoding import Replay, beam, greedy, sample, search
from uncollapse.errors import InputError
from uncollapse.nets.transformer import Block, TransformerDecoder, TransformerEncoder, _turned
from uncollapse.refinement import twice_differentiable
from uncollapse.weaken import ContiguousDropout, Historyless, TokenDropout

ENTERS = ["memory+addition", "memory", "addition", "prefix"]
POOLS = ["first", "max", "mean"]
LONGEST = 8


def encoder(pooling: Any = "first", dropout: float = 0.1) -> TransformerEncoder:
    return TransformerEncoder(V, 5, 8, 4, heads=2, pooling=pooling, dropout=dropout)


def decoder(enters: Any = "memory+addition", skip: bool = False) -> TransformerDecoder:
    """A decoder with large weights, so that its sequences differ and mostly end."""
    rates: dict[str, Any] = {"dropout_in": 0.0, "dropout": 0.0, "dropout_out": 0.0}
    model = TransformerDecoder(V, 5, 8, D, heads=2, enters=enters, skip=skip, **rates).eval()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -1, 1)
    nn.init.zeros_(model.embedding.weight[PAD])
    return model


def latents(n: int = 6) -> Tensor:
    return 2 * torch.randn(n, D)


# Attention and positions.


def test_attention_is_that_of_torch_where_all_places_are_one(float64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uncollapse.nets.transformer._turned", lambda vectors, before: vectors)
    block, states = Block(8, 2), torch.randn(3, 5, 8)
    theirs = nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs.load_state_dict(
        theirs.state_dict()
        | {
            "self_attn.in_proj_weight": block.ask.weight,
            "self_attn.in_proj_bias": torch.zeros(24),
            "self_attn.out_proj.weight": block.merge.weight,
            "self_attn.out_proj.bias": torch.zeros(8),
            "linear1.weight": block.widen.weight,
            "linear1.bias": block.widen.bias,
            "linear2.weight": block.narrow.weight,
            "linear2.bias": block.narrow.bias,
        }
    )
    causal = torch.ones(5, 5, dtype=torch.bool).tril()

    torch.testing.assert_close(block(states, causal)[0], theirs(states, src_mask=~causal))


def test_what_a_query_finds_in_a_key_depends_on_how_far_apart_they_are(float64: None) -> None:
    query, key = torch.randn(2, 1, 8)

    def found(a: int, b: int) -> Tensor:
        return (_turned(query, a) * _turned(key, b)).sum()

    torch.testing.assert_close(found(7, 4), found(103, 100))
    assert not torch.isclose(found(7, 4), found(7, 5))
    torch.testing.assert_close(_turned(key, 0), key)
    torch.testing.assert_close(_turned(key, 9).norm(), key.norm())


def test_a_turn_is_by_the_published_angles(float64: None) -> None:
    # At place 2, pairs of a vector of 4 are turned by 2 and 2 / 100.
    found = _turned(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), 2)
    angles = torch.tensor([2.0, 0.02])
    torch.testing.assert_close(found[0], torch.cat([angles.cos(), angles.sin()]))


@pytest.mark.parametrize("make", [lambda: TransformerEncoder(V, 5, 12, 4), lambda: TransformerDecoder(V, 5, 12, D)])
def test_states_that_the_heads_cannot_share_are_refused(make: Any) -> None:
    with pytest.raises(InputError, match=r"4 heads cannot share states of 12 numbers in pairs: .* multiple of 8"):
        make()


# The encoder.


@pytest.mark.parametrize("pooling", POOLS)
def test_the_encoder_does_not_see_padding(pooling: str) -> None:
    model, x = encoder(pooling).eval(), text()
    alone = [model(Text(row[row != PAD].unsqueeze(0))) for row in x.tokens]

    torch.testing.assert_close(model(x), torch.cat(alone))


@pytest.mark.parametrize("pooling", POOLS)
def test_the_encoder_reads_every_token_and_the_order_of_all(pooling: str) -> None:
    model, x = encoder(pooling).eval(), Text(torch.tensor([[START, 5, 6, 7, 8, END]]))
    for t in range(6):
        tokens = x.tokens.clone()
        tokens[0, t] = 9
        assert not torch.allclose(model(Text(tokens)), model(x))

    assert not torch.allclose(model(Text(x.tokens[:, [0, 2, 1, 3, 4, 5]])), model(x))


def test_dropout_of_the_encoder_acts_in_training_alone() -> None:
    model, x = encoder(dropout=0.5), text()

    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


# The decoder.


@pytest.mark.parametrize("enters", ENTERS)
def test_a_token_moves_no_logits_before_it_and_all_after(enters: str, float64: None) -> None:
    model, z, seen = decoder(enters), latents(1).unsqueeze(0), torch.randint(4, V, (1, 9))
    logits = F.linear(model(z, seen).hidden, model.output.weight)
    for t in range(9):
        other = seen.clone()
        other[0, t] = 4 + (seen[0, t] - 3) % (V - 4)
        moved = (F.linear(model(z, other).hidden, model.output.weight) - logits).abs().sum((0, 1, 3)) > 1e-12
        assert moved.tolist() == [False] * t + [True] * (9 - t)


@pytest.mark.parametrize("enters", ENTERS)
def test_z_moves_the_logits_of_every_token(enters: str) -> None:
    model, z, x = decoder(enters), latents(4).unsqueeze(0), text()

    a, b = (model(one, x.seen).hidden for one in (z, z.flip(-1)))

    assert ((a - b).abs().sum(-1) > 1e-3).all()


def test_z_enters_by_what_is_said_alone() -> None:
    made = {enters: {name.partition(".")[0] for name, _ in decoder(enters).named_parameters()} for enters in ENTERS}

    ways = {"memory", "addition", "prefix"}
    assert {enters: names & ways for enters, names in made.items()} == {e: set(e.split("+")) for e in ENTERS}


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("enters", ENTERS)
def test_every_parameter_gets_a_gradient(enters: str, skip: bool) -> None:
    read, model, x = encoder(), decoder(enters, skip).train(), text()
    z = read(x).unsqueeze(0)[..., :D]

    (model(z, x.seen).log_prob(x.target).sum() + read(x).square().sum()).backward()

    for parameter in [*read.parameters(), *model.parameters()]:
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("enters", ENTERS)
def test_scores_have_second_derivatives_in_z(enters: str, float64: None) -> None:
    model, x = decoder(enters), text(2, 5)
    z = torch.randn(1, 2, D, requires_grad=True)

    with twice_differentiable():
        assert torch.autograd.gradgradcheck(lambda z: model(z, x.seen).log_prob(x.target), z)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("enters", ENTERS)
def test_steps_give_the_logits_of_the_whole(enters: str, skip: bool) -> None:
    model, x, z = decoder(enters, skip), text(), latents(4)

    law, state = model(z.unsqueeze(0), x.seen), model.begin(z)
    for t, tokens in enumerate(x.seen.T):
        logits, state = model.next(tokens, state)
        torch.testing.assert_close(logits, law.logits(t).squeeze(0), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("enters", ENTERS)
def test_decoding_agrees_with_runs_over_the_whole_prefix(enters: str) -> None:
    model, z = decoder(enters, skip=True), latents(20)

    found = greedy(model, z, LONGEST)

    assert len({tuple(tokens) for tokens in found}) > 1
    assert found == greedy(Replay(model), z, LONGEST) == sample(model, z, LONGEST, temperature=1e-4)
    assert beam(model, z, LONGEST) == beam(Replay(model), z, LONGEST)
    for row, best in zip(z, search(model, z, LONGEST), strict=True):
        seen, target = torch.tensor([[START, *best.tokens[:-1]]]), torch.tensor([best.tokens])
        assert best.score == pytest.approx(model(row.view(1, 1, -1), seen).log_prob(target).item(), abs=1e-3)


@pytest.mark.parametrize("enters", ENTERS)
def test_samples_and_items_are_scored_as_if_alone_and_without_padding(enters: str) -> None:
    model, x, z = decoder(enters), text(), torch.randn(3, 4, D)
    alone = []
    for draws, tokens in zip(z.unbind(1), x.tokens, strict=True):
        one = Text(tokens[tokens != PAD].unsqueeze(0))
        alone.append(torch.cat([model(draw.view(1, 1, D), one.seen).log_prob(one.target) for draw in draws]))

    torch.testing.assert_close(model(z, x.seen).log_prob(x.target), torch.cat(alone, 1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("which", ["dropout_in", "dropout", "dropout_out"])
def test_dropouts_act_in_training_alone(which: str) -> None:
    model, x, z = decoder().train(), text(), torch.randn(1, 4, D)
    setattr(model, which, 0.5)

    a, b = (model(z, x.seen).log_prob(x.target) for _ in range(2))
    assert not torch.equal(a, b)
    model.eval()
    a, b = (model(z, x.seen).log_prob(x.target) for _ in range(2))
    assert torch.equal(a, b)


@pytest.mark.parametrize("enters", ENTERS)
@pytest.mark.parametrize("wrapper", [TokenDropout, ContiguousDropout, Historyless])
def test_wrappers_work_around_it(wrapper: Any, enters: str) -> None:
    made, x, z = wrapper(decoder(enters), V), text(), torch.randn(2, 4, D)

    made.train()(z, x.seen).log_prob(x.target).sum().backward()
    made.eval()
    assert greedy(made, z[0], LONGEST) == greedy(Replay(made), z[0], LONGEST)


@pytest.mark.parametrize("enters", ENTERS)
def test_tokens_that_are_all_alike_tell_their_places_but_by_addition_alone(enters: str) -> None:
    hidden = Historyless(decoder(enters), V, "zero")(torch.randn(1, 1, D), torch.full((1, 6), 5)).hidden[0, 0]  # pyright: ignore

    alike = torch.allclose(hidden, hidden[:1].expand_as(hidden), atol=1e-5)
    assert alike == (enters == "addition")


@pytest.mark.parametrize("enters", ENTERS)
def test_half_precision_is_used_where_it_is_asked_and_scores_are_single(enters: str) -> None:
    model, x, z = decoder(enters), text(), torch.randn(1, 4, D)
    exact, decoded = model(z, x.seen).log_prob(x.target), greedy(model, z[0], LONGEST)

    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(z, x.seen).log_prob(x.target)
        steps = greedy(model, z[0], LONGEST)
    half = model.bfloat16()(z.bfloat16(), x.seen).log_prob(x.target)

    assert any(a == b for a, b in zip(decoded, steps, strict=True))
    for found in (mixed, half):
        assert found.dtype == torch.float32
        assert not torch.equal(found, exact)
        torch.testing.assert_close(found, exact, rtol=0.1, atol=0.5)
