"""Images: from pictures in files to a trained model and back, and the digits of scikit-learn."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import uncollapse as uc
from test_vectors import ask, refused
from uncollapse.cli import main
from uncollapse.data import images, png
from uncollapse.data.images import Digits, Gallery, Images
from uncollapse.data.pictures import read_pictures
from uncollapse.data.showing import Pictures
from uncollapse.experiment import build, remarks
from uncollapse.experiment.compose import compose
from uncollapse.experiment.execute import judge, subset
from uncollapse.experiment.spec import Spec, validated
from uncollapse.experiment.trained import Trained
from uncollapse.metrics.estimate import Estimate, Unavailable
from uncollapse.metrics.evaluation import discrete_values, evaluate
from uncollapse.randomness import reseed

SMALL = {
    "model.encoder.channels": "[4]",
    "model.encoder.hidden": "[8]",
    "model.decoder.channels": "[4]",
    "model.decoder.hidden": "[8]",
    "model.latent": "2",
    "training.max_epochs": "2",
}
SET = [part for path, value in SMALL.items() for part in ("--set", f"{path}={value}")]
PICTURES = np.random.default_rng(0).integers(256, size=(90, 6, 5), dtype=np.uint8)
HERE = {"binarise": None, "seed": 0, "top": 255}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", PICTURES)
    return tmp_path / "x.npy"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on pictures that are binarised anew in every batch."""
    place = tmp_path_factory.mktemp("images")
    np.save(place / "x.npy", PICTURES)
    fit = ["fit", "images", "--train", str(place / "x.npy"), "--out", str(place / "run"), "--samples", "3", "--quiet"]
    assert main([*fit, *SET]) == 0
    return place / "run"


def load(file: Path, **more: Any) -> Gallery:
    return Images(train=str(file), **more).load()


def whole(data: Gallery, split: str) -> Tensor:
    """A split in the order of its items."""
    batches = data.batches(split)
    rows = torch.empty(len(data.splits[split]), *data.look.shape)
    for i in range(len(batches)):
        rows[batches.items[i]] = batches[i]
    return rows


def binary(x: Tensor) -> bool:
    return bool(((x == 0) | (x == 1)).all())


# Zeros and ones.


def test_training_pixels_are_drawn_anew_with_the_probability_of_their_intensity(file: Path) -> None:
    data = load(file)
    torch.manual_seed(0)
    drawn = torch.stack([whole(data, "train") for _ in range(400)])
    assert binary(drawn)
    p = torch.from_numpy(data.splits["train"] / 255)
    assert ((drawn.mean(0) - p).abs() <= 5 * (p * (1 - p) / 400).sqrt() + 1e-9).float().mean() > 0.999
    assert not torch.equal(drawn[0], drawn[1])


def test_a_training_batch_is_a_function_of_torchs_generator(file: Path) -> None:
    """A run seeds it at every step, so that a run that goes on sees the batches of one that was not stopped."""
    batches, found = load(file).batches("train"), []
    for step in (3, 4, 3):
        reseed(0, "step", step)
        found.append(batches[1])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("split", ["valid", "test"])
def test_pixels_for_validation_and_test_are_drawn_once(split: str, file: Path) -> None:
    first, again = whole(load(file), split), whole(load(file), split)
    assert binary(first)
    assert torch.equal(first, again)
    assert not torch.equal(first, whole(load(file, split_seed=1), split))


def test_what_is_measured_of_the_training_split_is_drawn_once(file: Path) -> None:
    data = load(file)
    some = subset(data.batches("train"), None)
    assert all(torch.equal(some[i], some[i]) for i in range(len(some)))
    assert not torch.equal(data.batches("train")[0], data.batches("train")[0])


def test_pixels_drawn_once_have_the_probability_of_their_intensity(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((2000, 4, 4), 51, np.uint8))
    data = load(tmp_path / "x.npy", binarise="fixed")
    share = torch.cat([whole(data, split) for split in ("train", "valid", "test")]).mean().item()
    assert share == pytest.approx(0.2, abs=5 * math.sqrt(0.16 / 32_000))


