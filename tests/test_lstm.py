"""The LSTM encoder and decoder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from uncollapse.data.text import END, PAD, START, Corpus, Text, corpus_from_lines
from uncollapse.errors import InputError
from uncollapse.nets.lstm import LSTMDecoder, LSTMEncoder, initialise

V, D = 12, 3


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def decoder(**options: float) -> LSTMDecoder:
    return LSTMDecoder(V, 5, 6, D, **options)  # pyright: ignore[reportArgumentType]


def corpus() -> Corpus:
    lines = [" ".join("abcdefgh"[(i * j) % 8] for j in range(1, 2 + i % 5)) for i in range(30)]
    return corpus_from_lines(lines, lines, lines)


def text() -> Text:
    tokens = torch.randint(4, V, (4, 7))
    tokens[:, 0] = START
    for row, length in enumerate((7, 4, 5, 3)):
        tokens[row, length - 1], tokens[row, length:] = END, PAD
    return Text(tokens)


def test_the_published_sizes_have_the_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        assert count(LSTMEncoder(19_997, 512, 1024, 64)) == 16_603_648
        assert count(LSTMDecoder(19_997, 512, 1024, 32)) == 37_178_880
        assert count(LSTMEncoder(1004, 50, 50, 2)) == 70_700
        assert count(LSTMDecoder(1004, 50, 50, 1)) == 121_050


def test_a_skip_adds_one_matrix_from_z_to_the_logits() -> None:
    assert count(decoder(skip=True)) - count(decoder()) == V * D


def test_the_encoder_does_not_see_padding() -> None:
    encoder, x = LSTMEncoder(V, 5, 6, 4), text()

    alone = [encoder(Text(row[row != PAD].unsqueeze(0))) for row in x.tokens]

    torch.testing.assert_close(encoder(x), torch.cat(alone))


def test_the_encoder_reads_every_token() -> None:
    encoder, x = LSTMEncoder(V, 5, 6, 4), text()
    for t in range(7):
        tokens = x.tokens.clone()
        tokens[0, t] = (tokens[0, t] + 1) % V or 1
        assert not torch.equal(encoder(Text(tokens))[0], encoder(x)[0])


@pytest.mark.parametrize("skip", [False, True])
def test_permuted_items_give_permuted_results(skip: bool) -> None:
    x, z, order = text(), torch.randn(2, 4, D), torch.tensor([2, 0, 3, 1])
    encoder, model = LSTMEncoder(V, 5, 6, 4), decoder(skip=skip).eval()

    torch.testing.assert_close(encoder(Text(x.tokens[order])), encoder(x)[order])
    scores = model(z[:, order], x.seen[order]).log_prob(x.target[order])
    torch.testing.assert_close(scores, model(z, x.seen).log_prob(x.target)[:, order])


@pytest.mark.parametrize("skip", [False, True])
def test_padded_and_equal_batches_score_every_item_alike(skip: bool) -> None:
    model, data = decoder(skip=skip).eval(), corpus()
    z = torch.randn(2, len(data.train), D)

    scores = {}
    for kind in ("equal", "padded"):
        batches = data.batches("train", 7, kind)
        scored = [model(z[:, i], x.seen).log_prob(x.target) for i, x in zip(batches.items, batches, strict=True)]
        scores[kind] = torch.cat(scored, 1)[:, batches.items.order.argsort()]

    torch.testing.assert_close(scores["equal"], scores["padded"], atol=1e-5, rtol=1e-5)


def test_samples_are_scored_as_if_alone() -> None:
    model, x, z = decoder().eval(), text(), torch.randn(3, 4, D)

    alone = [model(one.unsqueeze(0), x.seen).log_prob(x.target) for one in z]

    torch.testing.assert_close(model(z, x.seen).log_prob(x.target), torch.cat(alone))


def test_near_zero_weights_cost_log_v_a_token() -> None:
    model, x = LSTMDecoder(1004, 50, 50, 1), Text(torch.tensor([[START, *range(4, 14), END]]))
    initialise(model, "small_uniform")

    nll = -model(torch.randn(1, 1, 1), x.seen).log_prob(x.target)

    assert nll.item() == pytest.approx(76.029, abs=0.05)


@pytest.mark.parametrize("skip", [False, True])
def test_every_parameter_gets_a_gradient(skip: bool) -> None:
    encoder, model, x = LSTMEncoder(V, 5, 6, D), decoder(skip=skip), text()

    model(encoder(x).unsqueeze(0), x.seen).log_prob(x.target).sum().backward()

    for parameter in [*encoder.parameters(), *model.parameters()]:
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("skip", [False, True])
def test_steps_give_the_logits_of_the_whole(skip: bool) -> None:
    model, x, z = decoder(skip=skip).eval(), text(), torch.randn(4, D)

    law = model(z.unsqueeze(0), x.seen)
    state = model.begin(z)
    for t, tokens in enumerate(x.seen.T):
        logits, state = model.next(tokens, state)
        torch.testing.assert_close(logits, law.logits(t).squeeze(0))


@pytest.mark.parametrize("which", ["dropout_in", "dropout_out"])
def test_dropouts_act_in_training_alone(which: str) -> None:
    rates = {"dropout_in": 0.0, "dropout_out": 0.0, which: 0.5}
    model, x, z = decoder(**rates), text(), torch.randn(1, 4, D)

    def score() -> Tensor:
        return model(z, x.seen).log_prob(x.target)

    assert not torch.equal(score(), score())
    model.eval()
    assert torch.equal(score(), score())


def test_z_is_never_dropped() -> None:
    model, z = decoder(dropout_in=1.0, skip=True), torch.randn(1, 4, D)
    model.dropout_out = 0.0

    a, b = (model(z, text().seen) for _ in range(2))

    torch.testing.assert_close(a.hidden, b.hidden)
    assert not torch.equal(a.hidden[0, 0], a.hidden[0, 1])


@pytest.mark.parametrize(
    ("kind", "low", "high", "embedding"),
    [("small_uniform", -0.01, 0.01, (-0.1, 0.1)), ("offset", 0.04, 0.06, (0.0, 0.2))],
)
def test_initial_values_fill_their_range(kind: str, low: float, high: float, embedding: tuple[float, float]) -> None:
    model = LSTMDecoder(200, 50, 60, 20)
    initialise(model, kind)

    for name, parameter in model.named_parameters():
        expected = embedding if name.startswith("embedding") else (low, high)
        tolerance = 0.05 * (expected[1] - expected[0])
        assert (parameter.min().item(), parameter.max().item()) == pytest.approx(expected, abs=tolerance)


def test_the_initialisation_of_torch_is_that_of_a_new_module() -> None:
    torch.manual_seed(3)
    new = decoder()
    old = decoder()
    initialise(old, "offset")
    torch.manual_seed(3)
    initialise(old, "torch")

    assert all(torch.equal(a, b) for a, b in zip(new.parameters(), old.parameters(), strict=True))


def test_unknown_initialisations_are_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean `offset`"):
        initialise(decoder(), "ofset")


@pytest.mark.parametrize("kind", ["small_uniform", "offset", "torch"])
def test_padding_is_embedded_as_zeros_and_stays_so(kind: str) -> None:
    model, x, z = decoder(), text(), torch.randn(1, 4, D)
    initialise(model, kind)
    hidden = x.seen.masked_fill(x.seen == 5, PAD)

    model(z, hidden).log_prob(x.target).sum().backward()

    weight = model.embedding.weight
    assert weight.grad is not None
    assert weight[PAD].eq(0).all()
    assert weight.grad[PAD].eq(0).all()
