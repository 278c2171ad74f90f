"""Labels: how data comes with them, what they are to a model, and what is measured of them."""

from __future__ import annotations

import gzip
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

import uncollapse as uc
from test_trainer import Killed, kill_at
from uncollapse.bound import Given, Labelled, ToTell
from uncollapse.cli import main
from uncollapse.data.images import Digits, Gallery, Images
from uncollapse.data.labels import numbered, partly_by_class, read_labels
from uncollapse.errors import InputError
from uncollapse.experiment import build
from uncollapse.experiment.compose import compose
from uncollapse.experiment.execute import train
from uncollapse.experiment.spec import validated
from uncollapse.metrics.labels import accuracy, label_by_z, told_bits
from uncollapse.model import ask
from uncollapse.nets.labels import Classes, Classifier, Reader, Told

PICTURES = np.random.default_rng(0).integers(256, size=(40, 6, 5)).astype(np.uint8)
KINDS = np.arange(40) % 4


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.savez(tmp_path / "x.npz", pictures=PICTURES, kinds=KINDS)
    return tmp_path / "x.npz"


def load(file: Path, **more: Any) -> Gallery:
    return Images(train=f"{file}:pictures", **{"labels": f"{file}:kinds", **more}).load()


# What is read.


def idx(labels: list[int]) -> bytes:
    return b"\x00\x00\x08\x01" + struct.pack(">I", len(labels)) + bytes(labels)


def test_labels_are_read_of_arrays_and_idx_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros(3), b=np.array([2, 0, 1]))
    np.save(tmp_path / "x.npy", np.array(["cat", "dog"]))
    (tmp_path / "labels").write_bytes(idx([7, 2]))
    (tmp_path / "labels.gz").write_bytes(gzip.compress(idx([7, 2])))

    (tmp_path / "x.csv").write_text("cat\n dog \n", encoding="utf-8")

    assert read_labels(tmp_path / "x.csv").tolist() == ["cat", "dog"]
    assert read_labels(f"{tmp_path / 'x.npz'}:b").tolist() == ["2", "0", "1"]
    assert read_labels(tmp_path / "x.npy").tolist() == ["cat", "dog"]
    assert read_labels(tmp_path / "labels").tolist() == read_labels(tmp_path / "labels.gz").tolist() == ["7", "2"]