def test_what_is_drawn_once_is_a_function_of_the_seed() -> None:
    one, same, other = (Pictures((1, 6, 5), "fixed", seed).settled(PICTURES[:, None]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_fixed_pixels_are_the_same_in_every_epoch(file: Path) -> None:
    data = load(file, binarise="fixed")
    assert binary(whole(data, "train"))
    assert torch.equal(whole(data, "train"), whole(data, "train"))


def test_a_threshold_is_at_one_half(file: Path) -> None:
    data = load(file, binarise="threshold")
    torch.testing.assert_close(whole(data, "train"), torch.from_numpy(data.splits["train"] >= 128).float())


def test_levels_are_left_as_they_are(file: Path) -> None:
    data = load(file, binarise=None)
    torch.testing.assert_close(whole(data, "train") * 255, torch.from_numpy(data.splits["train"]).float())
    assert data.facts == {"shape": (1, 6, 5), "levels": 256}
    assert load(file).facts == {"shape": (1, 6, 5), "levels": 2}


def test_a_file_is_encoded_with_the_pixels_it_was_measured_with(file: Path) -> None:
    data = Images(train=str(file), valid=str(file), test=str(file)).load()
    read = data.look.source(data.look.read(file, {}), 90)
    assert torch.equal(read[0], whole(data, "test"))


# The splits.


def test_what_is_not_given_is_taken_from_the_training_pictures(file: Path) -> None:
    data = load(file)
    assert [len(data.splits[split]) for split in ("train", "valid", "test")] == [72, 9, 9]
    assert sorted(p.tobytes() for each in data.splits.values() for p in each) == sorted(p.tobytes() for p in PICTURES)


def test_bytes_and_real_numbers_may_be_of_one_set(file: Path) -> None:
    np.save(file.with_name("v.npy"), PICTURES[:9] / 255)
    data = load(file, valid=str(file.with_name("v.npy")), binarise="threshold")
    torch.testing.assert_close(whole(data, "valid"), torch.from_numpy(PICTURES[:9, None] >= 128).float())
    assert binary(whole(data, "train"))


@pytest.mark.parametrize("change", [{"binarise": "fixed"}, {"split_seed": 1}])
def test_the_fingerprint_is_of_what_is_trained_on(file: Path, change: dict) -> None:
    assert load(file, batch_size=5).fingerprint == load(file).fingerprint
    assert load(file, **change).fingerprint != load(file).fingerprint


def test_another_pixel_is_another_fingerprint(file: Path) -> None:
    before = load(file).fingerprint
    np.save(file, np.where(np.arange(30).reshape(6, 5) == 7, PICTURES ^ 1, PICTURES))
    assert load(file).fingerprint != before


def test_pictures_of_two_sizes_are_refused(file: Path) -> None:
    np.save(file.with_name("v.npy"), PICTURES[:, :5])
    with pytest.raises(uc.InputError, match=r"v.npy` has pictures of \(1, 5, 5\), and .*x.npy` of \(1, 6, 5\)"):
        load(file, valid=str(file.with_name("v.npy")))


def test_real_numbers_have_no_levels_to_be_left(file: Path) -> None:
    np.save(file, PICTURES / 255)
    with pytest.raises(uc.InputError, match=r"has real numbers, and no levels.*`data.binarise=dynamic`"):
        load(file, binarise=None)


def test_black_and_white_levels_are_remarked_on(file: Path) -> None:
    assert list(remarks.on_training(Spec(), load(file, binarise=None))) == []
    np.save(file, PICTURES > 128)
    assert "by data.binarise=fixed" in "".join(remarks.on_training(Spec(), load(file, binarise=None)))


def test_equal_pictures_are_counted_once_as_they_are_measured(file: Path) -> None:
    np.save(file, np.zeros((90, 6, 5), np.uint8))
    assert load(file).distinct("train", 5) == 1
    np.save(file, np.full((90, 6, 5), 128, np.uint8))
    assert load(file).distinct("train", 5) == 5


# What reads and writes for a person.


@pytest.mark.parametrize(
    "about", [{}, None, {**HERE, "shape": [1, 2]}, {**HERE, "shape": [1, 0, 2]}, {**HERE, "top": 1}]
)
def test_what_says_no_pictures_is_refused(about: Any) -> None:
    with pytest.raises(uc.InputError, match="does not say what the pictures are"):
        Pictures.restored(about)


@pytest.mark.parametrize("how", ["dynamic", None])
def test_what_a_run_keeps_says_what_its_pictures_are(file: Path, how: Any) -> None:
    data = load(file, binarise=how, split_seed=3)
    assert Images.restore(json.loads(json.dumps(data.about()))) == data.look


def test_an_item_is_a_file_a_place_in_one_or_a_line(file: Path) -> None:
    look = load(file).look
    np.testing.assert_array_equal(look.item(str(file))[0], PICTURES[0])
    np.testing.assert_array_equal(look.item(f"{file}:7")[0], PICTURES[7])
    (line,) = look.lines(look.intensities(PICTURES[3:4, None]))
    np.testing.assert_allclose(look.item(line)[0] * 255, PICTURES[3], rtol=1e-6)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("7", "`7` is a number, and no picture goes by one alone: give FILE:7"),
        ("{file}:90", "is not there: there are 90 pictures, counted from 0"),
        ("{file}.no", "no pictures|No such file"),
        ("", "an empty name is of no picture: give an image file"),
        ("data:image/png;base64,AAAA", "is no data URI as `generate` writes it: give a file"),
        (png.in_a_line(np.zeros((2, 2, 1), np.uint8)), "the picture of a data URI has pictures of 2 x 2 in 1 channel"),
    ],
)
def test_what_is_no_item_is_refused(said: str, says: str, file: Path, tmp_path: Path) -> None:
    with pytest.raises(uc.InputError, match=says):
        load(file).look.item(said.format(file=file))


