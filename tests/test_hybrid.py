"""The hybrid convolutional VAE: what its networks read and write, and its auxiliary reconstruction."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from test_weaken import D, V, text
from uncollapse.data.text import Text
from uncollapse.decoding import Replay
from uncollapse.errors import InputError
from uncollapse.experiment import build
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
from uncollapse.nets.hybrid import HybridDecoder, HybridEncoder, Reconstruction
from uncollapse.nets.layer_norm import LayerNormLSTM
from uncollapse.nets.lstm import LSTMDecoder, initialise

LENGTH = 8


def encoder() -> HybridEncoder:
    return HybridEncoder(V, 5, 16, 4, length=LENGTH, layers=2)


def decoder(**settings: Any) -> HybridDecoder:
    given = {"features": 7, "length": LENGTH, "layers": 2, "dropout_in": 0.0, "dropout_out": 0.0, **settings}
    return HybridDecoder(V, 5, 16, D, **given)


def moved(change: Tensor) -> list[int]:
    """The places (S, B, T, ...) at which something is not zero."""
    return change.abs().sum((0, 1, 3)).nonzero().flatten().tolist()


def test_the_networks_have_the_channels_of_the_source() -> None:
    made = {"encoder": HybridEncoder(V, 5, 1024, 4), "decoder": HybridDecoder(V, 5, 1024, D)}
    widths = {name: [layer[0].out_channels for layer in net.layers] for name, net in made.items()}  # pyright: ignore

    assert widths == {"encoder": [128, 256, 512, 512, 512], "decoder": [512, 512, 256, 128, 200]}
    assert made["encoder"].output.in_features == 4 * 512
    assert made["decoder"].written(torch.randn(2, 3, D), 128).shape == (2, 3, 128, 200)


def test_a_texts_outputs_do_not_depend_on_its_batch_nor_on_what_is_after_the_length() -> None:
    model, x = encoder().eval(), text(12, 9)
    alone = torch.cat([model(Text(row[row != 0].unsqueeze(0))) for row in x.tokens])

    torch.testing.assert_close(model(x), alone)
    torch.testing.assert_close(model(x), model(Text(x.tokens[:, :LENGTH])))
    assert not torch.allclose(model(x), model(Text(x.tokens[:, : LENGTH - 1])))


def test_lengths_are_rounded_up_to_what_halves_evenly() -> None:
    assert HybridEncoder(V, 5, 16, 4, length=9, layers=2).length == 12
    assert decoder(length=9).length == 12


@pytest.mark.parametrize("make", [lambda **settings: HybridEncoder(V, 5, 16, 4, **settings), decoder])
def test_too_many_layers_for_a_length_are_refused(make: Any) -> None:
    assert make(length=17, layers=4).length == 32
    with pytest.raises(InputError, match=r"a `length` of 16 leaves 4 `layers` of convolutions one place alone"):
        make(length=16, layers=4)


def test_z_is_written_to_every_place_up_to_the_length_and_the_rest_is_empty() -> None:
    model, z = decoder().eval(), torch.randn(2, 3, D)

    assert moved(model.written(z, 11) - model.written(z + 1, 11)) == list(range(LENGTH))
    assert torch.equal(model.written(z, 3), model.written(z, 11)[:, :, :3])


def test_no_step_sees_a_token_after_it_and_all_before() -> None:
    model, z, seen = decoder(), torch.randn(1, 1, D), torch.randint(4, V, (1, 9))
    embedded = model.embedding(seen).detach().requires_grad_()
    model._embed = lambda tokens: embedded  # pyright: ignore[reportAttributeAccessIssue]

    for step in range(9):
        (slope,) = torch.autograd.grad(model(z, seen).hidden[:, :, step].sum(), embedded)
        assert slope.abs().sum(2).squeeze(0).ne(0).tolist() == [place <= step for place in range(9)]


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_step_by_step_it_is_the_decoder_that_reads_whole_texts_also_beyond_its_length(
    skip: bool, layer_norm: bool
) -> None:
    model, z, tokens = decoder(skip=skip, layer_norm=layer_norm).eval(), torch.randn(4, D), text(4, 13).tokens
    replay = Replay(model)
    mine, other = model.begin(z), replay.begin(z)

    for column in tokens.T:
        found, mine = model.next(column, mine)
        expected, other = replay.next(column, other)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_every_parameter_gets_a_gradient(layer_norm: bool) -> None:
    model, reader, x = decoder(skip=True, layer_norm=layer_norm), encoder(), text()

    model(torch.randn(2, 4, D), x.seen).log_prob(x.target).sum().backward()
    reader(x).square().sum().backward()

    for parameter in (*model.parameters(), *reader.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("which", ["dropout_in", "dropout_out"])
def test_dropouts_act_in_training_alone(which: str) -> None:
    model, z, seen = decoder(**{which: 0.5}), torch.randn(1, 4, D), text().seen

    assert not torch.equal(model(z, seen).hidden, model(z, seen).hidden)
    model.eval()
    assert torch.equal(model(z, seen).hidden, model(z, seen).hidden)


def test_numbers_of_a_small_range_vanish_and_torchs_do_not() -> None:
    """Why the remedy sets how its networks are initialised."""
    x, spread = text(64, 40), {}
    for kind in ("small_uniform", "torch"):
        model = HybridEncoder(V, 50, 256, 4)
        initialise(model, kind)
        spread[kind] = model(x).std(0).mean().item()

    assert spread["small_uniform"] < 1e-5
    assert spread["torch"] > 1e-2


# Layer normalisation.


def normalised() -> LayerNormLSTM:
    made = LayerNormLSTM(3, 5)
    nn.init.normal_(made.norm.weight, 1, 0.3)
    nn.init.normal_(made.norm.bias)
    return made


def test_what_arrives_at_the_gates_has_mean_0_and_variance_1_for_every_item_at_every_step(float64: None) -> None:
    model, arrived = LayerNormLSTM(3, 5), []
    model.norm.register_forward_hook(lambda module, given, out: arrived.append((given[0], out)))
    model(10 * torch.randn(4, 7, 3))

    assert len(arrived) == 7
    for before, after in arrived:
        assert before.std(-1).min() > 1
        torch.testing.assert_close(after.mean(-1), torch.zeros(4))
        torch.testing.assert_close(after.var(-1, correction=0), torch.ones(4), atol=1e-3, rtol=0)


@pytest.mark.parametrize("starts", [False, True])
def test_a_layer_normalised_lstm_is_its_equations(float64: None, starts: bool) -> None:
    model, x = normalised(), torch.randn(4, 7, 3)
    before = (torch.randn(1, 4, 5), torch.randn(1, 4, 5)) if starts else None

    found, after = model(x, before)

    h, c = (state.squeeze(0) for state in before or (torch.zeros(1, 4, 5),) * 2)
    for t in range(7):
        a = x[:, t] @ model.into.weight.T + model.into.bias + h @ model.recurrent.weight.T
        variance, mean = torch.var_mean(a, -1, correction=0, keepdim=True)
        a = model.norm.weight * (a - mean) / (variance + 1e-4).sqrt() + model.norm.bias
        i, f, g, o = a[:, :5], a[:, 5:10], a[:, 10:15], a[:, 15:]
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        torch.testing.assert_close(found[:, t], h)
    torch.testing.assert_close(after, (h.unsqueeze(0), c.unsqueeze(0)))


def test_without_its_normalisation_it_is_torchs_lstm(float64: None) -> None:
    model, plain, x = normalised(), nn.LSTM(3, 5, batch_first=True), torch.randn(4, 7, 3)
    model.norm = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    given = (model.into.weight, model.recurrent.weight, model.into.bias, torch.zeros(20))
    plain.load_state_dict(dict(zip(plain.state_dict(), given, strict=True)))

    torch.testing.assert_close(model(x), plain(x))


def test_a_rescaled_step_arrives_alike(float64: None) -> None:
    """What layer normalisation is for: of all that arrives, only the direction counts."""
    model, x = normalised(), torch.randn(4, 1, 3)
    nn.init.zeros_(model.into.bias)

    torch.testing.assert_close(model(1000 * x)[0], model(100 * x)[0], atol=1e-3, rtol=1e-3)
    assert not torch.allclose(model(1000 * x)[0], model(-1000 * x)[0], atol=1e-2)


# The head.


def test_the_head_tells_each_token_from_its_place_alone() -> None:
    model, x, z = decoder().eval(), text(4, 11), torch.randn(3, 4, D)
    head = Reconstruction(V, model)
    found = nn.functional.linear(model.written(z, 10), head.output.weight).log_softmax(-1)

    each = found.gather(-1, x.target.expand(3, -1, -1).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(head(z, x), each.where(x.target != 0, 0).sum(-1).mean(0))
    torch.testing.assert_close(head(z, x.thinned(0.3)[0]), head(z, x))


def test_a_head_that_knows_nothing_pays_for_every_token() -> None:
    head, x = Reconstruction(V, decoder()), text()
    nn.init.zeros_(head.output.weight)

    torch.testing.assert_close(head(torch.randn(2, 4, D), x), -math.log(V) * x.symbols)


def test_the_head_moves_the_layers_that_write_and_owns_none_of_them() -> None:
    model = decoder()
    head = Reconstruction(V, model)
    head(torch.randn(2, 4, D), text()).sum().backward()

    moves = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert moves == {"start", "layers"}
    assert [name for name, _ in head.named_parameters()] == ["output.weight"]


def test_a_decoder_that_writes_z_nowhere_is_refused() -> None:
    with pytest.raises(InputError, match="of a text, which `LSTMDecoder` does not: take the decoder `hybrid`"):
        Reconstruction(V, LSTMDecoder(V, 5, 6, D))


def test_the_head_of_a_spec_reads_the_decoder_within_its_wrappers() -> None:
    spec = validated(compose("text", ["hybrid-cnn+word-dropout"], ["data.train=a.txt"]))
    model: Any = build.model(spec, {"vocabulary": V})

    written = model.generation.heads.reconstruction.written
    assert written.__self__ is model.decoder.decoder
    assert isinstance(model.decoder.decoder.lstm, LayerNormLSTM)
    assert spec.training.objective.weights == {"reconstruction": 0.2}
    assert len(model.state_dict()) == len({value.data_ptr() for value in model.state_dict().values()})
