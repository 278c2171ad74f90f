"""Vectors: from a table in a file to a trained model and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import uncollapse as uc
from uncollapse.cli import main
from uncollapse.data.kinds import How
from uncollapse.data.vectors import Columns, Table, Vectors
from uncollapse.experiment import remarks
from uncollapse.experiment.spec import Spec

SMALL = {"model.encoder.hidden": "[8]", "model.decoder.hidden": "[8]", "model.latent": "2", "training.max_epochs": "2"}
SET = [part for path, value in SMALL.items() for part in ("--set", f"{path}={value}")]
ROWS = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32) * [1, 2, 3, 4] + [0, 0, 50, -50]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", ROWS)
    return tmp_path / "x.npy"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on standardised rows."""
    place = tmp_path_factory.mktemp("vectors")
    np.save(place / "x.npy", ROWS)
    fit = ["fit", "vectors", "--train", str(place / "x.npy"), "--out", str(place / "run"), "--samples", "3", "--quiet"]
    assert main([*fit, "--set", "data.standardise=true", *SET]) == 0
    return place / "run"


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def whole(data: Table, split: str) -> np.ndarray:
    """A split in the order of its items."""
    batches, rows = data.batches(split), np.empty_like(data.splits[split])
    for i in range(len(batches)):
        rows[batches.items[i].numpy()] = batches[i].numpy()
    return rows


# The data.


def test_what_is_not_given_is_taken_from_the_training_rows(table: Path) -> None:
    data = Vectors(train=str(table)).load()
    parts = [whole(data, split) for split in ("train", "valid", "test")]
    assert [len(part) for part in parts] == [72, 9, 9]
    assert sorted(map(tuple, np.concatenate(parts))) == sorted(map(tuple, ROWS.astype(np.float32)))


def test_files_for_every_split_are_left_whole(table: Path) -> None:
    data = Vectors(train=str(table), valid=str(table), test=str(table)).load()
    np.testing.assert_array_equal(whole(data, "test"), ROWS.astype(np.float32))
    np.testing.assert_array_equal(whole(data, "train"), ROWS.astype(np.float32))


def test_the_rows_of_a_batch_are_random_ones_of_a_file_that_may_be_sorted(table: Path) -> None:
    np.save(table, np.arange(200.0).reshape(100, 2))
    batches = Vectors(train=str(table), valid=str(table), test=str(table), batch_size=10).load().batches("train")
    assert (batches[0][:, 0].diff().abs() > 2).any()


@pytest.mark.parametrize("change", [{"standardise": True}, {"split_seed": 1}])
def test_the_fingerprint_is_of_the_rows_as_they_are_trained_on(table: Path, change: dict[str, Any]) -> None:
    first = Vectors(train=str(table)).load().fingerprint
    assert Vectors(train=str(table), batch_size=5).load().fingerprint == first
    assert Vectors(train=str(table), **change).load().fingerprint != first


def test_tables_of_different_columns_are_refused(table: Path) -> None:
    np.save(table.with_name("v.npy"), ROWS[:, :2])
    with pytest.raises(uc.InputError, match=r"v\.npy` has 2 columns, and `.*x\.npy` has 4: give tables of the same"):
        Vectors(train=str(table), valid=str(table.with_name("v.npy"))).load()


def test_too_few_rows_to_split_are_refused(table: Path) -> None:
    np.save(table, ROWS[:2])
    with pytest.raises(uc.InputError, match="2 training items are too few"):
        Vectors(train=str(table)).load()


def test_standardised_columns_have_mean_0_and_variance_1(table: Path) -> None:
    np.save(table, np.concatenate([ROWS, np.ones((90, 1))], 1))
    rows = Vectors(train=str(table), standardise=True).load().splits["train"]
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(rows.std(0), [1, 1, 1, 1, 0], atol=1e-6)


def test_the_interface_that_a_run_keeps_is_that_of_the_data(table: Path) -> None:
    for standardise in (False, True):
        data = Vectors(train=str(table), standardise=standardise).load()
        assert Vectors.restore(json.loads(json.dumps(data.about()))) == data.columns


@pytest.mark.parametrize(
    "about",
    [
        *({}, [], None, {"columns": 0, "shift": None, "scale": None}, {"columns": "4", "shift": None, "scale": None}),
        {"columns": 2, "shift": [0.0, 0.0], "scale": [1.0]},
        {"columns": 2, "shift": [0.0, 0.0], "scale": [1.0, 0.0]},
        {"columns": 2, "shift": [0.0, float("nan")], "scale": [1.0, 1.0]},
        {"columns": 0, "shift": [], "scale": []},
    ],
)
def test_what_does_not_say_the_columns_is_refused(about: Any) -> None:
    with pytest.raises(uc.InputError, match="does not say what the columns are"):
        Columns.restored(about)