@pytest.mark.parametrize("pictures", [PICTURES[:, :5], np.zeros((3, 3, 6, 5)), np.zeros((4, 7))])
def test_pictures_of_another_size_are_not_encoded(pictures: np.ndarray) -> None:
    with pytest.raises(uc.InputError, match=r"an array of shape \("):
        Pictures((1, 6, 5), None).source(pictures, 8)


def test_means_are_written_as_bytes() -> None:
    look = Pictures((1, 1, 3), None)
    assert look.pixels(torch.tensor([[[[-0.1, 0.5, 1.2]]]])).tolist() == [[[[0], [128], [255]]]]


# The digits.


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> Callable[[], np.ndarray]:
    """Those of scikit-learn, or as many drawn at random where it is not installed."""
    try:
        images.digits()
    except uc.InputError:
        made = np.random.default_rng(0).integers(17, size=(1797, 1, 8, 8), dtype=np.uint8)
        monkeypatch.setattr(images, "digits", lambda: made)
    return images.digits


def test_the_digits_are_those_of_scikit_learn() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    found = images.digits()
    assert (found.shape, found.dtype, found.min(), found.max()) == ((1797, 1, 8, 8), np.uint8, 0, 16)
    assert found[0, 0, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]


def test_without_scikit_learn_the_digits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(images, "import_module", missing)
    with pytest.raises(uc.InputError, match=r"not installed: `pip install 'uncollapse\[digits\]'`"):
        images.digits()


def test_the_digits_have_17_levels_and_go_by_their_number(digits: Callable[[], np.ndarray]) -> None:
    data = Digits(binarise=None).load()
    assert [len(each) for each in data.splits.values()] == [1439, 179, 179]
    assert data.facts == {"shape": (1, 8, 8), "levels": 17}
    assert whole(data, "train").unique().tolist() == [k / 16 for k in range(17)]
    np.testing.assert_array_equal(data.look.item("5"), digits()[5])
    assert Digits.restore(json.loads(json.dumps(data.about()))).item("7").shape == (1, 8, 8)


@pytest.mark.parametrize("scale", [1.0, 1 / 16])
def test_digits_are_encoded_on_their_own_scale(scale: float, digits: Callable[[], np.ndarray]) -> None:
    data = Digits(binarise=None).load()
    read = data.look.source(digits()[:20] * scale, 20)
    torch.testing.assert_close(read[0], torch.from_numpy(digits()[:20] / 16).float())


def test_a_picture_file_is_read_for_digits_on_its_own_scale(tmp_path: Path, digits: Callable[[], np.ndarray]) -> None:
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    (tmp_path / "x.png").write_bytes(png.encoded(np.full((8, 8, 1), 204, np.uint8)))
    look = Digits(binarise=None).load().look
    assert look.source(look.read(tmp_path / "x.png", {}), 1)[0].unique().item() == pytest.approx(13 / 16)


# Bits per dimension.


def test_the_bits_of_a_uniform_law_are_those_of_its_levels(file: Path) -> None:
    """A categorical decoder that knows nothing and no z: 8 bits a pixel, exactly."""
    said = ["data.train=x.npy", "data.binarise=null", "model.decoder.likelihood=categorical", "model.latent=2"]
    data = load(file, binarise=None)
    model: Any = build.model(validated(compose("images", [], said)), data.facts)
    for parameter in model.parameters():
        parameter.data.zero_()
    values = discrete_values(model, data.batches("test")[0])
    assert values == 30
    for samples in (0, 5):
        found = evaluate(model, data.batches("test"), samples, dimensions=values).bits_per_dim
        assert isinstance(found, Estimate)
        assert found.value == pytest.approx(8.0, abs=1e-5)
        assert found.se == pytest.approx(0.0, abs=1e-6)
        assert found.unit == f"bits/dim, from {'the NLL' if samples else '-ELBO'}"


