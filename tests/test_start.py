"""Decoders and encoders that start from a trained language model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from test_cli import VALUES, write_text
from uncollapse.cli.options import Options
from uncollapse.errors import InputError
from uncollapse.experiment import build, execute, run
from uncollapse.experiment.api import best_weights, load
from uncollapse.experiment.spec import Spec
from uncollapse.experiment.start import start
from uncollapse.nets.lstm import LSTMDecoder, LSTMEncoder
from uncollapse.training.listeners import Moment

PREFIX = "generation.decoder."
#: The last columns of these matrices are z's.
READ_Z = {
    "plain": {"lstm.weight_ih_l0", "start.weight"},
    "skip": {"lstm.weight_ih_l0", "start.weight", "output.weight"},
    "dilated-cnn-s": {"enter.weight"},
    "dilated-cnn-s+word-dropout": {"decoder.enter.weight"},
    "awd-lstm": {"layers.0.weight_ih_l0", "start.weight"},
    "awd-lstm+skip": {"layers.0.weight_ih_l0", "start.weight", "skip.weight"},
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "a.txt", 40)


def spec_of(text: Path, names: str, *overrides: str, epochs: int = 1) -> Spec:
    given = (*VALUES, f"training.max_epochs={epochs}", *overrides)
    return Options(train=text, overrides=given).spec("text", [names], 0)


def trained_on(text: Path, folder: Path, names: str = "language-model", *overrides: str) -> Path:
    execute.train(spec_of(text, names, *overrides), folder, {})
    return folder


@pytest.fixture(scope="module")
def of_words(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a language model."""
    return trained_on(text, tmp_path_factory.mktemp("lstm") / "run")


def started(spec: Spec) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The decoder's tensors as they are initialised, and as they start."""
    data: Any = build.data(spec)
    fresh, model = (build.model(spec, data.facts) for _ in range(2))
    start(spec, model, data)
    return decoder_of(fresh.state_dict()), decoder_of(model.state_dict())


def decoder_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}


@pytest.mark.parametrize("names", READ_Z)
def test_the_decoder_has_the_weights_but_for_what_reads_z(names: str, text: Path, tmp_path: Path) -> None:
    without = "+".join({*names.split("+"), "language-model"} - {"skip"})
    weights = decoder_of(best_weights(trained_on(text, tmp_path / "run", without)))

    fresh, found = started(spec_of(text, names, f"model.start={tmp_path / 'run'}"))

    for name, value in found.items():
        given = weights.get(name, value[..., :0])
        columns = given.shape[-1]
        assert (value.shape != given.shape) == (name in READ_Z[names])
        assert value[..., :columns].equal(given)
        assert value[..., columns:].equal(fresh[name][..., columns:])
    assert any(not value.equal(fresh[name]) for name, value in found.items())