def said(rows: np.ndarray, path: Path) -> list[str]:
    np.save(path, rows)
    return list(remarks.on_training(Spec(), Vectors(train=str(path), valid=str(path), test=str(path)).load()))


def test_nothing_is_said_of_an_ordinary_table(table: Path) -> None:
    assert said(ROWS, table) == []


def test_zeros_and_ones_may_be_constant_and_rare(table: Path) -> None:
    assert said(np.pad(np.eye(40), ((0, 0), (0, 3))), table) == []


def test_columns_that_are_constant_or_of_far_scales_are_said_with_what_to_do(table: Path) -> None:
    constant, scales = said(np.concatenate([ROWS * [1, 1, 1, 1000], np.full((90, 1), 7)], 1), table)
    assert constant.startswith("1 of 5 columns are constant in `train`, the first of them column 5:")
    assert scales.endswith("let them be scaled with --set data.standardise=true.")


def test_rows_that_are_the_same_but_for_the_sign_of_a_zero_are_the_same(table: Path) -> None:
    (remark,) = said(np.array([[0.0, 1.0], [-0.0, 1.0]] * 20), table)[-1:]
    assert remark.startswith("all items of `train` are the same")


# The interface.


def test_rows_are_read_and_written_in_the_numbers_of_the_table() -> None:
    columns = Columns(2, (10.0, 0.0), (2.0, 1.0))
    batch = columns.source(np.array([[12.0, 3.0]]), 8)[0]
    assert batch.tolist() == [[1.0, 3.0]]

    class Same(torch.nn.Module):
        def forward(self, z: torch.Tensor, seen: None) -> Any:
            return torch.distributions.Independent(torch.distributions.Normal(z, 1.0), 1)

    assert columns.write(Same(), batch, How("mean")).tolist() == [[12.0, 3.0]]


@pytest.mark.parametrize("rows", [np.zeros(4), np.zeros((3, 5)), torch.zeros(2, 2, 2)])
def test_rows_of_other_columns_are_refused(rows: Any) -> None:
    with pytest.raises(uc.InputError, match=r"an array of shape .* columns, and the model was trained on 4"):
        Columns(4).source(rows, 8)


# The command line.