def test_the_label_of_a_picture_in_a_folder_is_the_folders_name(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for k, name in enumerate(["b/one", "a/two", "a/three"]):
        path = tmp_path / "p" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(PICTURES[k]).save(path)
    np.save(tmp_path / "v.npy", PICTURES[:2])
    np.save(tmp_path / "l.npy", np.array(["a", "b"]))

    assert read_labels(tmp_path / "p").tolist() == ["a", "a", "b"]
    rest = {
        f"{s}{suffix}": str(tmp_path / f)
        for s in ("valid", "test")
        for suffix, f in (("", "v.npy"), ("_labels", "l.npy"))
    }
    data = Images(train=str(tmp_path / "p"), labels=str(tmp_path / "p"), binarise=None, **rest).load()  # pyright: ignore
    assert data.labels is not None
    assert data.labels["train"].tolist() == [0, 0, 1]
    assert np.array_equal(data.splits["train"][2, 0], PICTURES[0])


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.zeros((3, 2)), r"has the shape \(3, 2\), and labels have \(N,\)"),
        (np.array([0.5, 1.0]), "holds the type `float64`, and labels are whole numbers or texts"),
        (np.zeros(0), r"has the shape \(0,\)"),
    ],
)
def test_what_holds_no_labels_is_refused(labels: np.ndarray, says: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", labels)
    with pytest.raises(InputError, match=says):
        read_labels(tmp_path / "x.npy")
    (tmp_path / "x.dat").write_bytes(b"the cat\n")
    with pytest.raises(InputError, match="holds no labels that its name or beginning tells how to read"):
        read_labels(tmp_path / "x.dat")
    (tmp_path / "x.txt").write_bytes(b"cat\n\ndog\n")
    with pytest.raises(InputError, match="line 2, is empty: give a label a line"):
        read_labels(tmp_path / "x.txt")
    (tmp_path / "x.csv").write_bytes(b"caf\xe9\n")
    with pytest.raises(InputError, match=r"x.csv` is not UTF-8: .* at byte 3"):
        read_labels(tmp_path / "x.csv")


def test_classes_are_numbered_in_their_own_order_over_all_files() -> None:
    assert numbered([np.array(["10", "9"]), np.array(["b", "9"])]) == (
        ("9", "10", "b"),
        [pytest.approx([1, 0]), pytest.approx([2, 0])],
    )
    with pytest.raises(InputError, match="all labels are `9`"):
        numbered([np.array(["9"])])


# What data does with them.


def test_a_batch_has_the_label_of_each_of_its_pictures(file: Path) -> None:
    data = load(file, binarise=None)
    assert data.facts == {"shape": (1, 6, 5), "levels": 256, "label_classes": 4}
    for split in ("train", "valid", "test"):
        x = data.batches(split)[0]
        assert isinstance(x, Labelled)
        places = [int(np.flatnonzero((PICTURES == one).all((1, 2)))[0]) for one in (x.x * 255).round().numpy()[:, 0]]
        assert x.label.tolist() == KINDS[places].tolist()


def test_without_labels_nothing_changes(file: Path) -> None:
    plain = load(file, labels=None)
    assert isinstance(plain.batches("train")[0], Tensor)
    assert "classes" not in plain.about()
    assert "label_classes" not in plain.facts
    assert torch.equal(plain.batches("valid")[0], load(file).batches("valid")[0].x)


def test_another_label_is_another_fingerprint(file: Path, tmp_path: Path) -> None:
    other = KINDS.copy()
    other[:2] = other[:2][::-1]
    np.save(tmp_path / "other.npy", other)
    prints = {load(file, labels=labels).fingerprint for labels in (None, f"{file}:kinds", str(tmp_path / "other.npy"))}
    assert len(prints) == 3


def test_every_file_of_pictures_has_its_labels(file: Path, tmp_path: Path) -> None:
    pictures = f"{file}:pictures"
    with pytest.raises(InputError, match=r"`data.valid_labels` is missing, and there are pictures that it is of"):
        load(file, valid=pictures)
    with pytest.raises(InputError, match=r"`data.test_labels` is given, and there are no pictures that it is of"):
        load(file, test_labels=f"{file}:kinds")
    np.save(tmp_path / "few.npy", KINDS[:3])
    with pytest.raises(InputError, match=r"few.npy` has 3 labels, and there are 40 pictures"):
        load(file, labels=str(tmp_path / "few.npy"))


def test_a_share_of_the_batches_holds_one_class_each(file: Path) -> None:
    labels = torch.from_numpy(np.arange(1000) % 4)
    groups = partly_by_class(labels, 10, 0.7)
    alike = [len(group) for group in groups if len(labels[group].unique()) == 1]
    assert sum(alike) == pytest.approx(700, abs=20)
    assert torch.equal(torch.cat(list(groups)).sort().values, torch.arange(1000))
    data = load(file, within_classes=1.0, batch_size=4)
    assert all(len(data.batches("train")[i].label.unique()) == 1 for i in range(len(data.batches("train"))))
    with pytest.raises(InputError, match=r"`data.within_classes` is a share of items with labels, and there are none"):
        load(file, labels=None, within_classes=1.0)


def test_the_digits_know_which_they_are() -> None:
    pytest.importorskip("sklearn")
    data = Digits(labels=True, binarise=None).load()
    assert data.facts["label_classes"] == 10
    x = data.batches("test")[0]
    one = x.x[x.label == 1].mean(0)[0]
    zero = x.x[x.label == 0].mean(0)[0]
    assert one[3:5, 3:5].mean() > 0.6 > 0.2 > zero[3:5, 3:5].mean()  # A zero is hollow.


# What they are to a model.


class Sees(nn.Module):
    """A network that keeps what it is shown."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.weight, self.outputs = nn.Parameter(torch.zeros(())), outputs

    def forward(self, x: Any) -> Tensor:
        self.seen = x
        items = x if isinstance(x, Tensor) else x.x
        return self.weight + torch.zeros(len(items), self.outputs)


class Writes(nn.Module):
    def forward(self, z: Tensor, seen: Any) -> Independent:
        self.seen = seen
        return Independent(Normal(z.sum(-1, keepdim=True).expand(*z.shape[:2], 3), 1.0), 1)


X = Labelled(torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0]))


@pytest.mark.parametrize(("labels", "kind"), [("kept", Tensor), ("given", Given)])
def test_a_model_says_whether_it_is_shown_labels(labels: Any, kind: type) -> None:
    net, decoder = Sees(4), Writes()
    bound = ask(uc.VAE(uc.Posterior(net, uc.gaussian, (2, 2)), decoder, uc.StandardNormal(2), labels=labels), X)

    assert isinstance(net.seen, kind)
    assert isinstance(decoder.seen, kind)
    assert torch.equal(bound.extras["label"], X.label)
    assert bound.x is X


def test_a_model_that_tells_labels_scores_them() -> None:
    decoder = Classifier(3, 2)
    model = uc.VAE(uc.Posterior(Reader(Sees(4)), uc.gaussian, (2, 2)), decoder, uc.StandardNormal(2), labels="target")
    bound = ask(model, X, samples=4)

    expected = decoder.layers(bound.z).log_softmax(-1).gather(-1, X.label.expand(4, 5).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(bound.log_likelihood, expected)
    torch.testing.assert_close(bound.extras["classes"], decoder.layers(bound.z).softmax(-1).mean(0))
    assert isinstance(ToTell(*X).seen, Tensor)


def test_a_prior_may_be_told_too() -> None:
    class Prior(nn.Module):
        def forward(self, given: Tensor) -> Independent:
            return Independent(Normal(given.unsqueeze(1).expand(-1, 2).float(), 1.0), 1)

    model = uc.VAE(uc.Posterior(Sees(4), uc.gaussian, (2, 2)), Writes(), Prior(), labels="given")
    # KL(N(0, 1) || N(y, 1)) is y^2 / 2 a unit.
    torch.testing.assert_close(ask(model, X).kl, (X.label.unsqueeze(1) ** 2 / 2).expand(-1, 2))


def test_an_encoder_is_told_by_a_channel_for_each_class() -> None:
    images = torch.randn(2, 1, 3, 3)
    net = Sees(1)
    Reader(net, 3)(Given(images, torch.tensor([2, 0])))
    assert torch.equal(net.seen[:, :1], images)
    assert net.seen[:, 1:, 1, 2].tolist() == [[0, 0, 1], [1, 0, 0]]
    Reader(net, 3)(images)
    torch.testing.assert_close(net.seen[:, 1:], torch.full((2, 3, 3, 3), 1 / 3))
    Reader(net, 3)(Given(torch.randn(2, 4), torch.tensor([2, 0])))
    assert net.seen[:, 4:].tolist() == [[0, 0, 1], [1, 0, 0]]
    Reader(net)(Given(images, torch.tensor([2, 0])))
    assert net.seen is images


def test_a_decoder_is_told_beside_z() -> None:
    z, told = torch.randn(2, 5, 2), Told(Writes(), 3)
    law: Any = told(z, Given(*X))
    torch.testing.assert_close(law.mean[..., 0], z.sum(-1) + 1)  # One of the further units is 1.
    assert torch.equal(told._with_class(z, X.label)[1, :, 2:].argmax(-1), X.label)
    drawn = told._with_class(torch.zeros(1, 3000, 2), None)[0, :, 2:]
    torch.testing.assert_close(drawn.mean(0), torch.full((3,), 1 / 3), atol=0.04, rtol=0)
    assert torch.equal(drawn.sum(-1), torch.ones(3000))


# What is measured.


def test_a_uniform_predictor_of_ten_classes_tells_nothing() -> None:
    labels = torch.arange(1000) % 10
    law = Classes(torch.zeros(1, 1000, 10))
    cross_entropy = -law.log_prob(labels)[0]
    assert cross_entropy.mean().item() == pytest.approx(2.302585, abs=1e-6)
    assert told_bits(cross_entropy, labels).value == pytest.approx(0.0, abs=1e-6)
    assert told_bits(torch.zeros(1000), labels).value == pytest.approx(math.log2(10))


def test_accuracy_is_of_the_mean_of_the_probabilities() -> None:
    # Two draws, of which the surer one is right.
    drawn = torch.tensor([[[0.9, 0.1]], [[0.4, 0.6]]])
    law = Classes(drawn.log())
    assert accuracy(law.extras(None)["classes"], torch.tensor([0])).value == 1.0
    assert accuracy(torch.eye(4), torch.tensor([0, 1, 2, 2])).value == 0.75


def law(means: list[float], scale: float) -> Independent:
    loc = torch.tensor(means).unsqueeze(1)
    return Independent(Normal(loc, torch.full_like(loc, scale)), 1)


def test_the_class_by_z_is_that_of_other_items_with_such_a_z() -> None:
    means = [0.0, 0.1, 5.0, 5.1, 9.0]
    assert label_by_z(law(means, 0.01), torch.tensor([0, 0, 1, 1, 1])).value == 1.0
    assert label_by_z(law(means, 0.01), torch.tensor([0, 1, 0, 1, 1])).value == 0.2


def test_where_z_says_nothing_the_class_by_it_is_right_by_chance() -> None:
    labels = torch.arange(3000) % 3
    # Means that do tell the class, and noise that drowns them.
    drowned = label_by_z(law((labels * 1e-3).tolist(), 1.0), labels)
    assert drowned.value == pytest.approx(1 / 3, abs=0.05)
    assert label_by_z(law((labels * 1e-3).tolist(), 1e-5), labels).value == 1.0


def test_the_class_by_z_of_two_gaussians_is_that_of_bayes() -> None:
    # Two classes at -1 and 1, noise of deviation 1: right with the probability Phi(1).
    labels = torch.arange(4000) % 2
    found = label_by_z(law((2.0 * labels - 1).tolist(), 1.0), labels)
    assert found.value == pytest.approx(0.8413447, abs=4 * found.se)


# Whole runs.

TELLS = ["model.tells=encoder-and-decoder"]
CLASSIFIER = ["model.decoder={kind: classifier}"]


def run(file: Path, out: Path, settings: list[str], epochs: int = 2) -> list[str]:
    said = ["fit", "images", "--train", f"{file}:pictures", "--out", str(out), "--samples", "4"]
    entries = [
        f"data.labels={file}:kinds",
        "model.encoder.hidden=[8]",
        "model.latent=3",
        f"training.max_epochs={epochs}",
    ]
    return [*said, *(part for entry in [*entries, *settings] for part in ("--set", entry))]


@pytest.mark.parametrize("settings", [[], TELLS, CLASSIFIER], ids=["kept", "told", "target"])
def test_a_run_with_labels_is_evaluated_encoded_diagnosed_and_reported(
    settings: list[str], file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    assert main(run(file, tmp_path / "run", settings)) == 0
    assert "label_by_z" in capsys.readouterr().out
    assert main(["evaluate", out, "--samples", "4", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert ("accuracy" in said["of_labels"]) == (settings == CLASSIFIER)
    assert ("value" in said["nll"]) == (settings != CLASSIFIER)
    assert ("value" in said["effective_samples"]) == (settings != CLASSIFIER)
    assert any("is told the items' labels" in text for text in said["warnings"]) == (settings == TELLS)
    assert said["of_labels"]["label_by_z"]["n"] == 4
    assert main(["encode", out, f"{file}:pictures", "-o", str(tmp_path / "z.npy")]) == 0
    assert np.load(tmp_path / "z.npy").shape == (40, 3)
    capsys.readouterr()
    assert main(["diagnose", out, "--json"]) == 0
    found = [finding["name"] for finding in json.loads(capsys.readouterr().out)["findings"]]
    assert ("amortisation" in found) == (settings != CLASSIFIER)
    assert main(["report", out, "-o", str(tmp_path / "report.html")]) == 0
    capsys.readouterr()
    assert main(["generate", out, "-n", "3"]) == (2 if settings == CLASSIFIER else 0)
    assert ("this model tells the classes of items" in capsys.readouterr().err) == (settings == CLASSIFIER)


def test_a_model_that_is_told_writes_what_it_is_told(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On pictures that are black or white by their class alone, which z need not say."""
    white = np.where((KINDS % 2 == 0)[:, None, None], 255, 0) * np.ones((40, 6, 5))
    np.savez(file, pictures=white.astype(np.uint8), kinds=KINDS % 2)
    out = str(tmp_path / "run")
    fast = ["model.tells=encoder-and-decoder", "training.optimisers.generation={kind: adam, learning_rate: 0.03}"]
    assert main(run(file, tmp_path / "run", fast, epochs=40)) == 0
    capsys.readouterr()

    for label, level in (("0", 1.0), ("1", 0.0)):
        assert main(["generate", out, "-n", "5", "--decode", "mean", "--label", label, "--json"]) == 0
        found = np.array(json.loads(capsys.readouterr().out)["images"])
        assert abs(found.mean() - level) < 0.2
        assert main(["reconstruct", out, f"{file}:pictures", "--label", label, "--json"]) == 0
        assert abs(np.array(json.loads(capsys.readouterr().out)["images"]).mean() - level) < 0.2
    coded = [uc.load(out).given(label).encode(PICTURES) for label in "01"]
    assert not torch.equal(*coded)
    assert main(["generate", out, "--label", "7"]) == 2
    assert "unknown class `7`" in capsys.readouterr().err


def test_remedies_of_labels_are_compared_on_digits_with_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    asked = ["compare", "digits", "--remedies", "plain,vfae", "--samples", "2", "--seeds", "1"]
    asked += ["--set", "training.max_epochs=1"]
    assert main([*asked, "--out", str(tmp_path / "none")]) == 2
    assert "the data has no labels to tell: set `data.labels`" in capsys.readouterr().err
    assert main([*asked, "--set", "data.labels=true", "--out", str(tmp_path / "all")]) == 0
    assert "\nvfae" in capsys.readouterr().out


def test_a_model_that_is_not_told_cannot_be_asked(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(run(file, tmp_path / "run", [])) == 0
    assert main(["generate", str(tmp_path / "run"), "--label", "1"]) == 2
    assert "this model is told no class" in capsys.readouterr().err


def test_a_run_with_labels_goes_on_as_if_it_had_not_been_stopped(file: Path, tmp_path: Path) -> None:
    entries = [f"data.train={file}:pictures", f"data.labels={file}:kinds", "data.batch_size=8", "training.max_epochs=2"]
    spec = validated(compose("images", [], [*entries, "model.encoder.hidden=[8]", "model.latent=3", *TELLS]))
    train(spec, tmp_path / "whole", {})
    with pytest.raises(Killed):
        train(spec, tmp_path / "parts", {}, listeners=[kill_at(3)], checkpoint_seconds=0.0)
    train(spec, tmp_path / "parts", {})

    whole, parts = (uc.load(tmp_path / out).model.state_dict() for out in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_best_weights_of_a_model_that_tells_labels_have_the_lowest_cross_entropy(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    settings = [*CLASSIFIER, "data.labels=true", "training.objective.weights.rate=0.001", "training.max_epochs=4"]
    train(validated(compose("digits", [], settings)), tmp_path, {})
    log = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    epochs = [one for one in log if one["kind"] == "epoch"]
    best = min(epochs, key=lambda one: one["distortion"]["value"])
    assert best is not min(epochs, key=lambda one: one["neg_elbo"]["value"])
    kept = sorted((tmp_path / "checkpoints").glob("best*"))
    assert str(best["step"]) in kept[-1].name


def test_telling_labels_that_there_are_not_is_refused(file: Path, tmp_path: Path) -> None:
    spec = validated(compose("images", [], [f"data.train={file}:pictures", *TELLS]))
    with pytest.raises(InputError, match=r"`model.tells` is encoder-and-decoder, and the data has no labels"):
        build.model(spec, {"shape": (1, 6, 5), "levels": 2})
    spec = validated(compose("images", [], [f"data.train={file}:pictures", *CLASSIFIER]))
    with pytest.raises(InputError, match=r"`classifier` needs the number of classes that the labels of the data"):
        build.model(spec, {"shape": (1, 6, 5), "levels": 2})
