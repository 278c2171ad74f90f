"""Cheaper ways to train aggressively, against the faithful one and against plain training: runs, resumes and reports.

    python benchmarks/cheaper_aggressive.py run FOLDER --data SNLI_FOLDER [--jobs 2] [--seeds 3]
    python benchmarks/cheaper_aggressive.py report FOLDER --keep docs/results/cheaper-aggressive

The report prints the tables in markdown from what is there, and keeps the figures behind them as JSON. A run can be
stopped and goes on where it was; `--only` names some of the data sets and candidates, `--set` changes the spec of all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from real_data import markdown
from uncollapse.experiment import compare
from uncollapse.experiment.run import write_json
from uncollapse.experiment.summary import BASELINE, Comparison

SAMPLES = 50
PROCEDURE = "training.procedure"
OWN, LAST = f"{PROCEDURE}.clip=own", f"{PROCEDURE}.clip=last"
#: Encoder steps under the joint norm are about ten times shorter than under their own.
SHORT = f"{PROCEDURE}.inner_clip=0.5"
HALF = f"{PROCEDURE}.share=0.5"
ADAM = ["training.optimisers.inference.kind=adam", "training.optimisers.inference.learning_rate=1e-3"]


def _budget(steps: int) -> str:
    return f"{PROCEDURE}.budget={steps}"


#: By name, the remedy of the catalogue and what is changed of it.
CANDIDATES: dict[str, tuple[str, list[str]]] = {
    BASELINE: (BASELINE, []),
    "aggressive": ("aggressive", []),
    "own": ("aggressive", [OWN]),
    "own-short": ("aggressive", [OWN, SHORT]),
    "last": ("aggressive", [LAST]),
    "half": ("aggressive", [LAST, HALF]),
    "own-short-half": ("aggressive", [OWN, SHORT, HALF]),
    "window-20": ("aggressive", [f"{PROCEDURE}.window=20"]),
    "window-30": ("aggressive", [f"{PROCEDURE}.window=30"]),
    "budget-15": ("aggressive-budget", [_budget(15)]),
    "budget-8": ("aggressive-budget", [_budget(8)]),
    "last-8": ("aggressive-budget", [LAST, _budget(8)]),
    "last-8-half": ("aggressive-budget", [LAST, _budget(8), HALF]),
    "own-short-8": ("aggressive-budget", [OWN, SHORT, _budget(8)]),
    "own-short-8-half": ("aggressive-budget", [OWN, SHORT, _budget(8), HALF]),
    "own-short-3": ("aggressive-budget", [OWN, SHORT, _budget(3)]),
    "adam-5": ("aggressive-budget", [OWN, _budget(5), *ADAM]),
    "adam-5-half": ("aggressive-budget", [OWN, _budget(5), HALF, *ADAM]),
    "adam-encoder": (BASELINE, ADAM),
}


def data_sets(data: Path) -> dict[str, list[str]]:
    """What `uncollapse fit` is told of each data set."""
    files = [f"--{split}={data / f'snli_18k.{split}.txt.gz'}" for split in ("train", "valid", "test")]
    return {
        "snli": ["text", "--recipe", "snli-small", *files],
        "synthetic": ["synthetic", "--recipe", "he2019-synthetic"],
    }


def run(given: argparse.Namespace) -> None:
    """Every candidate on every data set, all seeds of one before the next."""
    for name, fit in _wanted(data_sets(given.data.resolve()), given.only):
        for candidate, (remedy, changes) in _wanted(CANDIDATES, given.only):
            words = [word for change in [*changes, *given.set] for word in ("--set", change)]
            out, seeds = given.folder / name / candidate, range(given.seeds)
            compare.run([*fit, *words], [remedy], seeds, out, jobs=given.jobs, samples=SAMPLES)
            print(f"{name}: {candidate}: done", flush=True)


def _wanted(table: dict[str, Any], only: list[str]) -> Iterator[tuple[str, Any]]:
    """The entries that were asked for by name, or all."""
    named = set(only) & table.keys()
    yield from ((name, value) for name, value in table.items() if not named or name in named)


def report(folder: Path, keep: Path) -> None:
    """Prints each data set's tables, time relative to plain training with the same seed, and keeps their figures."""
    keep.mkdir(parents=True, exist_ok=True)
    for data in data_sets(Path()):
        rows = []
        for candidate in CANDIDATES:
            if (folder / data / candidate / "cells").is_dir():
                found = compare.collect(folder / data / candidate, SAMPLES)
                rows += [{**row, "remedy": candidate} for row in found.rows]
        if rows:
            found = Comparison(rows)
            print(f"\n## {data}\n")
            markdown(found.table())
            print()
            markdown(found.differences())
            write_json(keep / f"{data}.json", found.to_json())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=Path(), help="the folder with snli_18k.{train,valid,test}.txt.gz")
    parser.add_argument("--keep", type=Path, default=Path("docs/results/cheaper-aggressive"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--set", nargs="+", default=[])
    given = parser.parse_args()
    if given.what == "report":
        report(given.folder, given.keep)
    else:
        run(given)