class Counting(LSTMDecoder):
    """A decoder of one's own, with a tensor of one number."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int, latent: int) -> None:
        super().__init__(vocabulary, embedding, hidden, latent)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, z: Tensor, seen: Tensor) -> Any:
        self.passes += self.training
        return super().forward(z, seen)


def test_a_decoder_of_ones_own_may_have_a_tensor_of_one_number(text: Path, tmp_path: Path) -> None:
    own = 'model.decoder={kind: "test_start:Counting", embedding: 6, hidden: 8}'
    folder = trained_on(text, tmp_path / "run", "language-model", own)

    _, found = started(spec_of(text, "plain", own, f"model.start={folder}"))

    assert found["passes"] == decoder_of(best_weights(folder))["passes"] > 0


def test_a_decoder_that_reads_nothing_of_z_is_the_language_model(text: Path, of_words: Path) -> None:
    spec = spec_of(text, "plain", f"model.start={of_words}")
    data: Any = build.data(spec)
    model: Any = build.model(spec, data.facts).eval()
    start(spec, model, data)
    x, language_model = data.batches("test")[0], load(of_words).model
    with torch.no_grad():
        model.decoder.start.weight.zero_()
        model.decoder.lstm.weight_ih_l0[:, -model.decoder.start.in_features :] = 0
        torch.testing.assert_close(model(x).log_likelihood, language_model(x).log_likelihood)


def test_a_training_starts_from_it_and_goes_on_bit_for_bit(text: Path, of_words: Path, tmp_path: Path) -> None:
    def stop(moment: Moment) -> None:
        if moment.kind == "step" and moment.epoch == 1:
            raise KeyboardInterrupt

    names, said = "decoder-from-language-model", f"model.start={of_words}"
    spec = spec_of(text, names, said, epochs=2)
    execute.train(spec, tmp_path / "whole", {})
    with pytest.raises(KeyboardInterrupt):
        execute.train(spec, tmp_path / "parts", {}, [stop])
    execute.train(spec, tmp_path / "parts", {})
    execute.train(spec_of(text, "slow-decoder", epochs=2), tmp_path / "fresh", {})

    whole, parts, fresh = (best_weights(tmp_path / name) for name in ("whole", "parts", "fresh"))
    assert all(value.equal(parts[name]) for name, value in whole.items())
    assert not whole[f"{PREFIX}output.weight"].equal(fresh[f"{PREFIX}output.weight"])


def test_a_trained_run_is_judged_without_the_language_model(text: Path, of_words: Path, tmp_path: Path) -> None:
    language_model = shutil.copytree(of_words, tmp_path / "lm")
    execute.train(spec_of(text, "plain", f"model.start={language_model}"), tmp_path / "run", {})
    shutil.rmtree(language_model)

    assert execute.judge(tmp_path / "run", samples=1).report["split"] == "test"


def test_the_weights_are_a_part_of_the_runs_identity_and_their_place_is_none(
    text: Path, of_words: Path, tmp_path: Path
) -> None:
    def train(folder: Path) -> None:
        execute.train(spec_of(text, "plain", f"model.start={folder}"), tmp_path / "run", {})

    train(of_words)
    train(shutil.copytree(of_words, tmp_path / "moved"))
    other = trained_on(text, tmp_path / "other", "language-model", "training.optimisers.generation.learning_rate=0.5")
    for spec in (spec_of(text, "plain"), spec_of(text, "plain", f"model.start={other}")):
        with pytest.raises(InputError, match="holds a run of another spec or other data"):
            execute.train(spec, tmp_path / "run", {})


@pytest.fixture
def refused(text: Path, tmp_path: Path) -> Iterator[Any]:
    """Says why a training does not start from a folder, in a line, and leaves no folder of a run."""

    def why(folder: Path | None, *overrides: str, names: str = "plain", on: Path = text) -> str:
        said = [f"model.start={folder}"] if folder else []
        with pytest.raises(InputError) as error:
            execute.train(spec_of(on, names, *said, *overrides), tmp_path / "refused", {})
        assert "\n" not in str(error.value)
        return str(error.value)

    yield why
    assert not (tmp_path / "refused").exists()


def test_a_folder_that_is_not_there_says_how_to_make_it(refused: Any, tmp_path: Path) -> None:
    assert f"`--with language-model --out {tmp_path / 'none'}`" in refused(tmp_path / "none")


def test_a_run_of_something_else_is_refused(refused: Any, text: Path, tmp_path: Path) -> None:
    assert "is no run of a language model" in refused(trained_on(text, tmp_path / "vae", "plain"))
    (tmp_path / "empty").mkdir()
    assert "holds no run of uncollapse" in refused(tmp_path / "empty")


def test_a_language_model_without_a_checkpoint_is_refused(refused: Any, of_words: Path, tmp_path: Path) -> None:
    begun = shutil.copytree(of_words, tmp_path / "begun", ignore=shutil.ignore_patterns(run.CHECKPOINTS))
    assert "has no checkpoint yet" in refused(begun)


def test_another_vocabulary_of_the_same_size_is_refused(refused: Any, of_words: Path, text: Path) -> None:
    words = text.read_text(encoding="utf-8")
    other = text.with_name("other.txt")
    other.write_text(words.replace("bird", "wolf"), encoding="utf-8")
    assert "another vocabulary" in refused(of_words, on=other)


@pytest.mark.parametrize(
    ("names", "overrides", "says"),
    [
        ("plain", ("model.decoder.hidden=9",), "its `start.weight` is 8 x 0, and the decoder's 9 x 2"),
        ("dilated-cnn-s", (), "it has `lstm.bias_hh_l0`, and the decoder has not"),
        ("word-dropout", (), "it has `embedding.weight`, and the decoder has not"),
    ],
)
def test_another_decoder_is_refused(
    refused: Any, of_words: Path, names: str, overrides: tuple[str, ...], says: str
) -> None:
    said = refused(of_words, *overrides, names=names)
    assert says in said
    assert said.endswith("Train one with the same `model.decoder` and `model.wrappers`.")


# Encoders.

#: Where a posterior keeps the network that reads a text.
READS = {
    "plain": "encoder.net.",
    "batch-normalised": "encoder.net.net.",
    "flow-posterior": "encoder.net.",
    "iterative": "encoder.encoder.net.",
    "dilated-cnn-s+word-dropout": "encoder.net.",  # The language model is not that of this decoder.
}


@pytest.mark.parametrize("names", READS)
def test_the_encoder_has_the_weights_but_for_its_last_layer(names: str, text: Path, of_words: Path) -> None:
    spec, weights = spec_of(text, names, f"model.encoder_start={of_words}"), decoder_of(best_weights(of_words))
    data: Any = build.data(spec)
    fresh, model = (build.model(spec, data.facts) for _ in range(2))

    assert start(spec, model, data)

    before, after = fresh.state_dict(), model.state_dict()
    moved = {name for name, value in after.items() if not value.equal(before[name])}
    read = {"embedding.weight", *(f"lstm.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))}
    assert moved == {READS[names] + name for name in read}
    assert all(after[READS[names] + name].equal(weights[name]) for name in read)


def test_the_encoder_reads_a_text_as_the_language_model_does(text: Path, of_words: Path) -> None:
    spec = spec_of(text, "plain", f"model.encoder_start={of_words}")
    data: Any = build.data(spec)
    model: Any = build.model(spec, data.facts).eval()
    start(spec, model, data)
    x, language_model = data.batches("test")[0], load(of_words).model

    states = []
    language_model.decoder.lstm.register_forward_hook(lambda net, given, out: states.append(out[0]))
    model.encoder.net.lstm.register_forward_hook(lambda net, given, out: states.append(out[0]))
    with torch.no_grad():
        language_model.decoder.dropout_in = 0.0
        language_model.decoder._read(torch.zeros(1, len(x.tokens), 0), x.tokens)
        model.encoder(x)

    theirs, ours = states
    torch.testing.assert_close(ours, theirs)


def test_both_may_start_from_one_and_each_is_a_part_of_what_the_run_is(text: Path, of_words: Path) -> None:
    digests = []
    for entries in (("start",), ("encoder_start",), ("start", "encoder_start")):
        spec = spec_of(text, "plain", *(f"model.{entry}={of_words}" for entry in entries))
        data: Any = build.data(spec)
        model = build.model(spec, data.facts)
        digests.append(start(spec, model, data))
        state, weights = model.state_dict(), decoder_of(best_weights(of_words))["lstm.bias_hh_l0"]
        assert state["generation.decoder.lstm.bias_hh_l0"].equal(weights) == ("start" in entries)
        assert state["encoder.net.lstm.bias_hh_l0"].equal(weights) == ("encoder_start" in entries)

    assert len({*digests, ""}) == 4
    merged: Any = spec_of(text, "decoder-from-language-model+encoder-from-language-model").model
    assert merged.start == merged.encoder_start


def test_an_encoder_that_starts_from_one_trains_and_is_judged_without_it(
    text: Path, of_words: Path, tmp_path: Path
) -> None:
    language_model = shutil.copytree(of_words, tmp_path / "lm")
    spec = spec_of(text, "encoder-from-language-model", f"model.encoder_start={language_model}")
    execute.train(spec, tmp_path / "run", {})
    execute.train(spec_of(text, "plain"), tmp_path / "fresh", {})
    shutil.rmtree(language_model)

    assert execute.judge(tmp_path / "run", samples=1).report["split"] == "test"
    one, other = (best_weights(tmp_path / name)["encoder.net.lstm.weight_hh_l0"] for name in ("run", "fresh"))
    assert not torch.allclose(one, other, atol=1e-3)


class Made(LSTMEncoder):
    """An encoder of one's own."""


