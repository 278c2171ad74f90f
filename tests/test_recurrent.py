"""Recurrent encoders: cells, directions and pooling."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from test_weaken import V, text
from uncollapse.data.text import PAD, Text
from uncollapse.errors import InputError
from uncollapse.nets.lstm import LSTMEncoder
from uncollapse.nets.recurrent import RecurrentEncoder
from uncollapse.nets.vamp import VampPrior

KINDS = list(itertools.product(("lstm", "gru"), (False, True), ("last", "max", "mean")))


def encoder(*kind: Any) -> RecurrentEncoder:
    return RecurrentEncoder(V, 5, 6, 4, *kind)


def alone(tokens: Tensor) -> list[Text]:
    """Each text without its padding."""
    return [Text(row[row != PAD].unsqueeze(0)) for row in tokens]


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_not_seen(kind: Any) -> None:
    model, x = encoder(*kind), text()

    torch.testing.assert_close(model(x), torch.cat([model(one) for one in alone(x.tokens)]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind: Any) -> None:
    model = encoder(*kind)

    model(text()).square().sum().backward()

    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0


def test_the_last_state_of_one_direction_is_what_the_plain_encoder_reads() -> None:
    model, plain, x = encoder("lstm", False, "last"), LSTMEncoder(V, 5, 6, 4), text()
    plain.load_state_dict({name.replace("readers.0", "lstm"): value for name, value in model.state_dict().items()})

    assert torch.equal(model(x), plain(x))


@pytest.mark.parametrize("pooling", ["last", "max", "mean"])
def test_the_second_reader_begins_at_the_end(pooling: Any) -> None:
    model, x = encoder("gru", True, pooling), text()
    backwards = [one.tokens.flip(1) for one in alone(x.tokens)]
    model.readers[0].load_state_dict(model.readers[1].state_dict())
    swapped = torch.cat([model.output.weight[:, 6:], model.output.weight[:, :6]], 1)

    found = model(x)
    model.output.weight.data = swapped

    torch.testing.assert_close(found, torch.cat([model(Text(tokens)) for tokens in backwards]))


def test_pools_are_the_largest_and_the_mean_of_the_states() -> None:
    x = text()
    for pooling, pool in {"max": lambda states: states.amax(0), "mean": lambda states: states.mean(0)}.items():
        model = encoder("lstm", False, pooling)
        states = [model.readers[0](model.embedding(one.tokens))[0][0] for one in alone(x.tokens)]

        torch.testing.assert_close(model(x), model.output(torch.stack([pool(one) for one in states])))


def test_the_bag_of_words_adds_a_row_of_its_own_for_every_word_but_markers() -> None:
    x, model, plain = text(), encoder("gru", True, "max", True), encoder("gru", True, "max")
    rows: Any = model.words
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if name != "words.weight"})

    counts = torch.stack([row[row > 2].bincount(minlength=V) for row in x.tokens])
    torch.testing.assert_close(model(x), plain(x) + counts.float() @ rows.weight)
    torch.testing.assert_close(model(x), torch.cat([model(one) for one in alone(x.tokens)]))


def test_a_prior_of_pseudo_texts_is_refused_where_a_bag_is_read() -> None:
    with pytest.raises(InputError, match="has 2 tables of them"):
        VampPrior(encoder("gru", True, "max", True))