def test_the_bits_of_a_run_are_its_nats_by_pixel(trained: Path) -> None:
    figures = judge(trained, samples=4).figures
    assert isinstance(figures.bits_per_dim, Estimate)
    assert isinstance(figures.nll, Estimate)
    scale = 30 * math.log(2)
    assert figures.bits_per_dim.value == pytest.approx(figures.nll.value / scale)
    assert figures.bits_per_dim.se == pytest.approx(figures.nll.se / scale)


def test_a_density_has_no_bits_per_dimension(file: Path) -> None:
    data = load(file, binarise=None)
    model = build.model(validated(compose("images", ["sigma-vae"], ["data.train=x.npy"])), data.facts)
    assert discrete_values(model, data.batches("test")[0]) is None
    assert isinstance(evaluate(model, data.batches("test"), 2).bits_per_dim, Unavailable)


def test_a_plain_function_has_no_known_law() -> None:
    assert discrete_values(lambda x, q=None, samples=1: None, torch.zeros(3, 2)) is None


# The command line.


def test_a_model_of_images_is_used_like_one_of_text(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", PICTURES[:7])
    ask(capsys, "encode", trained, tmp_path / "x.npy", "-o", tmp_path / "z.npy")
    torch.testing.assert_close(torch.from_numpy(np.load(tmp_path / "z.npy")), uc.load(trained).encode(PICTURES[:7]))

    lines = ask(capsys, "generate", trained, "-n", 3).splitlines()
    assert [png.from_a_line(line).shape for line in lines] == [(6, 5, 1)] * 3
    assert np.array(json.loads(ask(capsys, "generate", trained, "-n", 3, "--json"))["images"]).shape == (3, 1, 6, 5)
    said = ask(capsys, "interpolate", trained, f"{tmp_path}/x.npy:1", lines[0], "--steps", 4, "--json")
    assert np.array(json.loads(said)["images"]).shape == (4, 1, 6, 5)
    assert "bits/dim, from the NLL" in ask(capsys, "evaluate", trained, "--samples", 2, "--split", "valid")
    assert "verdict" in ask(capsys, "diagnose", trained, "--json")


@pytest.mark.parametrize(
    ("command", "rows", "columns"),
    [
        ("generate {run} -n 10", 3, 4),
        ("reconstruct {run} {file}", 2, 4),
        ("interpolate {run} {file}:0 {file}:1 --steps 4", 1, 4),
        ("traverse {run} --steps 3", 2, 3),
        ("traverse {run} {file}:2 --unit 1 --steps 3", 1, 3),
    ],
)
def test_pictures_are_drawn_in_a_grid(
    command: str, rows: int, columns: int, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", PICTURES[:4])
    said = [part.format(run=trained, file=tmp_path / "x.npy") for part in command.split()]
    assert " images\n" in ask(capsys, *said, "-o", tmp_path / "grid.png")
    sheet = png.decoded((tmp_path / "grid.png").read_bytes())
    zoom = 7  # The least that makes 5 pixels 32.
    assert sheet.shape == (rows * (6 * zoom + 1) + 1, columns * (5 * zoom + 1) + 1, 1)
    ask(capsys, *said, "-o", tmp_path / "grid.png")


def test_reconstructions_are_drawn_beside_what_they_are_of(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", PICTURES[:1])
    ask(capsys, "reconstruct", trained, tmp_path / "x.npy", "-o", tmp_path / "grid.png")
    sheet = png.decoded((tmp_path / "grid.png").read_bytes())[..., 0]
    read = uc.load(trained).interface.source(PICTURES[:1], 1)[0]
    np.testing.assert_array_equal(sheet[1:43:7, 1:36:7] / 255, read[0, 0])


def test_a_picture_that_is_no_place_for_one_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.png").write_text("keep me")
    assert "holds no PNG picture" in refused(capsys, "generate", trained, "-o", tmp_path / "notes.png")
    assert (tmp_path / "notes.png").read_text() == "keep me"
    assert "give a name that ends in .png" in refused(capsys, "generate", trained, "-o", tmp_path / "grid.jpg")
    assert "leave one of them out" in refused(capsys, "generate", trained, "-o", tmp_path / "grid.png", "--json")
    assert "there is no folder" in refused(capsys, "generate", trained, "-o", tmp_path / "no" / "grid.png")


def test_images_are_compared_and_reported(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--seeds", 1, "--remedies", "plain", "--samples", 2, "--out", tmp_path / "out", *SET]
    assert "\nplain" in ask(capsys, "compare", "images", "--train", file, *more)
    ask(capsys, "report", tmp_path / "out", "--format", "md", "--out", tmp_path / "report.md")
    assert "![image](data:image/png;base64," in (tmp_path / "report.md").read_text()
    pytest.importorskip("plotly", reason="Plotly is not installed")
    ask(capsys, "report", tmp_path / "out", "--out", tmp_path / "report.html")
    assert '<img class="picture" src="data:image/png;base64,' in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("likelihood", ["logistic", "categorical"])
def test_all_levels_are_trained_on(
    likelihood: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--set", "data.binarise=null", "--set", f"model.decoder.likelihood={likelihood}", "--samples", 2, *SET]
    said = ask(capsys, "fit", "images", "--train", file, "--out", tmp_path / "run", "--quiet", *more)
    assert "bits/dim" in said
    drawn = np.array(json.loads(ask(capsys, "generate", tmp_path / "run", "-n", 5, "--json"))["images"]) * 255
    assert np.abs(drawn - drawn.round()).max() < 1e-3
    assert len(np.unique(drawn.round())) > 20


def test_all_levels_under_a_bernoulli_likelihood_are_refused(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "fit", "images", "--train", file, "--out", tmp_path / "run", "--set", "data.binarise=null")
    assert "this data has 256 levels" in said


def test_the_digits_are_trained_on(
    digits: Callable[[], np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--set", "training.max_epochs=1", "--samples", 2, "--quiet", "--with", "free-bits"]
    assert "bits/dim" in ask(capsys, "fit", "digits", "--out", tmp_path / "run", *small)
    assert len(ask(capsys, "interpolate", tmp_path / "run", 0, 1).splitlines()) == 5


# Along the axes of z.


def test_a_traversal_moves_one_unit_at_a_time(trained: Path) -> None:
    model = uc.load(trained)
    start = model.encode(PICTURES[:1])[0]
    found = model.traverse(PICTURES[:1], steps=3, span=2.0)
    z = start.repeat(6, 1)
    z[[0, 1, 2], 0], z[[3, 4, 5], 1] = torch.tensor([-2.0, 0, 2]), torch.tensor([-2.0, 0, 2])
    with torch.no_grad():
        exact = model.model.decoder.eval()(z.unsqueeze(0)).mean[0]  # pyright: ignore
    torch.testing.assert_close(found, exact)


def test_a_traversal_without_an_item_is_around_the_priors_mean(trained: Path) -> None:
    model = uc.load(trained)
    found = model.traverse(units=[1, 0], steps=3)
    with torch.no_grad():
        exact = model.model.decoder.eval()(torch.zeros(1, 1, 2)).mean[0, 0]  # pyright: ignore
    torch.testing.assert_close(found[1], exact)
    torch.testing.assert_close(found[4], exact)
    torch.testing.assert_close(found[:3], model.traverse(units=[1], steps=3))


@pytest.mark.parametrize(
    ("asked", "says"),
    [({"units": [2]}, "there is no unit 2: z has 2, counted from 0"), ({"steps": 1}, "ask for at least 2")],
)
def test_units_that_there_are_not_are_refused(asked: dict, says: str, trained: Path) -> None:
    with pytest.raises(uc.InputError, match=says):
        uc.load(trained).traverse(**asked)


def test_a_sphere_has_no_axes(file: Path, tmp_path: Path) -> None:
    said = [f"data.train={file}", "model.latent=3"]
    data, spec = load(file), validated(compose("images", ["von-mises-fisher"], said))
    with pytest.raises(uc.InputError, match="z is of unit vectors, whose units cannot move one by one"):
        Trained(build.model(spec, data.facts), data.look).traverse()


# Real data, where it is there.


def test_all_of_omniglot_is_read(shared_data: Path) -> None:
    found = read_pictures(f"{shared_data}/omniglot/omniglot_28x28.npz:images")
    assert (found.shape, found.dtype) == ((32460, 1, 28, 28), np.uint8)
