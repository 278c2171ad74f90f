"""Bad input: one line on standard error that names what is wrong and what there is, status 2, no traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from test_cli import SET, write_text
from uncollapse.cli import main
from uncollapse.cli.options import Options


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good text, bad ones, a run, and a folder of someone else's."""
    folder = tmp_path_factory.mktemp("place")
    write_text(folder / "good.txt")
    (folder / "empty.txt").write_text("", encoding="utf-8")
    (folder / "blank.txt").write_text("\n  \n\n", encoding="utf-8")
    (folder / "latin.txt").write_bytes("the cat\nthe dog\nthe caf\xe9\n".encode("latin-1"))
    (folder / "bad.gz").write_text("this is no gzip", encoding="utf-8")
    (folder / "cut.gz").write_bytes(b"\x1f\x8b\x08\x00\x00")
    (folder / "russian.txt").write_text("кошка видит собаку\n", encoding="utf-8")
    (folder / "few.txt").write_text("one\ntwo\n", encoding="utf-8")
    (folder / "labels.txt").write_text("a\tthe cat\nthe dog\n", encoding="utf-8")
    (folder / "foreign").mkdir()
    (folder / "foreign" / "thesis.tex").write_text("mine", encoding="utf-8")
    (folder / "nothing").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "spec.yaml").write_text("seed: [", encoding="utf-8")
    fit = ["fit", "text", "--train", str(folder / "good.txt"), "--out", str(folder / "run"), "--samples", "0"]
    assert main([*fit, "--quiet", *SET]) == 0
    shutil.copytree(folder / "run", folder / "nameless")
    (folder / "nameless" / "environment.json").write_text("{}", encoding="utf-8")
    (folder / "begun").mkdir()
    begun = Options(train=folder / "good.txt", labels=True).arguments("text")
    (folder / "begun" / "compare.json").write_text(json.dumps({"fit": begun}), encoding="utf-8")
    return folder


