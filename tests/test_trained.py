"""A trained model in use, and how it is loaded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal
from torch.utils.data import DataLoader, TensorDataset

import uncollapse as uc
from uncollapse import decoding
from uncollapse.data import sentences
from uncollapse.data.batches import Batched
from uncollapse.data.sentences import Sentences
from uncollapse.data.text import Corpus, corpus_from_lines
from uncollapse.experiment.trained import Trained
from uncollapse.nets.lstm import LSTMDecoder, LSTMEncoder

LINES = [f"{a} {b} {c}" for a in "ab" for b in "cd" for c in "ef"]


class Decoder(nn.Linear):
    def forward(self, z: Tensor, seen: Tensor) -> Distribution:  # pyright: ignore
        return Independent(Normal(super().forward(z), 1.0), 1)


def words() -> Corpus:
    return corpus_from_lines(LINES, LINES, LINES)


def text_model(max_length: int = sentences.MAX_LENGTH) -> Trained:
    torch.manual_seed(2)
    corpus = words()
    size = len(corpus.vocabulary)
    encoder = uc.Posterior(LSTMEncoder(size, 6, 8, 6), uc.gaussian, (3, 3))
    vae = uc.VAE(encoder, LSTMDecoder(size, 6, 8, 3), uc.StandardNormal(3))
    return Trained(vae, Sentences(corpus.vocabulary, max_length))


def vector_model() -> Trained:
    torch.manual_seed(2)
    encoder = uc.Posterior(nn.Linear(5, 4), uc.gaussian, (2, 2))
    return Trained(uc.VAE(encoder, Decoder(2, 5), uc.StandardNormal(2)))


X = torch.randn(10, 5, generator=torch.Generator().manual_seed(1))
SOURCES = {
    "tensor": X,
    "array": X.double().numpy(),
    "Dataset": TensorDataset(X, torch.zeros(10)),
    "list of batches": list(X.split(4)),
    "batches out of order": Batched(X.__getitem__, list(torch.arange(9, -1, -1).split(3))),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_is_encoded_in_the_order_of_its_items(kind: str) -> None:
    model = vector_model()
    torch.testing.assert_close(model.encode(SOURCES[kind], batch_size=3), model.model.encoder(X).mean)  # pyright: ignore


def test_texts_are_encoded_like_their_batches() -> None:
    model = text_model()
    corpus = words()
    expected = model.encode(corpus.batches("train", 3, "padded"))
    torch.testing.assert_close(model.encode(LINES), expected)
    torch.testing.assert_close(model.encode(tuple(LINES), batch_size=2), expected)


def test_a_loader_is_not_encoded() -> None:
    with pytest.raises(uc.InputError, match="give its dataset"):
        vector_model().encode(DataLoader(TensorDataset(X), drop_last=True))


def test_nothing_is_not_encoded() -> None:
    with pytest.raises(uc.InputError, match="at least one batch"):
        text_model().encode([])


def test_the_mode_of_every_module_comes_back_even_after_an_error() -> None:
    model = text_model()
    model.model.train()
    model.model.decoder.eval()  # pyright: ignore
    modes = [module.training for module in model.model.modules()]
    model.generate(2)
    with pytest.raises(uc.InputError, match="at least 1"):
        model.generate(0)
    with pytest.raises(uc.InputError, match="way of decoding"):
        model.generate(1, "greed")
    assert [module.training for module in model.model.modules()] == modes


@pytest.mark.parametrize("way", ["greedy", "sample", "beam"])
def test_texts_are_decoded_in_blocks(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    model, sizes = text_model(max_length=5), []
    whole = model.generate(7, way)
    plain = getattr(decoding, way)

    def counted(decoder: Any, z: Tensor, *more: Any) -> Any:
        sizes.append(len(z))
        return plain(decoder, z, *more)

    monkeypatch.setattr(decoding, way, counted)
    monkeypatch.setattr(sentences, "ITEMS", 3)
    blocks = model.generate(7, way)
    assert sizes == [3, 3, 1]
    assert way == "sample" or blocks == whole


def test_a_call_may_set_the_most_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = text_model(max_length=4), []

    def recorded(decoder: Any, z: Tensor, max_length: int, *more: Any) -> list[list[int]]:
        asked.append(max_length)
        return [[] for _ in z]

    for way in ("greedy", "sample"):
        monkeypatch.setattr(decoding, way, recorded)
    for most in (None, 2):
        model.generate(2, max_length=most)
        model.reconstruct(LINES[:2], max_length=most)
        model.interpolate(LINES[0], LINES[1], max_length=most)
    assert asked == [4, 4, 4, 2, 2, 2]


@pytest.mark.parametrize(("more", "most"), [({"longest": 150}, 151), ({}, sentences.MAX_LENGTH)])
def test_as_many_tokens_are_written_as_the_longest_training_item_has(more: dict[str, int], most: int) -> None:
    interface = Sentences.restored({"tokens": "words", "words": ["a", "b"], **more})
    assert interface.vocabulary.words == ("a", "b")
    assert interface.max_length == most


@pytest.mark.parametrize("content", [{}, {"tokens": "words"}, [], {"tokens": "words", "words": 3}, {"words": [1]}])
def test_a_file_without_a_vocabulary_is_refused(content: Any) -> None:
    with pytest.raises(uc.InputError, match="holds no vocabulary"):
        Sentences.restored(content)


@pytest.mark.parametrize("lines", [["zebra"], ["", " "], ["zebra zoo", "lion"]])
def test_a_text_without_a_known_word_is_refused(lines: list[str]) -> None:
    model = text_model(max_length=5)
    with pytest.raises(uc.InputError, match="words that the model knows, such as"):
        model.encode(lines)


def test_each_end_of_a_line_between_sentences_needs_a_known_word() -> None:
    model = text_model(max_length=5)
    known = words().vocabulary.words[0]
    assert len(model.encode([known, "zebra"])) == 2
    with pytest.raises(uc.InputError, match="`zebra` holds none"):
        model.interpolate(known, "zebra")


# What is written of a model that is not of text.


def other(decoder: nn.Module, prior: nn.Module | None = None) -> Trained:
    encoder = uc.Posterior(nn.Linear(5, 4), uc.gaussian, (2, 2))
    return Trained(uc.VAE(encoder, decoder, prior or uc.StandardNormal(2)))


def test_means_and_draws_are_those_of_the_decoders_law() -> None:
    model = vector_model()
    z = model.encode(X)
    mean = model.model.decoder(z, None).mean  # pyright: ignore
    torch.testing.assert_close(model.reconstruct(X), mean)
    drawn = torch.stack([model.reconstruct(X, "sample", seed=seed) for seed in range(400)])
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.25, rtol=0)
    torch.testing.assert_close(drawn.std(0), torch.ones_like(mean), atol=0.2, rtol=0)


def test_a_line_between_two_items_ends_at_both() -> None:
    model = vector_model()
    line = model.interpolate(X[0], X[1].numpy(), steps=3)
    torch.testing.assert_close(line[[0, 2]], model.reconstruct(X[:2]))


def test_a_decoder_that_looks_at_what_it_writes_is_refused_with_where_to_look() -> None:
    class Reader(Decoder):
        def forward(self, z: Tensor, seen: Tensor) -> Distribution:
            return super().forward(z, seen.cumsum(-1))

    with pytest.raises(uc.InputError, match=r"`Reader` cannot write from z alone: .*: see `uncollapse\.decoding`"):
        other(Reader(2, 5)).generate(1)


def test_a_law_without_means_is_refused_with_what_to_ask_for() -> None:
    class Classes(nn.Linear):
        def forward(self, z: Tensor, seen: Tensor) -> Distribution:
            return Independent(Categorical(logits=super().forward(z).unflatten(-1, (5, 3))), 1)

    model = other(Classes(2, 15))
    assert model.generate(3).shape == (3, 5)
    with pytest.raises(uc.InputError, match="has no mean: ask for `sample`"):
        model.generate(3, "mean")


def test_a_prior_that_needs_what_is_given_is_refused_in_one_line() -> None:
    class Conditional(uc.StandardNormal):
        def forward(self, given: Tensor) -> Distribution:  # pyright: ignore[reportIncompatibleMethodOverride]
            return super().forward()

    with pytest.raises(uc.InputError, match=r"this model's prior needs what is given, .*'given'"):
        other(Decoder(2, 5), Conditional(2)).generate(1)


def test_a_model_without_a_prior_is_told_how_to_name_it() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

    with pytest.raises(uc.InputError, match="`Bare` has no `prior`"):
        Trained(Bare()).generate(1)


def test_items_of_two_shapes_make_no_line() -> None:
    with pytest.raises(uc.InputError, match="Give two tensors of one shape"):
        vector_model().interpolate(X[0], X[0, :3])


def test_latents_with_a_shape_are_encoded_in_it() -> None:
    from test_evaluate import shaped

    trained = Trained(shaped())
    trained.model.register_parameter("home", torch.nn.Parameter(torch.zeros(())))
    assert trained.encode(torch.randn(7, 2, 2), batch_size=3).shape == (7, 3, 2, 2)
    assert trained.encode(torch.randn(7, 2, 2), sample=True).shape == (7, 3, 2, 2)


def test_a_vae_written_elsewhere_generates_and_reconstructs() -> None:
    from test_foreign import BITS, Tutorial

    trained = Trained(uc.foreign(Tutorial(), likelihood="bernoulli", example=BITS))
    assert trained.generate(3).shape == (3, 12)
    torch.testing.assert_close(trained.reconstruct(BITS[:4]), trained.model.decoder.generate(trained.encode(BITS[:4])))  # pyright: ignore
