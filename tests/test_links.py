"""Folders of runs and comparisons that a stranger has filled: nothing outside them is written to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from test_cli import SET, write_text
from uncollapse.cli import main
from uncollapse.errors import InputError
from uncollapse.experiment import compare, run

FIT = ["text", "--train", "a.txt"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "a.txt")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What is somebody else's: a file, and a folder with a file named like a checkpoint."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "last-00000001.safetensors").write_text("theirs")
    (tmp_path / "file").write_text("theirs")
    return tmp_path


def untouched(outside: Path) -> bool:
    there = {path.name: path.read_text() for path in (outside / "theirs").iterdir()}
    return there == {"last-00000001.safetensors": "theirs"} and (outside / "file").read_text() == "theirs"


def begun(folder: Path) -> Path:
    """A run that stopped before its first step."""
    run.open_folder(folder, {"training": {}, "seed": 0}, "i", "f", {})
    return folder


def lead(path: Path, outside: Path, folder: bool) -> None:
    path.symlink_to(outside / ("theirs" if folder else "file"))


@pytest.mark.parametrize("name", ["lock", "metrics.jsonl", "checkpoints", "probe", "tensorboard"])
def test_a_name_that_a_training_writes_to_is_no_way_out_of_its_folder(outside: Path, name: str) -> None:
    folder = begun(outside / "run")
    lead(folder / name, outside, folder=name in ("checkpoints", "probe", "tensorboard"))
    says = rf"^`.*/run/{name}` is a link, a pipe or a device, and what is written to it would leave `.*/run`: put what"
    with pytest.raises(InputError, match=says), run.locked(folder):
        pass
    assert untouched(outside)


@pytest.mark.parametrize("name", ["lock", "metrics.jsonl"])
def test_a_pipe_in_the_place_of_a_file_holds_nobody_up(tmp_path: Path, name: str) -> None:
    folder = begun(tmp_path / "run")
    os.mkfifo(folder / name)
    assert not run.is_held(folder)
    with pytest.raises(InputError, match="is a link, a pipe or a device"), run.locked(folder):
        pass


def test_every_file_of_a_run_is_written_within_its_folder_or_refused_in_one_line(
    outside: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", "text", "--train", str(text), *SET, "--set", "training.max_epochs=1", "--samples", "1", "--quiet"]
    folder = outside / "run"
    assert main([*fit, "--out", str(folder)]) == 0
    for path in sorted(path.relative_to(folder) for path in folder.rglob("*")):
        linked = outside / "linked"
        shutil.copytree(folder, linked)
        inside = (linked / path).is_dir()
        shutil.rmtree(linked / path) if inside else (linked / path).unlink()
        lead(linked / path, outside, folder=inside)
        capsys.readouterr()
        for command in ([*fit, "--out", str(linked)], ["evaluate", str(linked), "--samples", "1"]):
            assert main(command) in (0, 2), path
            assert "Traceback" not in capsys.readouterr().err
            assert untouched(outside), path
        shutil.rmtree(linked)


def test_a_run_folder_may_be_a_link_itself(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    with run.locked(tmp_path / "run"):
        begun(tmp_path / "run")
    assert (tmp_path / "disk" / "lock").is_file()


@pytest.mark.parametrize("name", ["lock", "cells", "cells/plain-seed0", "cells/plain-seed0.log"])
def test_a_name_that_a_comparison_writes_to_is_no_way_out_of_its_folder(outside: Path, name: str) -> None:
    out = outside / "out"
    (out / name).parent.mkdir(parents=True)
    run.write_json(out / compare.ABOUT, {"fit": FIT})
    lead(out / name, outside, folder=name in ("cells", "cells/plain-seed0"))
    with pytest.raises(InputError, match=rf"`.*/{name}` is a link, a pipe or a device"):
        compare.run(FIT, ["plain"], [0], out, jobs=1, samples=1)
    assert untouched(outside)
