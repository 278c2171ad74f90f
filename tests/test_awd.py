"""The AWD-LSTM: the plain decoder where nothing is dropped, its masks, and the penalties of its states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import uncollapse as uc
from test_weaken import D, V, text
from uncollapse.data.text import PAD, Text
from uncollapse.errors import InputError
from uncollapse.language_model import language_model
from uncollapse.nets.awd import AWDLSTMDecoder
from uncollapse.nets.lstm import LSTMDecoder
from uncollapse.terms.activations import ActivationRegularisation

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
DROPOUTS = ("dropout_types", "dropout_in", "dropout_recurrent", "dropout_between", "dropout_out")


def decoder(latent: int = D, layers: int = 3, skip: bool = False, **dropouts: Any) -> AWDLSTMDecoder:
    made = AWDLSTMDecoder(V, 5, 6, latent, layers, skip=skip, **dict.fromkeys(DROPOUTS, 0.0))
    vars(made).update(dropouts)
    for parameter in made.parameters():
        nn.init.uniform_(parameter, -1, 1)
    return made


def test_it_has_as_many_weights_as_the_authors_but_for_the_bias_of_the_logits() -> None:
    with torch.device("meta"):
        model = AWDLSTMDecoder(10_000, 400, 1150, 0)

    assert sum(parameter.numel() for parameter in model.parameters()) == 24_221_600 - 10_000


@pytest.mark.parametrize("skip", [False, True])
def test_without_dropout_one_layer_is_the_plain_decoder(float64: None, skip: bool) -> None:
    awd, plain = decoder(layers=1, skip=skip), LSTMDecoder(V, 5, 5, D, dropout_in=0.0, dropout_out=0.0, skip=skip)
    x, z = text(), torch.randn(2, 4, D)
    weights = {name.replace("layers.0.", "lstm."): value for name, value in awd.state_dict().items()}
    weights["output.weight"] = awd.embedding.weight
    if awd.skip:
        weights["output.weight"] = torch.cat([awd.embedding.weight, weights.pop("skip.weight")], 1)
    weights["embedding.weight"] = awd.embedding.weight * (torch.arange(V) != PAD).unsqueeze(1)
    plain.load_state_dict(weights)

    torch.testing.assert_close(awd(z, x.seen).log_prob(x.target), plain(z, x.seen).log_prob(x.target))


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("latent", [0, D])
def test_step_by_step_it_says_what_it_says_at_once(float64: None, skip: bool, latent: int) -> None:
    rates: Any = dict.fromkeys(DROPOUTS, 0.5)
    model, x, z = decoder(latent, skip=skip, **rates).eval(), text(), torch.randn(1, 4, latent)
    law, state = model(z, x.seen), model.begin(z[0])

    for step, tokens in enumerate(x.seen.unbind(1)):
        logits, state = model.next(tokens, state)
        torch.testing.assert_close(logits, law.logits(step)[0])


def test_every_parameter_gets_a_gradient() -> None:
    rates: Any = dict.fromkeys(DROPOUTS, 0.1)
    model, x = decoder(skip=True, **rates), text()
    model(torch.randn(2, 4, D), x.seen).log_prob(x.target).sum().backward()

    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("which", DROPOUTS)
def test_each_dropout_acts_in_training_alone(which: str) -> None:
    rates: Any = {which: 0.5}
    model, x, z = decoder(**rates), text(), torch.randn(1, 4, D)

    a, b = (model(z, x.seen).log_prob(x.target) for _ in range(2))
    assert not torch.equal(a, b)
    model.eval()
    a, b = (model(z, x.seen).log_prob(x.target) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(a, decoder_like(model)(z, x.seen).log_prob(x.target))


def decoder_like(model: AWDLSTMDecoder) -> AWDLSTMDecoder:
    """One without dropout, in training mode."""
    made = decoder()
    made.load_state_dict(model.state_dict())
    return made


# Masks.


def test_a_mask_is_the_same_at_every_step_and_another_for_every_text() -> None:
    model = decoder(dropout_in=0.3, dropout_out=0.4)
    embedded = model._embed(torch.full((400, 7), 4))
    seen = torch.randint(4, V, (400, 7))
    law = model(torch.randn(1, 400, D), seen)

    for mask, rate in ((embedded / model.embedding.weight[4], 0.3), ((law.dropped / law.states)[0], 0.4)):
        torch.testing.assert_close(mask, mask[:, :1].expand(-1, 7, -1))
        assert mask.max().item() == pytest.approx(1 / (1 - rate))
        assert mask[:, 0].eq(0).double().mean().item() == pytest.approx(rate, abs=0.04)
        assert len(mask[:, 0].eq(0).unique(dim=0)) > 20


def test_a_type_is_dropped_from_all_texts_or_from_none() -> None:
    model = decoder(dropout_types=0.4)
    tokens = torch.arange(1, V).repeat(6, 2)

    whole = model.embedding(tokens)
    share = model._embed(tokens) / whole
    torch.testing.assert_close(share, share[:1, : V - 1, :1].repeat(6, 2, 5))
    assert share.unique().min() == 0
    assert share.unique().max().item() == pytest.approx(1 / 0.6)


def test_padding_is_embedded_as_zeros_though_it_has_logits() -> None:
    model = decoder()

    assert model._embed(torch.full((2, 3), PAD)).eq(0).all()
    assert model.embedding.weight[PAD].ne(0).all()


def test_recurrent_weights_are_dropped_for_a_whole_batch() -> None:
    model, x = decoder(dropout_recurrent=0.5), Text(torch.randint(4, V, (30, 12)))
    model(torch.randn(1, 30, D), x.seen).log_prob(x.target).sum().backward()

    lstms: Any = model.layers
    gradients = torch.cat([layer.weight_hh_l0.grad.flatten() for layer in lstms])
    # An entry that any step or text used would have a gradient.
    assert gradients.eq(0).double().mean().item() == pytest.approx(0.5, abs=0.09)
    assert all(layer.weight_ih_l0.grad.ne(0).all() for layer in lstms)


# AR and TAR.


def states_by_hand(model: AWDLSTMDecoder, x: Text) -> list[Tensor]:
    """The last layer's states of each text, (T, H), for as many tokens as it predicts."""
    found = []
    for tokens, count in zip(x.seen, x.symbols.tolist(), strict=True):
        state, each = model.begin(torch.zeros(1, 0)), []
        for token in tokens[:count]:
            _, state = model.next(token.view(1), state)
            each.append(state.h[0, -5:])
        found.append(torch.stack(each))
    return found


