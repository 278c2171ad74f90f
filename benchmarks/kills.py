"""Kills trainings by SIGKILL at random and at chosen moments, and holds how they end against runs never killed.

    python benchmarks/kills.py FOLDER [--kills 200] [--seed 0]

Each of a few tiny trainings (plain, anneal, aggressive, aggressive+anneal; several epochs, decays of the learning
rate with a reload, a checkpoint every few steps) runs once whole. Then the same training is killed, started again,
killed again, up to five times, and let end. Weights, optimisers, metrics and probe must be the same, bit for bit;
only times may differ. Every second kill comes from outside after a random delay, the others fall at named moments
in turn, such as half of a checkpoint written. The script can be stopped itself and goes on where it was.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}  # Before torch is imported.

import argparse
import json
import mmap
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch

from uncollapse import files
from uncollapse.cli.options import Options
from uncollapse.experiment import execute
from uncollapse.experiment.probe import Probe
from uncollapse.experiment.spec import Spec
from uncollapse.training import state
from uncollapse.training.checkpoints import Checkpoints, newest_best, read
from uncollapse.training.listeners import TOLD, JSONLines, Moment
from uncollapse.training.loop import Loop
from uncollapse.training.players import Player
from uncollapse.training.procedures import Aggressive
from uncollapse.training.validation import Validation

REMEDIES = ("plain", "anneal", "aggressive", "aggressive+anneal")
KILLS_A_RUN = 5
CHECKPOINT_SECONDS = 0.02

#: The phases of a training, to say where a kill from outside fell.
PHASES = ("start", "step", "inner step", "validation", "decay", "checkpoint", "log", "probe", "end of epoch")
#: The moments at which a training kills itself.
MOMENTS = (
    "inside a validation",
    "half of `last` written",
    "between the steps of two players",
    "in a decay, the best loaded back",
    "`best` written, `last` not",
    "before the rename of a file",
    "new `last` there, old ones not deleted",
    "epoch told, not saved",
    "half of `best` written",
    "half a line of the log written",
    "half of the probe written",
    "state restored, nothing told",
    "log cut back",
    "half of the spec or its like written",
)
INNER = "inside an inner loop"


def spec_of(remedy: str, text: Path) -> Spec:
    """A training of a second or so."""
    small = ("encoder.embedding", "encoder.hidden", "decoder.embedding", "decoder.hidden")
    values = {f"model.{name}": 6 for name in small} | {"model.latent": 2, "data.batch_size": 6}
    values |= {"training.max_epochs": 8, "training.plateau.patience": 1, "training.plateau.not_before": 1}
    values |= {f"training.optimisers.{player}.learning_rate": 2.0 for player in ("inference", "generation")}
    if "aggressive" in remedy:
        values |= {"training.procedure.window": 2, "training.procedure.limit": 6}
        values |= {"training.procedure.until.max_epochs": 5, "training.procedure.until.min_steps": 999}
    overrides = tuple(f"{path}={value}" for path, value in values.items())
    return Options(train=text, overrides=overrides).spec("text", [remedy], 0)


def write_text(path: Path) -> Path:
    draw = random.Random(0)
    words = [["the", "a"], ["cat", "dog", "bird"], ["sees", "likes"], ["the", "a"], ["fish", "fox", "owl"]]
    lines = [" ".join(draw.choice(choice) for choice in words[: draw.choice([3, 5])]) for _ in range(90)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# A training in a process of its own, that may be killed.


class Plan(NamedTuple):
    """When to kill a training: after a delay from outside, or by itself at the n-th time of a moment."""

    delay: float | None = None
    moment: str = ""
    time: int = 1


class Ended(NamedTuple):
    """How a process ended."""

    where: str
    """What a kill fell into; "" where the training ended."""
    counts: dict[str, int]
    """How often it passed each moment."""


def launch(spec: Spec, folder: Path, plan: Plan = Plan()) -> Ended:  # noqa: B008 - immutable
    """Trains in a fork of this process under a plan."""
    shared = mmap.mmap(-1, 4096)
    child = os.fork()
    if not child:
        _train(spec, folder, plan, shared)
    if plan.delay is not None:
        time.sleep(plan.delay)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    phase, *counts = shared[: len(MOMENTS) + 2]
    passed = dict(zip([*MOMENTS, INNER], counts, strict=True)) | {MOMENTS[11]: 1}  # Passed by who goes on.
    if os.WIFEXITED(status):
        if os.WEXITSTATUS(status):
            raise SystemExit(f"a training in {folder} failed: see above.")
        return Ended("", passed)
    return Ended(plan.moment or f"in {PHASES[phase]}, after a random delay", passed)


def _train(spec: Spec, folder: Path, plan: Plan, shared: mmap.mmap) -> None:
    """The child: never returns."""
    status = 1
    try:
        _mine(plan, shared)
        execute.train(spec, folder, {"remedy": "kills"}, checkpoint_seconds=CHECKPOINT_SECONDS)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _mine(plan: Plan, shared: mmap.mmap) -> None:
    """Makes a training count the moments that it passes, say its phase, and kill itself as planned."""
    names = [*MOMENTS, INNER]

    def here(moment: str) -> bool:
        place = 1 + names.index(moment)
        shared[place] = min(255, shared[place] + 1)
        return (moment, shared[place]) == (plan.moment, plan.time)

    def passes(moment: str) -> None:
        if here(moment):
            os.kill(os.getpid(), signal.SIGKILL)

    _say_phases(shared)
    _around(Validation, "validate", inside=True)
    _around(Loop, "_decay", inside=True)
    _around(Aggressive, "_catch_up", inside=True)
    _before(Player, "renew", lambda *_: _INSIDE["_decay"] and passes(MOMENTS[3]))
    _before(Player, "step", lambda *_: passes(INNER if _INSIDE["_catch_up"] else MOMENTS[2]))
    _before(os, "fsync", lambda *_: passes(MOMENTS[5]))
    _after(Checkpoints, "_write", lambda _, folder, name, *__: passes(MOMENTS[4 if "best" in name else 6]))
    _after(Loop, "_tell", lambda _, kind, *__: _told(kind, passes))
    _after(state, "restore", lambda *_: passes(MOMENTS[11]))
    _before(JSONLines, "__call__", lambda log, moment: _half_a_line(log, moment, here))
    from uncollapse.metrics import rows

    _before(rows, "_measure", lambda *_: _INSIDE["validate"] and passes(MOMENTS[0]))
    files.replacing = _halving(files.replacing, here)


_INSIDE: Counter[str] = Counter()


def _told(kind: str, passes: Callable[[str], None]) -> None:
    if kind == "epoch":
        passes(MOMENTS[7])
    if kind == "start":
        passes(MOMENTS[12])


def _half_a_line(log: JSONLines, moment: Moment, here: Callable[[str], bool]) -> None:
    if moment.kind in TOLD and here(MOMENTS[9]):
        with log.path.open("a", encoding="utf-8") as file:
            file.write('{"kind": "window", "st')
        os.kill(os.getpid(), signal.SIGKILL)


def _halving(replacing: Any, here: Callable[[str], bool]) -> Any:
    """Files that stop in the middle of a write."""
    kinds = {"last": MOMENTS[1], "best": MOMENTS[8], "step": MOMENTS[10]}

    class Half:
        def __init__(self, file: BinaryIO) -> None:
            self.file = file

        def write(self, content: Any) -> None:
            self.file.write(bytes(content)[: len(content) // 2])
            self.file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def halved(path: Path) -> Iterator[Any]:
        with replacing(path) as file:
            yield Half(file) if here(kinds.get(path.name.split("-")[0], MOMENTS[13])) else file

    return halved


def _say_phases(shared: mmap.mmap) -> None:
    says = {
        (Loop, "_outer_step"): "step",
        (Aggressive, "_catch_up"): "inner step",
        (Loop, "_end_epoch"): "end of epoch",
        (Validation, "validate"): "validation",
        (Loop, "_decay"): "decay",
        (Checkpoints, "_write"): "checkpoint",
        (JSONLines, "__call__"): "log",
        (Probe, "__call__"): "probe",
    }
    for (home, name), phase in says.items():
        _around(home, name, shared=shared, phase=PHASES.index(phase))


def _around(home: Any, name: str, shared: Any = None, phase: int = 0, inside: bool = False) -> None:
    plain = getattr(home, name)

    def wrapped(*given: Any, **named: Any) -> Any:
        before = shared[0] if shared else 0
        _INSIDE[name] += inside
        if shared:
            shared[0] = phase
        try:
            return plain(*given, **named)
        finally:
            _INSIDE[name] -= inside
            if shared:
                shared[0] = before

    setattr(home, name, wrapped)


def _before(home: Any, name: str, do: Callable[..., Any]) -> None:
    plain = getattr(home, name)
    setattr(home, name, lambda *given, **named: (do(*given, **named), plain(*given, **named))[1])


def _after(home: Any, name: str, do: Callable[..., Any]) -> None:
    plain = getattr(home, name)
    setattr(home, name, lambda *given, **named: (plain(*given, **named), do(*given, **named))[0])


# What must be the same.


def differences(whole: Path, other: Path) -> list[str]:
    """In what two runs differ, their times aside."""
    found = [name for name in ("spec.yaml", "vocabulary.json") if _bytes(whole, name) != _bytes(other, name)]
    found += ["metrics.jsonl"] * (_log(whole) != _log(other))
    names = [sorted(p.name for p in (folder / "probe").iterdir()) for folder in (whole, other)]
    found += ["names of the probe"] * (names[0] != names[1])
    found += [name for name in names[0] if _bytes(whole / "probe", name) != _bytes(other / "probe", name)]
    found += ["last"] * (not _same(*(_last(folder) for folder in (whole, other))))
    found += ["best"] * (not _same(*(newest_best(folder / "checkpoints") for folder in (whole, other))))
    left = [path.name for path in other.rglob("*.partial")]
    return found + left


def _bytes(folder: Path, name: str) -> bytes | None:
    return (folder / name).read_bytes() if (folder / name).is_file() else None


def _log(folder: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [_timeless(record) for record in records]


def _last(folder: Path) -> Any:
    return read(Checkpoints(folder / "checkpoints").newest_first()[0])


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if "seconds" not in name}


def _same(a: Any, b: Any) -> bool:
    alike = a.tensors.keys() == b.tensors.keys() and _timeless(a.state) == _timeless(b.state)
    return alike and all(torch.equal(tensor, b.tensors[name]) for name, tensor in a.tensors.items())


# The whole.


class Whole(NamedTuple):
    """A run that was never killed."""

    spec: Spec
    folder: Path
    seconds: float
    counts: dict[str, int]


def references(folder: Path) -> dict[str, Whole]:
    """Every remedy's run that is never killed; made anew each time, to measure how long it takes now."""
    text, found = write_text(folder / "text.txt"), {}
    # Torch imports as much again when it first trains: here once, and not in every fork.
    shutil.rmtree(folder / "first", ignore_errors=True)
    execute.train(spec_of("plain", text), folder / "first", {})
    for remedy in REMEDIES:
        spec, out = spec_of(remedy, text), folder / remedy / "whole"
        shutil.rmtree(out, ignore_errors=True)
        print(f"{remedy}, never killed", file=sys.stderr)
        began = time.perf_counter()
        ended = launch(spec, out)
        found[remedy] = Whole(spec, out, time.perf_counter() - began, ended.counts)
    return found