def test_a_model_of_vectors_is_used_like_one_of_text(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savetxt(tmp_path / "in.csv", ROWS[:7], delimiter=",")
    ask(capsys, "encode", trained, tmp_path / "in.csv", "-o", tmp_path / "z.npy")
    torch.testing.assert_close(torch.from_numpy(np.load(tmp_path / "z.npy")), uc.load(trained).encode(ROWS[:7]))

    written = ask(capsys, "generate", trained, "-n", 200)
    (tmp_path / "out.csv").write_text(written)
    assert len(ask(capsys, "reconstruct", trained, tmp_path / "out.csv").splitlines()) == 200
    drawn = np.loadtxt(tmp_path / "out.csv", delimiter=",")
    assert abs(drawn.mean(0) - ROWS.mean(0)).max() < 10  # In the table's numbers, not in the scaled ones.

    line = json.loads(ask(capsys, "interpolate", trained, "-1,2,3,4", "1,2,3,4", "--steps", 3, "--json"))
    assert np.array(line["vectors"]).shape == (3, 4)
    assert "collapsed" in ask(capsys, "evaluate", trained, "--samples", 2, "--split", "valid")


def test_means_are_the_same_for_every_seed_and_draws_are_not(trained: Path) -> None:
    model = uc.load(trained)
    assert torch.equal(model.reconstruct(ROWS, seed=1), model.reconstruct(ROWS, seed=2))
    assert not torch.equal(model.reconstruct(ROWS, "sample", seed=1), model.reconstruct(ROWS, "sample", seed=2))


def test_options_of_text_are_refused_for_vectors(
    trained: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "`--temperature 2` says nothing to a model of vectors" in refused(
        capsys, "generate", trained, "--temperature", 2
    )
    assert "There is: mean, sample." in refused(capsys, "generate", trained, "--decode", "beam")
    labels = refused(capsys, "reconstruct", trained, table, "--labels")
    assert "a model of vectors has no use for `--labels`: leave out the option, or use `text`." in labels
    fit = refused(capsys, "fit", "vectors", "--train", table, "--characters")
    assert "`vectors` has no use for `--characters`: leave out the option, or use `text`." in fit


def test_a_network_of_text_is_refused_for_vectors(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "needs" in refused(capsys, "fit", "vectors", "--train", table, "--recipe", "text", "--out", "run")


def test_grey_values_under_a_bernoulli_likelihood_are_refused(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", "vectors", "--train", table, "--out", tmp_path / "run", "--quiet", *SET]
    assert "is no log-likelihood" in refused(capsys, *fit, "--set", "model.decoder.likelihood=bernoulli")


def test_zeros_and_ones_are_trained_on_with_a_bernoulli_likelihood(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(table, ROWS > 1)
    more = ["--set", "model.decoder.likelihood=bernoulli", "--samples", 2, "--quiet", *SET]
    ask(capsys, "fit", "vectors", "--train", table, "--out", tmp_path / "run", *more)
    written = ask(capsys, "generate", tmp_path / "run", "-n", 9)
    assert set(",".join(written.splitlines()).split(",")) == {"0", "1"}


def test_vectors_are_compared(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "x.npz", a=ROWS[:60], b=ROWS[60:])
    files = ["--train", f"{tmp_path}/x.npz:a", "--valid", f"{tmp_path}/x.npz:b"]
    more = ["--seeds", 1, "--remedies", "plain", "--samples", 2, "--out", tmp_path / "out", *SET]
    assert "\nplain" in ask(capsys, "compare", "vectors", *files, *more)


# Labels.


@pytest.fixture
def labelled(tmp_path: Path) -> dict[str, str]:
    """Rows of two kinds, which differ in their first number, with the kind of each."""
    kinds = np.arange(120) % 2
    rows = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
    rows[:, 0] += 60 * kinds
    np.save(tmp_path / "x.npy", rows)
    (tmp_path / "kinds.csv").write_text("".join(f"{'ab'[kind]}\n" for kind in kinds))
    return {"train": str(tmp_path / "x.npy"), "labels": str(tmp_path / "kinds.csv")}


def test_a_batch_has_the_label_of_each_of_its_rows(labelled: dict[str, str]) -> None:
    data = Vectors(**labelled, standardise=True).load()  # pyright: ignore[reportArgumentType]
    assert data.facts == {"shape": (4,), "label_classes": 2}
    for split in ("train", "valid", "test"):
        x = data.batches(split)[0]
        assert isinstance(x, uc.Labelled)
        assert torch.equal(x.x[:, 0] > 0, x.label == 1)
    restored = Vectors.restore(json.loads(json.dumps(data.about())))
    assert (restored, restored.classes) == (data.columns, ("a", "b"))


def test_without_labels_rows_are_what_they_were(labelled: dict[str, str]) -> None:
    plain, named = Vectors(train=labelled["train"]).load(), Vectors(**labelled).load()  # pyright: ignore[reportArgumentType]
    assert isinstance(plain.batches("train")[0], torch.Tensor)
    assert plain.about() == {"columns": 4, "shift": None, "scale": None}
    assert torch.equal(plain.batches("train")[0], named.batches("train")[0].x)
    assert plain.fingerprint != named.fingerprint


def test_a_share_of_the_batches_of_rows_holds_one_class_each(labelled: dict[str, str]) -> None:
    data = Vectors(**labelled, within_classes=1.0, batch_size=8).load()  # pyright: ignore[reportArgumentType]
    batches = data.batches("train")
    assert all(len(batches[i].label.unique()) == 1 for i in range(len(batches)))
    with pytest.raises(uc.InputError, match=r"`data.within_classes` is a share of items with labels"):
        Vectors(train=labelled["train"], within_classes=0.5).load()


def test_rows_and_labels_are_as_many(labelled: dict[str, str], tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.arange(3))
    with pytest.raises(uc.InputError, match=r"few.npy` has 3 labels, and there are 120 rows: give one each"):
        Vectors(train=labelled["train"], labels=str(tmp_path / "few.npy")).load()


@pytest.mark.parametrize(
    "more",
    [
        ["--with", "vfae"],
        ["--with", "fader"],
        ["--set", "model.tells=decoder"],
        ["--set", "model.decoder={kind: classifier}"],
    ],
)
def test_what_reads_labels_trains_on_rows(
    labelled: dict[str, str], more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifies = "classifier" in more[1]
    sizes = [f"--set={path}={value}" for path, value in SMALL.items() if not (classifies and "decoder" in path)]
    files = ["--train", labelled["train"], f"--set=data.labels={labelled['labels']}", "--quiet", "--json"]
    report = ask(capsys, "fit", "vectors", *files, *sizes, *more, "--samples", "2", "--out", tmp_path / "run")
    told = json.loads(report)["of_labels"]
    assert set(told) == {"label_by_z", *(["accuracy", "told_bits", "rate_bits"] if classifies else [])}
    assert told["label_by_z"]["n"] == 12
