"""Comparisons: every cell (remedy, seed) a process of its own; tables with paired differences to plain."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uncollapse import files
from uncollapse.errors import InputError
from uncollapse.experiment.engines import Cell, Engine, Where
from uncollapse.experiment.race import hopeless
from uncollapse.experiment.run import (
    ENVIRONMENT,
    LOCK,
    METRICS,
    held,
    read_environment,
    read_json,
    write_json,
)
from uncollapse.experiment.summary import BASELINE, FIGURES, Comparison
from uncollapse.training.interruption import held_back

_LOOK = 0.5  # seconds between two looks at the cells
ABOUT, CELLS = "compare.json", "cells"
#: What a process that is killed while it makes a comparison's folder may leave in it.
_BEGUN = {LOCK, "compare.partial"}
#: Why a cell of an earlier command has no figures.
ABSENT = "not trained to its end, or not evaluated with these samples and items, yet"
_STOPPING = "stopping every cell after its step, to keep it; once more stops at once."
_STOPPED = "stopped; the same command goes on from the last checkpoints."
#: What some remedies start from; see `start`.
LANGUAGE_MODEL = "language-model"
_NO_START = "the language model that it starts from was not trained to its end."
#: The folder that this package is installed in, which is no part of what a comparison is.
_PACKAGED = re.compile(r"^(--catalogue ).*(?=/uncollapse/experiment/)")
#: The options that say where a text lies.
_TEXT = ("--train ", "--valid ", "--test ")
_CELL = re.compile(r"(.+)-seed(\d+)")


@dataclass
class State:
    """Where a cell stands, for those who watch."""

    remedy: str
    seed: int
    folder: Path
    status: str = "waiting"
    """waiting, running, done, failed, or stopped where it has fallen behind."""
    step: int = 0
    total: int | None = None
    left: float | None = None
    """Seconds to its last epoch; early stopping only shortens them."""
    text: str = ""
    error: str = ""
    """Why it failed, where its own output does not say."""
    behind: str = ""
    """Why it is not to go on."""
    after: State | None = None
    """The cell that has to be done before."""
    _raced: str = field(default="", repr=False)
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

    def falls_behind(self, grace: int | None) -> bool:
        """Whether it has, by a race with so many epochs of grace, since it was last asked; None for no race."""
        if grace is None or self.status not in ("waiting", "running") or self.remedy == BASELINE:
            return False
        plain = self.folder.with_name(f"{BASELINE}-seed{self.seed}") / METRICS
        if self.status == "running" and (self._raced == self.text or not plain.is_file()):  # Nothing new to compare.
            return False
        self._raced = self.text
        self.behind = hopeless(self.folder / METRICS, plain, grace) or ""
        if self.behind:
            self.status = "stopped"
        return bool(self.behind)


def run(
    fit_arguments: Sequence[str],
    remedies: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    *,
    jobs: int,
    samples: int,
    items: int | None = None,
    data: str | None = None,
    more: Mapping[str, Sequence[str]] | None = None,
    begins: Mapping[str, Sequence[str]] | None = None,
    refused: Mapping[str, str] | None = None,
    where: Where | None = None,
    race: int | None = None,
    show: Callable[[list[State]], None] | None = None,
) -> Comparison:
    """Trains and evaluates every remedy with every seed, and compares them.

    A cell that is done is not run again, and one that was stopped goes on, so that the same command resumes
    a comparison and a longer one extends it. A failed cell is shown with its error; the others finish. An
    interruption ends the processes of the cells.

    Arguments:
        fit_arguments: What every cell hands to `uncollapse fit`.
        remedies: Names of the catalogue, or several joined by "+".
        seeds: Of training.
        out: The comparison's folder.
        jobs: Cells at the same time.
        samples: K, the importance samples of the NLL.
        items: How many items of the test split; None for all.
        data: The fingerprint of the data, where it is known: cells of other data are refused before any is trained.
        more: What the cells of some remedies hand to it besides.
        begins: The entries of the spec in which some remedies name the language model that they start from. It is the
            one of their seed, which is trained before, in this comparison.
        refused: Why some remedies are not run; they are named in the comparison.
        where: Where cells run; on this machine, each with an equal share of the cores, where it is None.
        race: Epochs after which cells far behind plain training are stopped (see `race.hopeless`); None for never.
        show: Called about twice a second with the state of every cell.

    Raises:
        InputError: where the folder holds something else, a comparison of other arguments or other data, or one
            that another process runs.
    """
    if jobs < 1:
        raise InputError(f"{jobs} jobs run nothing: ask for at least 1.")
    _check(out)
    with held(out, "comparing", [CELLS]):
        _open(out, fit_arguments, data)
        states = _states(out, remedies, seeds, begins or {})
        for state in states:
            files.refuse_links(out / CELLS, (state.folder.name, log(state.folder).name))
        _check_data(_everything(out, states), data)
        extra = ["--samples", str(samples), *(["--items", str(items)] if items else []), "--quiet"]
        given = [
            [*fit_arguments, *(more or {}).get(s.remedy, ()), *_start(s, (begins or {}).get(s.remedy, ())), *extra]
            for s in states
        ]
        cells = [_cell(state, arguments) for state, arguments in zip(states, given, strict=True)]

        def begin() -> Engine:
            (out / CELLS).mkdir(exist_ok=True)
            return (where or Where()).begin(out, jobs)

        _train(states, cells, _evaluation(samples, items), begin, jobs, race, show)
        absent = [{"remedy": n, "seed": seeds[0], "absent": f"not run: {why}"} for n, why in (refused or {}).items()]
        found = Comparison([*collect(out, samples, items, states).rows, *absent])
        write_json(out / "comparison.json", found.to_json())
    return found


def _states(
    out: Path, remedies: Sequence[str], seeds: Sequence[int], begins: Mapping[str, Sequence[str]]
) -> list[State]:
    """The cells in their order: what others start from before these, and added where it is not asked for."""
    later = [name for name in remedies if name in begins]
    first = [name for name in remedies if name not in begins]
    if later and LANGUAGE_MODEL not in first:
        first.insert(first[:1] == [BASELINE], LANGUAGE_MODEL)
    found = []
    for seed in seeds:
        cells = {name: State(name, seed, out / CELLS / f"{name}-seed{seed}") for name in [*first, *later]}
        for name in later:
            cells[name].after = cells[LANGUAGE_MODEL]
        found += cells.values()
    return found


def _start(state: State, entries: Sequence[str]) -> list[str]:
    """What names the run that a cell starts from."""
    return [word for one in entries if state.after for word in ("--set", f"{one}={state.after.folder.absolute()}")]


def _cell(state: State, fit_arguments: Sequence[str]) -> Cell:
    told = ("--with", state.remedy, "--seed", str(state.seed), "--out", str(state.folder))
    folder = state.folder.absolute()
    return Cell(("fit", *fit_arguments, *told), folder, log(folder), Path.cwd())


def _train(
    states: list[State],
    cells: Sequence[Cell],
    evaluation: str,
    begin: Callable[[], Engine],
    jobs: int,
    race: int | None,
    show: Callable[[list[State]], None] | None,
) -> None:
    """Runs every cell that is not done, some at a time."""
    for state in states:
        if _figures(state.folder / evaluation) is not None:
            state.status = "done"
    left = [(state, cell) for state, cell in zip(states, cells, strict=True) if state.status != "done"]
    if not left:
        return show(states) if show else None
    engine = begin()
    with held_back(lambda: _STOPPED, _STOPPING) as stopping, ThreadPoolExecutor(jobs) as pool:

        def look() -> None:
            for state, cell in left:
                state.look()
                if state.falls_behind(race):
                    engine.end(cell)

        try:
            _watch(
                [pool.submit(_run_cell, *one, evaluation, engine, race) for one in left], states, look, show, stopping
            )
        finally:  # Of a comparison that has come to its end nothing is left to stop.
            pool.shutdown(wait=False, cancel_futures=True)
            engine.stop()


def collect(out: Path, samples: int, items: int | None = None, asked: Sequence[State] = ()) -> Comparison:
    """What the cells in a comparison's folder came to: those asked for first, and those of earlier commands.

    Raises:
        InputError: where they are of different data.
    """
    states = _everything(out, asked)
    _check_data(states)
    return Comparison([_row(state, _evaluation(samples, items)) for state in states])


def _evaluation(samples: int, items: int | None) -> str:
    return f"evaluation-test-k{samples}" + (f"-n{items}" if items else "") + "-s0.json"


def _check_data(states: Sequence[State], data: str | None = None) -> None:
    """Refuses cells of different data: their items are not the same, so that their differences mean nothing."""
    other = "what is there now"
    for folder in [state.folder for state in states if (state.folder / ENVIRONMENT).is_file()]:
        there = read_environment(folder)["data"]
        if data is None:
            data, other = there, f"`{folder}`"
        if there != data:
            raise InputError(
                f"`{folder}` was trained on other data than {other}: the data has changed. Restore it, or give "
                "another folder for the comparison."
            )


def _check(out: Path) -> None:
    """Refuses a folder that holds something else than a comparison, whole or begun."""
    if out.exists() and not (out / ABOUT).is_file():
        if not out.is_dir() or not {one.name for one in out.iterdir()} <= _BEGUN:
            raise InputError(f"`{out}` is not empty and holds no comparison: give another folder.")


def _open(out: Path, fit_arguments: Sequence[str], data: str | None) -> None:
    """The folder of a comparison holds cells of one experiment only, wherever a text that is known lies now."""
    about = out / ABOUT
    if not about.is_file():
        return write_json(about, {"fit": list(fit_arguments)})
    said = read_json(about)
    if not isinstance(said, dict) or not isinstance(said.get("fit"), list):
        raise InputError(f"`{about}` is damaged: give another folder, or remove that one.")
    there, asked = (_options(arguments, data is not None) for arguments in (said["fit"], fit_arguments))
    if there != asked:
        raise InputError(
            f"the comparison in `{out}` {_difference(there, asked)}: give the arguments that it "
            "was begun with, or another folder."
        )


def _difference(before: Sequence[str], now: Sequence[str]) -> str:
    """How the options asked for differ from those of a comparison, in words."""
    lost = " ".join(one for one in before if one not in now)
    new = " ".join(one for one in now if one not in before)
    if not lost and not new:
        return "was begun with the same arguments in another order"
    return "was begun " + ", and ".join(
        [*([f"with `{lost}`, which is missing now"] if lost else []), *([f"without `{new}`"] if new else [])]
    )


def _options(arguments: Sequence[str], known: bool) -> list[str]:
    """Arguments with their values, such as "--seed 1"; where the text is known, without the places it lies at."""
    options: list[list[str]] = []
    for word in arguments:
        if not options or word.startswith("--"):
            options.append([])
        options[-1].append(word)
    said = [_PACKAGED.sub(r"\1", " ".join(option)) for option in options]
    return [option for option in said if not (known and option.startswith(_TEXT))]


def _run_cell(state: State, cell: Cell, evaluation: str, engine: Engine, race: int | None) -> None:
    if state.falls_behind(race) or state.status == "stopped":  # It did in an earlier command.
        return
    if state.after and not _is_done(state.after):
        state.status, state.error = "failed", _NO_START
        return
    state.status = "running"
    ended, state.error = engine.run(cell)
    if state.status == "stopped":
        return
    if ended == 0 and _figures(state.folder / evaluation) is None:
        ended, state.error = 1, "it ended without an error, and left no figures that can be used."
    state.status = "failed" if ended else "done"


def _is_done(state: State) -> bool:
    """Whether a cell has come to its end, for which this waits; it has its own worker."""
    while state.status in ("waiting", "running"):
        time.sleep(_LOOK)
    return state.status == "done"


def _watch(
    ends: Sequence[Future[None]],
    states: list[State],
    look: Callable[[], None],
    show: Callable[[list[State]], None] | None,
    stopping: Callable[[], bool],
) -> None:
    """Shows how far the cells are until all have ended, or until they are to stop."""
    while not all(end.done() for end in ends):
        time.sleep(_LOOK)
        if stopping():
            return
        look()
        if show:
            show(states)
    for end in ends:
        end.result()
    if show:
        show(states)


def _everything(out: Path, states: Sequence[State]) -> list[State]:
    """The cells asked for and those that are there; what has not the name of a cell is none."""
    asked, cells = {state.folder.name for state in states}, out / CELLS
    earlier = sorted(p for p in cells.iterdir() if p.is_dir() and p.name not in asked) if cells.is_dir() else []
    named = [(p, match) for p in earlier if (match := _CELL.fullmatch(p.name))]
    return [*states, *(State(match[1], int(match[2]), p, "done") for p, match in named)]


def _row(state: State, evaluation: str) -> dict[str, Any]:
    row: dict[str, Any] = {"remedy": state.remedy, "seed": state.seed}
    figures = _figures(state.folder / evaluation)
    if figures is None:
        if state.behind:
            return {**row, "absent": state.behind}
        failed = state.status == "failed"
        return {**row, "error": state.error or _error(state)} if failed else {**row, "absent": ABSENT}
    return {
        **figures,
        **row,
        "folder": str(state.folder),
        "rows": _rows(evaluation),
    }


def _figures(path: Path) -> dict[str, Any] | None:
    """The figures of a cell; None where there are none, or where they are damaged or not those of the rows beside them.

    Those that name no rows, being of an earlier version, are made again too.
    """
    from uncollapse.metrics.rows import Rows

    try:
        figures = read_json(path)
        needed = {*FIGURES, "seconds", "cpu_seconds", "verdict", "rows_digest"}
        if not isinstance(figures, dict) or not needed <= figures.keys():
            return None
        Rows.load(path.with_name(f"{_rows(path.name)}.safetensors"), figures["rows_digest"] or "")
    except InputError:
        return None
    # Somebody may have looked at a cell before it was trained to its end.
    return figures if figures.get("finished", True) else None


def _rows(evaluation: str) -> str:
    return evaluation.replace("evaluation", "rows")[:-5]


def _error(state: State) -> str:
    there = log(state.folder).is_file()
    lines = log(state.folder).read_text(encoding="utf-8", errors="replace").split("\n") if there else []
    said = [line for line in lines if line.strip()]
    return said[-1] if said else "it said nothing."


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
