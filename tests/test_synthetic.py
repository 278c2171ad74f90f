"""The synthetic sequences with a known latent."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from uncollapse.data import synthetic
from uncollapse.data.synthetic import Drawn
from uncollapse.data.text import Corpus


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return synthetic.draw(n=8000, vocabulary=50)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return synthetic.corpus()


def information(tokens: Tensor, z: Tensor) -> float:
    """I(token; quadrant of z) of the sample, less its bias of (V - 1)(4 - 1) / 2N, in nats."""
    quadrant = (z[:, 0] > 0).long() * 2 + (z[:, 1] > 0)
    joint = torch.bincount(tokens * 4 + quadrant, minlength=200).view(-1, 4).double() / len(tokens)
    independent = joint.sum(1, keepdim=True) * joint.sum(0)
    return float(torch.special.xlogy(joint, joint / independent).nansum() - 49 * 3 / (2 * len(tokens)))


def test_the_first_token_is_uniform(drawn: Drawn) -> None:
    counts = torch.bincount(drawn.tokens[:, 0], minlength=50).double()

    chi_square = float(((counts - 160) ** 2 / 160).sum())

    assert chi_square == pytest.approx(49, abs=5 * 98**0.5)


def test_the_first_token_says_nothing_of_z(drawn: Drawn) -> None:
    assert information(drawn.tokens[:, 0], drawn.z) == pytest.approx(0, abs=0.01)


def test_every_later_token_says_much_of_z(drawn: Drawn) -> None:
    assert all(information(column, drawn.z) > 0.5 for column in drawn.tokens[:, 1:].T)


def test_z_is_a_mixture_of_four_unit_gaussians_in_the_corners(drawn: Drawn) -> None:
    # Each coordinate: mean 0, variance 4 + 1, fourth moment 3 + 6 * 4 + 16.
    moments = [drawn.z.pow(k).mean().item() for k in (1, 2, 4)]

    assert moments == pytest.approx([0, 5, 43], abs=1.5)
    assert drawn.z.prod(1).mean().item() == pytest.approx(0, abs=0.3)


def test_the_seed_decides_the_sequences() -> None:
    a, b, c = (synthetic.sequences(50, seed=seed) for seed in (1, 1, 2))

    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_the_global_random_state_is_neither_read_nor_changed() -> None:
    before = torch.get_rng_state()
    a = synthetic.sequences(50)
    assert torch.equal(torch.get_rng_state(), before)

    torch.manual_seed(1)
    assert torch.equal(synthetic.sequences(50), a)


def test_the_corpus_is_that_of_the_reference(corpus: Corpus) -> None:
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (16_000, 2_000, 2_000)
    assert len(corpus.vocabulary) == 1004
    assert {len(ids) for ids in corpus.train} == {12}


def test_the_corpus_is_made_of_the_sequences(corpus: Corpus) -> None:
    small = synthetic.corpus(20, length=3)

    words = small.vocabulary.decode(small.train[0]).split()

    assert words == [f"w{i}" for i in synthetic.sequences(20, length=3)[0].tolist()]
