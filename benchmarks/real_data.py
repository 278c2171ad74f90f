"""Aggressive training and its rivals on real text and on the synthetic set: runs, resumes and reports.

    python benchmarks/real_data.py run FOLDER --data SNLI_FOLDER [--jobs 2] [--seeds 3]
    python benchmarks/real_data.py report FOLDER

Every comparison can be stopped and goes on where it was. The report prints markdown from what is there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from uncollapse.experiment import compare
from uncollapse.experiment.execute import judge
from uncollapse.experiment.summary import Comparison

REMEDIES = ["plain", "beta", "anneal", "slow-anneal", "aggressive", "aggressive+anneal"]
PLAYERS = ("inference", "generation")
#: The control of docs/aggressive.md: Adam and PyTorch's default initialisation.
ADAM = ["model.initialisation=torch"]
ADAM += [f"training.optimisers.{p}.{k}" for p in PLAYERS for k in ("kind=adam", "learning_rate=1e-3")]
#: Plain training with as many epochs before the first decay as make it take as long as aggressive training did.
LONG = {"snli": ["training.plateau.not_before=300", "training.max_epochs=600"]}
SAMPLES, MANY, FEW_ITEMS = 50, 500, 100


def comparisons(data: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Name, what every cell hands to `fit`, and remedies of each comparison."""
    files = [f"--{split}={data / f'snli_18k.{split}.txt.gz'}" for split in ("train", "valid", "test")]
    snli, synthetic = ["text", "--recipe", "snli-small", *files], ["synthetic", "--recipe", "he2019-synthetic"]
    yield "snli", snli, REMEDIES
    yield "snli-adam", [*snli, *_sets(ADAM)], ["plain", "aggressive"]
    yield "snli-long", [*snli, *_sets(LONG["snli"])], ["plain"]
    yield "synthetic", synthetic, REMEDIES
    yield "synthetic-adam", [*synthetic, *_sets(ADAM)], ["plain", "aggressive"]


def _sets(overrides: list[str]) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


def run(folder: Path, data: Path, jobs: int, seeds: int) -> None:
    """Runs every comparison, the seeds one after the other so that what is there early is balanced."""
    for last in range(1, seeds + 1):
        for name, arguments, remedies in comparisons(data):
            compare.run(arguments, remedies, range(last), folder / name, jobs=jobs, samples=SAMPLES)
    for cell in sorted((folder / "snli" / "cells").iterdir()):
        if (cell / f"evaluation-test-k{SAMPLES}-s0.json").is_file():
            judge(cell, samples=MANY, items=FEW_ITEMS)


def report(folder: Path) -> None:
    """Prints the tables in markdown."""
    for path in sorted(folder.glob("*/cells")):
        found = compare.collect(path.parent, SAMPLES)
        print(f"\n## {path.parent.name}\n")
        _markdown(found.table())
        if len(found.differences()) > 1:
            print()
            _markdown(found.differences())
        print(f"\nProcessor time of training: {_hours(found):.1f} core-hours.")


def _markdown(table: list[list[str]]) -> None:
    print("| " + " | ".join(table[0]) + " |", "|" + "---|" * len(table[0]), sep="\n")
    print(*("| " + " | ".join(row) + " |" for row in table[1:]), sep="\n")


def _hours(found: Comparison) -> float:
    return sum(row["cpu_seconds"]["value"] for row in found.rows if "cpu_seconds" in row) / 3600


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help="the folder with snli_18k.{train,valid,test}.txt.gz")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    if given.what == "report":
        report(given.folder)
    else:
        run(given.folder, given.data.resolve(), given.jobs, given.seeds)
