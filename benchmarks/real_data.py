"""Aggressive training and its rivals on real text and on the synthetic set: runs, resumes and reports.

    python benchmarks/real_data.py run FOLDER --data SNLI_FOLDER [--jobs 2] [--seeds 3]
    python benchmarks/real_data.py report FOLDER --keep docs/results/real-data

The report prints the tables in markdown from what is there, and keeps the figures behind them as JSON.

Every comparison can be stopped and goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from uncollapse.experiment import compare
from uncollapse.experiment.execute import judge
from uncollapse.experiment.run import epochs, write_json
from uncollapse.experiment.summary import Comparison
from uncollapse.metrics.rows import Rows

REMEDIES = ["plain", "beta", "anneal", "slow-anneal", "aggressive", "aggressive+anneal"]
PLAYERS = ("inference", "generation")
#: The control of docs/aggressive.md: Adam and PyTorch's default initialisation.
ADAM = ["model.initialisation=torch"]
ADAM += [f"training.optimisers.{p}.{k}" for p in PLAYERS for k in ("kind=adam", "learning_rate=1e-3")]
SAMPLES, MANY, FEW = 50, 500, 100


class Part(NamedTuple):
    """A comparison, and what its rows are called beside those of the main one of its data set."""

    name: str
    label: str
    fit: list[str]
    remedies: list[str]


def parts(folder: Path, data: Path) -> Iterator[Part]:
    """The comparisons, each data set's main one first."""
    files = [f"--{split}={data / f'snli_18k.{split}.txt.gz'}" for split in ("train", "valid", "test")]
    snli, synthetic = ["text", "--recipe", "snli-small", *files], ["synthetic", "--recipe", "he2019-synthetic"]
    for name, fit in (("snli", snli), ("synthetic", synthetic)):
        yield Part(name, "", fit, REMEDIES)
        yield Part(f"{name}-adam", ", Adam", [*fit, *_sets(ADAM)], ["plain", "aggressive"])
        yield Part(f"{name}-long", ", as long", [*fit, *_sets(_as_long(folder / name))], ["plain"])


def _sets(overrides: list[str]) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


def _as_long(folder: Path) -> list[str]:
    """What makes plain training take as long as aggressive training did: the first decay comes later."""
    cells = {r: sorted((folder / "cells").glob(f"{r}-seed?")) for r in ("plain", "aggressive")}
    lines = {remedy: [epochs(cell) for cell in found] for remedy, found in cells.items()}
    if not all(lines.values()):
        return []
    spent = {remedy: mean(run[-1]["cpu_seconds"] for run in runs) for remedy, runs in lines.items()}
    plain = mean(len(run) for run in lines["plain"])
    more = round(plain * (spent["aggressive"] / spent["plain"] - 1))
    return [f"training.plateau.not_before={15 + max(0, more)}", "training.max_epochs=1000"]


def run(folder: Path, data: Path, jobs: int, seeds: int) -> None:
    """Runs every comparison: the main ones seed by seed, then the controls likewise, now that the times are known."""
    for main in (True, False):
        for seed in range(seeds):
            for part in parts(folder, data):
                if (not part.label) == main:
                    compare.run(part.fit, part.remedies, [seed], folder / part.name, jobs=jobs, samples=SAMPLES)
        for cell in sorted((folder / "snli" / "cells").glob("*-seed?")) if main else ():
            judge(cell, samples=MANY, items=FEW)


def report(folder: Path, keep: Path) -> None:
    """Prints the tables of both data sets in markdown, with their controls, and keeps their figures."""
    keep.mkdir(parents=True, exist_ok=True)
    for data in ("snli", "synthetic"):
        rows = []
        for part in parts(folder, Path()):
            if part.name.split("-")[0] == data and (folder / part.name / "cells").is_dir():
                found = compare.collect(folder / part.name, SAMPLES)
                rows += [{**row, "remedy": row["remedy"] + part.label} for row in found.rows if "error" not in row]
        found = Comparison(sorted(rows, key=lambda row: ("," in row["remedy"], _place(row["remedy"]), row["seed"])))
        print(f"\n## {data}\n")
        markdown(found.table())
        print()
        markdown(found.differences())
        write_json(keep / f"{data}.json", found.to_json())
        hours = sum(row["cpu_seconds"]["value"] for row in rows) / 3600
        print(f"\nProcessor time of training: {hours:.1f} core-hours over {len(rows)} runs.")
    _gap(folder / "snli")


def _place(remedy: str) -> int:
    return REMEDIES.index(remedy.split(",")[0])


def _gap(folder: Path) -> None:
    """What more importance samples change on the same items."""
    print(f"\nNLL with K = {MANY} less NLL with K = {SAMPLES}, on the same {FEW} items:\n")
    table = [["run", "difference in nats an item"]]
    for path in sorted(folder.glob(f"cells/*/rows-test-k{MANY}-n{FEW}-s0.safetensors")):
        many, few = Rows.load(path), Rows.load(path.with_name(f"rows-test-k{SAMPLES}-s0.safetensors"))
        assert many.log_evidence is not None
        assert few.log_evidence is not None
        change = few.log_evidence[many.items] - many.log_evidence
        table.append([path.parent.name, f"{change.mean():+.3f} ± {change.std() / len(change) ** 0.5:.3f}"])
    markdown(table)


def markdown(table: list[list[str]]) -> None:
    """Prints a table."""
    print("| " + " | ".join(table[0]) + " |", "|" + "---|" * len(table[0]), sep="\n")
    print(*("| " + " | ".join(row) + " |" for row in table[1:]), sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help="the folder with snli_18k.{train,valid,test}.txt.gz")
    parser.add_argument("--keep", type=Path, default=Path("docs/results/real-data"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    if given.what == "report":
        report(given.folder, given.keep)
    else:
        run(given.folder, given.data.resolve(), given.jobs, given.seeds)
