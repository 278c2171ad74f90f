"""Comparisons: which cells belong together, and that no process outlives them."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from uncollapse.errors import InputError
from uncollapse.experiment import compare, run
from uncollapse.experiment.engines import cells
from uncollapse.experiment.run import write_json
from uncollapse.metrics.rows import Rows

FIT = ["text", "--recipe", "text", "--train", "a.txt", "--set", "training.clip=1"]


def cell(out: Path, name: str, data: str) -> Path:
    """A finished cell of a comparison, as far as it is read here."""
    folder = out / "cells" / name
    folder.mkdir(parents=True)
    write_json(folder / "environment.json", {"identity": name, "data": data, "asked": {}})
    return figures(folder)


def figures(folder: Path, **change: Any) -> Path:
    """The figures of a cell, and the rows behind them."""
    one = {"value": 1.0, "se": 0.1}
    names = ("nll", "neg_elbo", "kl", "mi", "active_units", "seconds", "cpu_seconds")
    n, counts = torch.zeros(3), {"samples": 5, "bound_samples": 1, "seed": 0}
    evidence = n.double() - float(change.get("nll", 1.0))
    rows = Rows(torch.arange(3), n, n.double(), n.double().unsqueeze(1), evidence, None, None, None, **counts)
    bond = {"rows_digest": rows.save(folder / "rows-test-k5-s0.safetensors")}
    said = {**dict.fromkeys(names, one), "verdict": "healthy", **bond, **change}
    write_json(folder / "evaluation-test-k5-s0.json", said)
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
    says = r"`.*/plain-seed0` was trained on other data than `.*/beta-seed0`: the data has changed\. Restore it, or"
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


def test_a_comparison_goes_on_where_its_text_lies_elsewhere_now(tmp_path: Path) -> None:
    out = begun(tmp_path / "out", {"fit": FIT})
    cell(out, "plain-seed0", "f")
    moved = ["elsewhere.txt" if word == "a.txt" else word for word in FIT]
    assert len(compare.run(moved, ["plain"], [0], out, jobs=1, samples=5, data="f").rows) == 1
    with pytest.raises(InputError, match=r"was trained on other data than what is there now"):
        compare.run(moved, ["plain"], [0], out, jobs=1, samples=5, data="g")
    with pytest.raises(InputError, match=r"with `--train a\.txt`, which is missing now"):
        compare.run(moved, ["plain"], [0], out, jobs=1, samples=5)


def test_a_comparison_goes_on_where_the_package_lies_elsewhere_now(tmp_path: Path) -> None:
    """Of the package's own remedies alone: another file of one's own may hold others of the same names."""
    ours = [*FIT, "--catalogue", "/old/site-packages/uncollapse/experiment/reproductions/variants.yaml"]
    out = begun(tmp_path / "out", {"fit": ours})
    cell(out, "plain-seed0", "f")
    moved = [*FIT, "--catalogue", "/new/src/uncollapse/experiment/reproductions/variants.yaml"]
    assert len(compare.run(moved, ["plain"], [0], out, jobs=1, samples=5).rows) == 1
    with pytest.raises(InputError, match="--catalogue"):
        compare.run([*FIT, "--catalogue", "/new/variants.yaml"], ["plain"], [0], out, jobs=1, samples=5)


@pytest.mark.parametrize("content", [{}, [], {"fit": "text"}])
def test_a_damaged_comparison_is_named(tmp_path: Path, content: object) -> None:
    out = begun(tmp_path / "out", content)
    with pytest.raises(InputError, match=r"compare\.json` is damaged: give another folder"):
        compare.run(FIT, ["plain"], [0], out, jobs=1, samples=5)


def deaf_cell(folder: Path, monkeypatch: pytest.MonkeyPatch, trap: str) -> cells.Cell:
    """A cell whose command says something and does not end by itself."""
    program = folder / "python"
    program.write_text(f"#!/bin/bash\n{trap}\necho 1\nwhile true; do sleep 0.05; done\n")
    program.chmod(0o755)
    monkeypatch.setattr(cells.sys, "executable", str(program))
    return cells.Cell(("fit",), folder / "cell", folder / "log", folder)


@pytest.mark.parametrize("deaf", [False, True])
def test_stopped_processes_end_and_no_further_one_starts(
    tmp_path: Path, deaf: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "_PATIENCE", 0.2 if deaf else 30)
    one = deaf_cell(tmp_path, monkeypatch, "trap '' TERM" if deaf else "")
    processes = cells.Processes()
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(processes.run, one, 1)
        while not (processes._running and one.log.is_file() and one.log.read_text()):
            time.sleep(0.02)
        processes.stop()
        name = "SIGKILL" if deaf else "SIGTERM"
        assert ended.result(timeout=10) == (-9 if deaf else -15, f"its process was ended by {name}.")
        assert processes.run(one, 1).status < 0


# Cells, by a stand-in for `uncollapse fit` that ends as its remedy says.

FIT_IN_SHORT = """#!/bin/sh
for word; do
  [ "$before" = --with ] && remedy=$word
  [ "$before" = --out ] && out=$word
  before=$word