# Arguments, `@` for the folder above; words that the one line must hold.
FIT = "fit text --train @/good.txt --out @/new "
BAD = {
    "nothing to train on": ("fit text --out @/new", ["--train FILE"]),
    "missing file": ("fit text --train @/absent.txt --out @/new", ["@/absent.txt", "No such file"]),
    "missing file of a comparison": ("compare text --train @/absent.txt --out @/new", ["@/absent.txt"]),
    "missing validation file": (FIT + "--valid @/absent.txt", ["@/absent.txt", "No such file"]),
    "empty file": ("fit text --train @/empty.txt --out @/new", ["@/empty.txt", "one a line"]),
    "blank file": ("fit text --train @/blank.txt --out @/new", ["@/blank.txt", "one a line"]),
    "a folder for a file": ("fit text --train @/foreign --out @/new", ["@/foreign", "directory"]),
    "not UTF-8": ("fit text --train @/latin.txt --out @/new", ["@/latin.txt", "line 3", "UTF-8"]),
    "no gzip": ("fit text --train @/bad.gz --out @/new", ["@/bad.gz", "gzip"]),
    "half a gzip": ("fit text --train @/cut.gz --out @/new", ["@/cut.gz", "gzip"]),
    "no known word": (FIT + "--valid @/russian.txt", ["@/russian.txt", "no words"]),
    "too few items": ("fit text --train @/few.txt --out @/new", ["2 training items"]),
    "a label is missing": ("fit text --train @/labels.txt --labels --out @/new", ["@/labels.txt", "line 2", "tab"]),
    "files for other data": ("fit stdlib --train @/good.txt --out @/new", ["stdlib", "text"]),
    "unknown data": ("fit txt --out @/new", ["txt", "text"]),
    "no data": ("fit", ["DATA"]),
    "unknown remedy": (FIT + "--with agressive", ["agressive", "Did you mean `aggressive`?"]),
    "unknown remedy of two": (FIT + "--with anneal+agressive", ["agressive", "Did you mean `aggressive`?"]),
    "unknown remedy to compare": (
        "compare text --train @/good.txt --remedies plain,aneal --out @/new",
        ["aneal", "Did you mean `anneal`?"],
    ),
    "no remedy to compare": ("compare text --train @/good.txt --remedies= --out @/new", ["unknown remedy"]),
    "unknown remedy to show": ("remedies anneall", ["anneall", "Did you mean `anneal`?"]),
    "unknown recipe": (FIT + "--recipe he2019-txt", ["he2019-txt", "Did you mean `he2019-text`?"]),
    "unknown recipe to show": ("recipes demoo", ["demoo", "Did you mean `demo`?"]),
    "recipe without a model": (FIT + "--recipe vector", ["names no model"]),
    "clash": (FIT + "--with beta+anneal", ["`anneal`", "`beta`", "objective.weights.rate"]),
    "clash to compare": ("compare text --train @/good.txt --remedies beta+anneal --out @/new", ["`anneal`", "`beta`"]),
    "unknown path": (FIT + "--set training.max_epoch=3", ["training.max_epoch", "Did you mean `training.max_epochs`?"]),
    "path without value": (FIT + "--set training.clip", ["training.clip", "path=value"]),
    "value that is no YAML": (FIT + "--set training.clip=[", ["training.clip", "YAML"]),
    "out of range": (FIT + "--set training.max_epochs=0", ["training.max_epochs", "0", "greater than or equal to 1"]),
    "not a number": (FIT + "--set training.clip=.nan", ["training.clip", "finite"]),
    "infinite": (FIT + "--set training.clip=.inf", ["training.clip", "finite"]),
    "wrong type": (FIT + "--set model.latent=many", ["model.latent", "many", "integer"]),
    "path that is a number": (FIT + "--set data.valid=3", ["data.valid", "3", "string"]),
    "a number that a dial moves": (
        FIT + "--with anneal --set training.objective.weights.rate=0.5",
        ["`training.objective.weights.rate`", "`training.dials.objective.weights.rate`", "Set the dial"],
    ),
    "a seed that no generator takes": (
        FIT + "--set data.split_seed=99999999999999999999999",
        ["data.split_seed", "less than or equal to 9223372036854775807"],
    ),
    "an instant schedule": (
        "fit text --train @/good.txt --out @/new --with anneal --set training.dials.objective.weights.rate.over=0steps",
        ["training.dials.objective.weights.rate.over", "0steps", "no length"],
    ),
    "seed below 0": (FIT + "--seed -1", ["--seed", ">= 0"]),
    "seed in words": (FIT + "--seed one", ["--seed", "one", "int"]),
    "samples below 0": (FIT + "--samples -1", ["--samples", ">= 0"]),
    "no items": (FIT + "--items 0", ["--items", ">= 1"]),
    "unknown device": (FIT + "--device gpu0", ["gpu0"]),
    "foreign folder": ("fit text --train @/good.txt --out @/foreign", ["@/foreign", "another folder"]),
    "a file for a folder": ("fit text --train @/good.txt --out @/good.txt", ["@/good.txt", "folder"]),
    "folder below a file": ("fit text --train @/good.txt --out @/good.txt/run", ["@/good.txt/run"]),
    "run of another spec": ("fit text --train @/good.txt --out @/run", ["@/run", "another spec"]),
    "foreign comparison": ("compare text --train @/good.txt --out @/foreign", ["@/foreign", "another folder"]),
    "other arguments": (
        "compare text --train @/good.txt --characters --out @/begun",
        ["@/begun", "with `--labels`", "without `--characters`", "another folder"],
    ),
    "no jobs": ("compare text --train @/good.txt --jobs 0 --out @/new", ["--jobs", ">= 1"]),
    "no seeds": ("compare text --train @/good.txt --seeds 0 --out @/new", ["--seeds", ">= 1"]),
    "no folder for a comparison": ("compare text --train @/good.txt", ["--out"]),
    "no such run": ("evaluate @/absent", ["@/absent"]),
    "no run in the folder": ("evaluate @/nothing", ["@/nothing", "spec.yaml"]),
    "someone else's folder": ("generate @/foreign", ["@/foreign", "spec.yaml"]),
    "broken run": ("evaluate @/broken", ["@/broken", "spec.yaml"]),
    "a run without a name": ("evaluate @/nameless", ["@/nameless/environment.json", "damaged"]),
    "unknown split": ("evaluate @/run --split tset", ["tset", "test"]),
    "nothing to generate": ("generate @/run -n 0", ["0", "at least 1"]),
    "unknown decoding": ("generate @/run --decode greddy", ["greddy", "greedy"]),
    "texts of no length": ("generate @/run --max-length 0", ["--max-length", ">= 1"]),
    "no temperature": ("generate @/run --temperature 0", ["temperature"]),
    "temperature that is no number": ("generate @/run --temperature nan", ["temperature"]),
    "no beam": ("generate @/run --decode beam --width 0", ["width", "at least 1"]),
    "missing text to reconstruct": ("reconstruct @/run @/absent.txt", ["@/absent.txt"]),
    "empty text to encode": ("encode @/run @/empty.txt -o @/z.npy", ["@/empty.txt"]),
    "nowhere to store": ("encode @/run @/good.txt", ["--out"]),
    "folder to store in is missing": ("encode @/run @/good.txt -o @/no/z.npy", ["@/no/z.npy", "No such file"]),
    "one step": ("interpolate @/run cat dog --steps 1", ["1 steps", "at least 2"]),
    "one sentence": ("interpolate @/run cat", ["SECOND"]),
    "unknown command": ("evalute @/run", ["evalute", "evaluate"]),
    "unknown option": ("fit text --trian @/good.txt", ["--trian", "--train"]),
    "too many arguments": ("evaluate @/run @/run", ["@/run"]),
}


def arguments_of(case: str, place: Path) -> list[str]:
    return BAD[case][0].replace("@", str(place)).split()


def assert_one_line(said: str, case: str, place: Path) -> None:
    assert said.startswith("uncollapse: ")
    assert said.count("\n") == 1
    for words in BAD[case][1]:
        assert words.replace("@", str(place)) in said


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(case: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments_of(case, place)) == 2
    out, said = capsys.readouterr()
    assert out == ""
    assert_one_line(said, case, place)
    assert not (place / "new").exists()


@pytest.mark.parametrize("case", ["not UTF-8", "clash", "unknown command"])
def test_so_it_is_for_a_process(case: str, place: Path) -> None:
    command = [sys.executable, "-m", "uncollapse", *arguments_of(case, place)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert_one_line(done.stderr, case, place)


def test_training_that_cannot_go_on_is_one_line_and_status_3(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rate = "training.optimisers.generation.learning_rate=1e38"
    arguments = ["fit", "text", "--train", str(place / "good.txt"), *SET, "--set", rate, "--set", "training.clip=null"]
    assert main([*arguments, "--out", str(tmp_path / "run"), "--quiet"]) == 3
    said = capsys.readouterr().err
    assert said.startswith("uncollapse: ")
    assert said.count("\n") == 1
    assert "learning rate" in said