def plan(whole: Whole, number: int, hits: Counter[str], draw: random.Random) -> Plan:
    """The plan of one kill: from outside, or at the moment that was hit least of those that this training passes."""
    if number % 2:
        return Plan(delay=draw.uniform(0, whole.seconds))
    moment = min((name for name in (INNER, *MOMENTS) if whole.counts[name]), key=hits.__getitem__)
    return Plan(moment=moment, time=draw.randint(1, max(1, min(60, whole.counts[moment]) // 3)))


def killed_run(whole: Whole, folder: Path, first: int, last: int, hits: Counter[str], seed: str) -> dict[str, Any]:
    """One training, killed again and again and then let end, held against the whole one."""
    shutil.rmtree(folder, ignore_errors=True)
    kills: list[str] = []
    draw = random.Random(seed)
    for number in range(first, last):
        ended = launch(whole.spec, folder, plan(whole, number, hits + Counter(kills), draw))
        if not ended.where:
            break
        kills.append(ended.where)
    launch(whole.spec, folder)
    return {"kills": kills, "differs": differences(whole.folder, folder)}


def main(folder: Path, wanted: int, seed: int) -> int:
    """Kills until there were enough kills, prints the table, and answers the exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / f"kills-seed{seed}.jsonl"
    lines = record.read_text(encoding="utf-8").splitlines() if record.is_file() else []
    done = [json.loads(line) for line in lines]
    torch.set_num_threads(1)  # A fork must find no other threads.
    wholes = references(folder)
    while (so_far := sum(len(run["kills"]) for run in done)) < wanted:
        remedy = REMEDIES[len(done) % len(REMEDIES)]
        hits = Counter(kill for run in done for kill in run["kills"])
        last = min(so_far + KILLS_A_RUN, wanted)
        run = killed_run(wholes[remedy], folder / remedy / "killed", so_far, last, hits, f"{seed}/{len(done)}")
        done.append({"remedy": remedy, **run})
        with record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(done[-1]) + "\n")
    return report(done)


def report(done: list[dict[str, Any]]) -> int:
    where = Counter(kill for run in done for kill in run["kills"])
    by_remedy = Counter(run["remedy"] for run in done for _ in run["kills"])
    print("| kills | where they fell |", "|---:|---|", sep="\n")
    print(*(f"| {number} | {place} |" for place, number in sorted(where.items())), sep="\n")
    print(f"\n{sum(where.values())} kills in {len(done)} runs (", end="")
    print(", ".join(f"{remedy} {number}" for remedy, number in by_remedy.items()), end=").\n")
    wrong = [run for run in done if run["differs"]]
    for run in wrong:
        print(f"{run['remedy']} differs in {', '.join(run['differs'])} after: {'; '.join(run['kills'])}")
    print(f"mismatches: {len(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.exit(main(given.folder.resolve(), given.kills, given.seed))