def made(vocabulary: int, outputs: int) -> LSTMEncoder:
    return LSTMEncoder(vocabulary, 8, 8, outputs)


@pytest.mark.parametrize(
    ("names", "overrides", "says"),
    [
        ("plain", ("model.encoder.hidden=9",), "its `lstm.weight_ih_l0` is 32 x 8, and the encoder's 36 x 8"),
        ("plain", ("model.encoder.embedding=5",), "its `embedding.weight` is 13 x 8, and the encoder's 13 x 5"),
        ("max-pooling", (), "the encoder has `readers.0.weight_ih_l0`, and it has not"),
    ],
)
def test_another_encoder_is_refused(
    refused: Any, of_words: Path, names: str, overrides: tuple[str, ...], says: str
) -> None:
    said = refused(None, f"model.encoder_start={of_words}", *overrides, names=names)
    assert says in said
    assert said.endswith("with the encoder's `embedding` and `hidden`, without wrappers.")


def test_a_folder_that_is_not_there_names_the_encoders_entry(refused: Any, tmp_path: Path) -> None:
    said = refused(None, f"model.encoder_start={tmp_path / 'none'}")
    assert "to start the encoder from" in said
    assert "`--set model.encoder_start=RUN`" in said


def test_an_encoder_of_ones_own_may_start_from_one_where_it_is_a_class(
    refused: Any, text: Path, of_words: Path
) -> None:
    given = f"model.encoder_start={of_words}"
    own = 'model.encoder={kind: "test_start:Made", embedding: 8, hidden: 8}'
    spec = spec_of(text, "plain", own, given)
    data: Any = build.data(spec)
    assert start(spec, build.model(spec, data.facts), data)

    assert "is made by a function" in refused(None, given, 'model.encoder={kind: "test_start:made"}')


def test_a_language_model_leaves_out_what_its_encoder_would_start_from(text: Path, of_words: Path) -> None:
    assert not hasattr(spec_of(text, "language-model", f"model.encoder_start={of_words}").model, "encoder_start")


def test_a_damaged_vocabulary_is_refused(refused: Any, of_words: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(of_words, tmp_path / "copy")
    kept = copy / "vocabulary.json"
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "words": ["x"]}))
    assert "another vocabulary" in refused(copy)


def test_a_relative_path_is_kept_whole(text: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    model: Any = spec_of(text, "decoder-from-language-model").model
    assert model.start == str(tmp_path / "runs" / "language-model")
    model = spec_of(text, "encoder-from-language-model").model
    assert model.encoder_start == str(tmp_path / "runs" / "language-model")
