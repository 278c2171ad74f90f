"""Comparisons: which cells belong together, and that no process outlives them."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from uncollapse.errors import InputError
from uncollapse.experiment import compare
from uncollapse.experiment.run import write_json

FIT = ["text", "--recipe", "text", "--train", "a.txt", "--set", "training.clip=1"]


def cell(out: Path, name: str, data: str) -> Path:
    """A finished cell of a comparison, as far as it is read here."""
    folder = out / "cells" / name
    folder.mkdir(parents=True)
    write_json(folder / "environment.json", {"identity": name, "data": data, "asked": {}})
    write_json(folder / "evaluation-test-k5-s0.json", {"verdict": "healthy"})
    return folder


def begun(out: Path, content: Any) -> Path:
    out.mkdir()
    write_json(out / "compare.json", content)
    return out


def test_cells_of_one_data_set_are_collected_and_other_folders_are_not(tmp_path: Path) -> None:
    for name in ("beta-seed3", "aggressive+anneal-seed0"):
        cell(tmp_path, name, "f")
    for name in ("notes", "plain-seed", "beta-seed3.lock", "beta-seed3-old", "-seed1"):
        (tmp_path / "cells" / name).mkdir()
    rows = compare.collect(tmp_path, 5).rows
    assert [(row["remedy"], row["seed"]) for row in rows] == [("aggressive+anneal", 0), ("beta", 3)]


def test_cells_of_two_data_sets_are_no_comparison(tmp_path: Path) -> None:
    cell(tmp_path, "plain-seed0", "f")
    cell(tmp_path, "beta-seed0", "g")
    says = r"`.*/plain-seed0` was trained on other data than `.*/beta-seed0`: the text has changed\. Restore it, or"
    with pytest.raises(InputError, match=says):
        compare.collect(tmp_path, 5)


def test_a_comparison_is_not_extended_after_its_text_has_changed(tmp_path: Path) -> None:
    out = begun(tmp_path / "out", {"fit": FIT})
    cell(out, "plain-seed0", "f")
    with pytest.raises(InputError, match=r"`.*/plain-seed0` was trained on other data than what is there now"):
        compare.run(FIT, ["plain", "beta"], [0], out, jobs=1, samples=5, data="g")
    assert not (out / "cells" / "beta-seed0.log").exists()
    assert len(compare.run(FIT, ["plain"], [0], out, jobs=1, samples=5, data="f").rows) == 1


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ([*FIT[:-1], "training.clip=2"], "with `--set training.clip=1`, which is missing now, and without `--set trai"),
        ([*FIT, "--labels"], "without `--labels`: give the arguments that it was begun with, or another folder."),
        (FIT[:-2], "with `--set training.clip=1`, which is missing now: give"),
        ([FIT[0], *FIT[3:], *FIT[1:3]], "with the same arguments in another order: give"),
    ],
)
def test_a_comparison_of_other_arguments_says_which(tmp_path: Path, asked: list[str], says: str) -> None:
    out = begun(tmp_path / "out", {"fit": FIT})
    with pytest.raises(InputError) as error:
        compare.run(asked, ["plain"], [0], out, jobs=1, samples=5)
    assert f"the comparison in `{out}` was begun {says}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [{}, [], {"fit": "text"}])
def test_a_damaged_comparison_is_named(tmp_path: Path, content: object) -> None:
    out = begun(tmp_path / "out", content)
    with pytest.raises(InputError, match=r"compare\.json` is damaged: give another folder"):
        compare.run(FIT, ["plain"], [0], out, jobs=1, samples=5)


@pytest.mark.parametrize("deaf", [False, True])
def test_stopped_processes_end_and_no_further_one_starts(
    tmp_path: Path, deaf: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "_PATIENCE", 0.2 if deaf else 30)
    how = "SIG_IGN" if deaf else "SIG_DFL"
    code = f"import signal, time; signal.signal(signal.SIGTERM, signal.{how}); print(1, flush=True); time.sleep(60)"
    processes, log = compare.Processes(), tmp_path / "log"
    with log.open("w") as output, ThreadPoolExecutor(1) as pool:
        ended = pool.submit(processes.run, [sys.executable, "-c", code], output, 1)
        while not log.read_text():
            time.sleep(0.02)
        processes.stop()
        assert ended.result(timeout=10) == (-9 if deaf else -15)
        assert processes.run(["false"], output, 1) == -1