def test_the_penalties_are_those_of_the_states_that_predict_a_token(float64: None) -> None:
    net, x = decoder(0), text()

    bound = language_model(net)(x)

    states = states_by_hand(net, x)
    small = torch.stack([h.square().mean(1).sum() for h in states])
    slow = torch.stack([(h[1:] - h[:-1]).square().mean(1).sum() for h in states])
    torch.testing.assert_close(bound.extras, {"activation": small, "change": slow})
    torch.testing.assert_close(ActivationRegularisation()(bound), (2 * small + slow).mean())
    torch.testing.assert_close(ActivationRegularisation(0.5, 0.0)(bound), 0.5 * small.mean())


def test_on_texts_of_one_length_a_token_pays_the_mean_of_all_squares(float64: None) -> None:
    net, x = decoder(0), Text(torch.randint(4, V, (6, 9)))

    bound = language_model(net)(x)

    h = torch.stack(states_by_hand(net, x))
    torch.testing.assert_close(bound.extras["activation"].mean() / 8, h.square().mean())


def test_the_activation_is_that_after_dropout_and_the_change_that_before(float64: None) -> None:
    model, x, z = decoder(dropout_out=0.5), text(), torch.randn(1, 4, D)

    law = model(z, x.seen)
    assert law.dropped.eq(0).double().mean() > 0.2
    assert law.states.ne(0).all()
    first = text(1, 2).seen  # One token: nothing has changed.
    assert model(z[:, :1], first).extras(first)["change"].eq(0).all()
    real = x.target != PAD
    torch.testing.assert_close(law.extras(x.seen)["activation"], (law.dropped[0].square().mean(-1) * real).sum(-1))


def test_evaluation_knows_no_penalty() -> None:
    figures = uc.evaluate(language_model(decoder(0)), [text()], samples=2)

    assert figures.rows.extras == {}
    with pytest.raises(InputError, match=r"no extras `activation` and `change`, but none: .* such as `awd-lstm`"):
        ActivationRegularisation()(language_model(decoder(0).eval())(text()))
