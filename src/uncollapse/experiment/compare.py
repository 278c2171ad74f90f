"""Comparisons: every cell (remedy, seed) a process of its own; tables with paired differences to plain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uncollapse.errors import InputError
from uncollapse.experiment.run import METRICS, read_json, write_json
from uncollapse.experiment.summary import Comparison

_LOOK = 0.5  # seconds between two looks at the cells


@dataclass
class State:
    """Where a cell stands, for those who watch."""

    remedy: str
    seed: int
    folder: Path
    status: str = "waiting"
    """waiting, running, done or failed."""
    step: int = 0
    total: int | None = None
    left: float | None = None
    """Seconds to its last epoch; early stopping only shortens them."""
    text: str = ""
    _began: float = field(default=0.0, repr=False)
    _first: int = field(default=0, repr=False)

    def look(self) -> None:
        """Reads from the cell's log how far it is."""
        line = last_line(self.folder / METRICS)
        if self.status != "running" or line is None:
            return
        if not self._began:
            self._began, self._first = time.monotonic(), line["step"]
        self.step, self.total = line["step"], line.get("of")
        done = self.step - self._first
        if self.total and done:
            self.left = (time.monotonic() - self._began) / done * (self.total - self.step)
        self.text = f"epoch {line['epoch']}"


def run(
    fit_arguments: Sequence[str],
    remedies: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    *,
    jobs: int,
    samples: int,
    items: int | None = None,
    show: Callable[[list[State]], None] | None = None,
) -> Comparison:
    """Trains and evaluates every remedy with every seed, and compares them.

    A cell that is done is not run again, and one that was stopped goes on, so that the same command resumes
    a comparison and a longer one extends it. A failed cell is shown with its error; the others finish.

    Arguments:
        fit_arguments: What every cell hands to `uncollapse fit`.
        remedies: Names of the catalogue, or several joined by "+".
        seeds: Of training.
        out: The comparison's folder.
        jobs: Cells at the same time; each gets an equal share of the cores.
        samples: K, the importance samples of the NLL.
        items: How many items of the test split; None for all.
        show: Called about twice a second with the state of every cell.
    """
    if jobs < 1:
        raise InputError(f"{jobs} jobs run nothing: ask for at least 1.")
    _open(out, fit_arguments)
    states = [State(r, s, out / "cells" / f"{r}-seed{s}") for s in seeds for r in remedies]
    evaluation = _evaluation(samples, items)
    extra = ["--samples", str(samples), *(["--items", str(items)] if items else []), "--quiet"]
    with ThreadPoolExecutor(jobs) as pool:
        ends = [pool.submit(_run_cell, state, [*fit_arguments, *extra], evaluation, jobs) for state in states]
        try:
            _watch(ends, states, show)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    found = collect(out, samples, items, states)
    write_json(out / "comparison.json", found.to_json())
    return found


def collect(out: Path, samples: int, items: int | None = None, asked: Sequence[State] = ()) -> Comparison:
    """What the cells in a comparison's folder came to: those asked for first, and those of earlier commands."""
    return Comparison([_row(state, _evaluation(samples, items)) for state in _everything(out, asked)])


def _evaluation(samples: int, items: int | None) -> str:
    return f"evaluation-test-k{samples}" + (f"-n{items}" if items else "") + "-s0.json"


def _open(out: Path, fit_arguments: Sequence[str]) -> None:
    """The folder of a comparison holds cells of one experiment only."""
    about = out / "compare.json"
    if about.is_file():
        there = read_json(about)["fit"]
        if there != list(fit_arguments):
            raise InputError(
                f"`{out}` holds a comparison of `fit {' '.join(there)}`: give another folder, or the same arguments."
            )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"`{out}` is not empty and holds no comparison: give another folder.")
    out.mkdir(parents=True, exist_ok=True)
    write_json(about, {"fit": list(fit_arguments)})


def _run_cell(state: State, fit_arguments: Sequence[str], evaluation: str, jobs: int) -> None:
    if (state.folder / evaluation).is_file():
        state.status = "done"
        return
    state.status = "running"
    state.folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "uncollapse", "fit", *fit_arguments]
    command += ["--with", state.remedy, "--seed", str(state.seed), "--out", str(state.folder)]
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    with log(state.folder).open("w", encoding="utf-8") as output:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "OMP_NUM_THREADS": threads},
            check=False,
        )
    state.status = "failed" if ended.returncode else "done"


def _watch(ends: Sequence[Future[None]], states: list[State], show: Callable[[list[State]], None] | None) -> None:
    while not all(end.done() for end in ends):
        time.sleep(_LOOK)
        for state in states:
            state.look()
        if show:
            show(states)
    for end in ends:
        end.result()
    if show:
        show(states)


def _everything(out: Path, states: Sequence[State]) -> list[State]:
    asked = {state.folder.name for state in states}
    earlier = sorted(p for p in (out / "cells").iterdir() if p.is_dir() and p.name not in asked)
    named = [(p, *p.name.rsplit("-seed", 1)) for p in earlier]
    return [*states, *(State(remedy, int(seed), p, "done") for p, remedy, seed in named)]


def _row(state: State, evaluation: str) -> dict[str, Any]:
    row: dict[str, Any] = {"remedy": state.remedy, "seed": state.seed}
    path = state.folder / evaluation
    if not path.is_file():
        return {**row, "error": _error(state)}
    figures = read_json(path)
    return {
        **figures,
        **row,
        "folder": str(state.folder),
        "rows": evaluation.replace("evaluation", "rows")[:-5],
    }


def _error(state: State) -> str:
    lines = log(state.folder).read_text(encoding="utf-8").split("\n") if log(state.folder).is_file() else []
    said = [line for line in lines if line.strip()]
    return said[-1] if said else "not evaluated with these samples and items yet"


def log(folder: Path) -> Path:
    """Where a cell's output goes: beside its folder, which must be its own."""
    return folder.with_name(folder.name + ".log")


def last_line(path: Path) -> dict[str, Any] | None:
    """The last whole record of a run's log."""
    if not path.is_file():
        return None
    for line in reversed(path.read_bytes()[-4096:].split(b"\n")):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        return record if isinstance(record, dict) else None
    return None