done
case $remedy in
  killed) kill -9 $$ ;;
  failed) echo "uncollapse: no luck." >&2; exit 3 ;;
  empty) exit 0 ;;
esac
mkdir -p "$out"
echo "$UNCOLLAPSE_PARENT" > "$out/parent"
echo "$1 $2 $3 $4" > "$out/flags"
echo "$@" > "$out/words"
cp "$(dirname "$0")"/figures/* "$out"
"""


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "figures").mkdir()
    figures(tmp_path / "figures")
    program = tmp_path / "python"
    program.write_text(FIT_IN_SHORT)
    program.chmod(0o755)
    monkeypatch.setattr(cells.sys, "executable", str(program))
    monkeypatch.setattr(compare, "_LOOK", 0.02)
    return tmp_path / "out"


def errors(out: Path, remedies: list[str]) -> dict[str, str]:
    rows = compare.run(FIT, remedies, [0], out, jobs=2, samples=5).rows
    return {row["remedy"]: row.get("error", "") for row in rows}


def test_cells_that_fail_are_shown_with_their_errors_and_the_others_finish(short: Path) -> None:
    found = errors(short, ["failed", "killed", "plain", "beta"])
    assert found == {
        "failed": "uncollapse: no luck.",
        "killed": "its process was ended by SIGKILL.",
        "plain": "",
        "beta": "",
    }
    rows = json.loads((short / "comparison.json").read_text())["rows"]
    assert {row["remedy"]: row.get("error", "") for row in rows} == found
    assert int((short / "cells" / "plain-seed0" / "parent").read_text()) == os.getpid()


def test_a_cell_that_ends_well_and_leaves_no_figures_failed(short: Path) -> None:
    said = "it ended without an error, and left no figures that can be used."
    assert errors(short, ["empty", "plain"]) == {"empty": said, "plain": ""}


def test_a_cell_takes_no_module_of_the_working_folder(short: Path) -> None:
    errors(short, ["plain"])
    assert (short / "cells" / "plain-seed0" / "flags").read_text() == "-P -m uncollapse fit\n"


def test_what_starts_from_a_language_model_gets_that_of_its_seed_when_it_is_done(short: Path) -> None:
    begins = {"later": ["model.start", "model.encoder_start"]}
    rows = compare.run(FIT, ["later", "plain"], [0, 1], short, jobs=2, samples=5, begins=begins).rows
    assert [(row["remedy"], row["seed"]) for row in rows] == [
        (name, seed) for seed in (0, 1) for name in ("plain", "language-model", "later")
    ]
    for seed in (0, 1):
        words = (short / "cells" / f"later-seed{seed}" / "words").read_text()
        model = short.absolute() / "cells" / f"language-model-seed{seed}"
        assert f"--set model.start={model} --set model.encoder_start={model} " in words
        there, own = (short / "cells" / f"{name}-seed{seed}" / "words" for name in ("language-model", "later"))
        assert there.stat().st_mtime_ns < own.stat().st_mtime_ns


def test_what_starts_from_a_language_model_that_failed_is_not_run(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "LANGUAGE_MODEL", "failed")
    rows = compare.run(FIT, ["plain", "later"], [0], short, jobs=1, samples=5, begins={"later": ["model.start"]}).rows
    assert {row["remedy"]: row.get("error", "") for row in rows} == {
        "plain": "",
        "failed": "uncollapse: no luck.",
        "later": "the language model that it starts from was not trained to its end.",
    }
    assert not (short / "cells" / "later-seed0").exists()


def test_what_one_remedy_is_given_besides_no_other_gets(short: Path) -> None:
    errors(short, ["plain"])
    compare.run(FIT, ["beta", "anneal"], [0], short, jobs=2, samples=5, more={"beta": ["--set", "model.start=there"]})

    given = {name: (short / "cells" / f"{name}-seed0" / "words").read_text() for name in ("plain", "beta", "anneal")}
    assert {name: "--set model.start=there " in words for name, words in given.items()} == {
        "plain": False,
        "beta": True,
        "anneal": False,
    }
    assert errors(short, ["plain", "beta"]) == {"plain": "", "beta": "", "anneal": ""}


def test_a_cell_that_cannot_be_started_is_one_that_failed(short: Path) -> None:
    (short / "cells").mkdir(parents=True)
    (short / "cells" / "beta-seed0.log").mkdir()
    write_json(short / "compare.json", {"fit": FIT})
    assert errors(short, ["beta", "plain"]) == {"beta": "it could not be started: Is a directory.", "plain": ""}


def test_damaged_figures_are_made_again(short: Path) -> None:
    errors(short, ["plain"])
    path = short / "cells" / "plain-seed0" / "evaluation-test-k5-s0.json"
    for damaged in (path.read_text()[:-5], "{}", "[]"):
        path.write_text(damaged)
        assert compare.collect(short, 5).rows[0]["absent"]
        assert errors(short, ["plain"]) == {"plain": ""}
        assert "absent" not in compare.collect(short, 5).rows[0]
    path.with_name("rows-test-k5-s0.safetensors").unlink()
    assert compare.collect(short, 5).rows[0]["absent"]
    assert errors(short, ["plain"]) == {"plain": ""}
    assert "absent" not in compare.collect(short, 5).rows[0]


@pytest.mark.parametrize("newer", ["rows-test-k5-s0.safetensors", "evaluation-test-k5-s0.json"])
def test_figures_and_rows_of_two_evaluations_are_no_pair(short: Path, tmp_path: Path, newer: str) -> None:
    errors(short, ["plain"])
    (tmp_path / "newer").mkdir()
    path = figures(tmp_path / "newer", nll=2.0) / newer
    path.replace(short / "cells" / "plain-seed0" / newer)
    assert compare.collect(short, 5).rows[0]["absent"]
    assert errors(short, ["plain"]) == {"plain": ""}
    assert "absent" not in compare.collect(short, 5).rows[0]


def test_figures_that_name_no_rows_are_made_again(short: Path) -> None:
    errors(short, ["plain"])
    path = short / "cells" / "plain-seed0" / "evaluation-test-k5-s0.json"
    said = json.loads(path.read_text())
    for bond in ({}, {"rows_digest": None}):
        write_json(path, {**{k: v for k, v in said.items() if k != "rows_digest"}, **bond})
        assert compare.collect(short, 5).rows[0]["absent"]


def test_rows_that_are_replaced_while_they_are_compared_are_refused(tmp_path: Path) -> None:
    for name in ("plain-seed0", "beta-seed0"):
        cell(tmp_path, name, "f")
    found = compare.collect(tmp_path, 5)
    assert found.difference("beta", "nll") is not None
    figures(tmp_path / "cells" / "beta-seed0", nll=2.0)
    with pytest.raises(
        InputError, match="holds other rows than those of the figures beside it: evaluate the run again"
    ):
        found.difference("beta", "nll")


def test_a_cell_that_was_looked_at_before_its_end_is_trained_to_it(short: Path) -> None:
    cell(short, "plain-seed0", "f")
    figures(short / "cells" / "plain-seed0", finished=False)
    write_json(short / "compare.json", {"fit": FIT})
    assert errors(short, ["plain"]) == {"plain": ""}
    assert (short / "cells" / "plain-seed0" / "parent").exists()
    assert compare.collect(short, 5).rows[0]["verdict"] == "healthy"


def test_a_cell_that_this_command_does_not_evaluate_is_none_that_failed(short: Path) -> None:
    errors(short, ["plain", "beta"])
    (short / "cells" / "beta-seed0.log").write_text("its last word, of success\n")
    (short / "cells" / "beta-seed0" / "evaluation-test-k5-s0.json").unlink()
    found = compare.run(FIT, ["plain"], [0], short, jobs=1, samples=5)
    assert found.rows[1].keys() == {"remedy", "seed", "absent"}
    assert found.table()[-1][-1] == "not trained to its end, or not evaluated with these samples and items, yet"


def test_a_cell_that_a_killed_comparison_left_behind_is_waited_for(short: Path) -> None:
    errors(short, ["beta"])
    cell = short / "cells" / "plain-seed0"
    with run.held(cell, "training"), ThreadPoolExecutor(1) as pool:
        found = pool.submit(errors, short, ["plain"])
        time.sleep(0.3)
        assert not (cell / "parent").exists()
        (cell / "lock").unlink()
        assert found.result(timeout=30) == {"plain": "", "beta": ""}


@pytest.mark.parametrize("left", [["lock"], ["lock", "compare.partial"]])
def test_a_comparison_that_a_kill_left_begun_is_gone_on_with(short: Path, left: list[str]) -> None:
    short.mkdir()
    for name in left:
        (short / name).write_text("")
    assert errors(short, ["plain"]) == {"plain": ""}


def test_a_second_comparison_in_one_folder_is_refused(short: Path) -> None:
    errors(short, ["plain"])
    with run.held(short, "comparing"), pytest.raises(InputError, match="another process is comparing in"):
        errors(short, ["plain"])


def test_who_is_interrupted_while_cells_end_ends_them_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = deaf_cell(tmp_path, monkeypatch, "trap '' TERM")
    processes = cells.Processes()
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(processes.run, one, 1)
        while not (processes._running and one.log.is_file() and one.log.read_text()):
            time.sleep(0.02)
        (process,) = processes._running.values()
        patient = process.wait

        def interrupt(timeout: float | None = None) -> int:
            if timeout is None:
                return patient()
            raise KeyboardInterrupt

        monkeypatch.setattr(process, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            processes.stop()
        assert ended.result(timeout=10).status == -9
