"""Aggressive training and its rivals on real text and on the synthetic set: runs, resumes and reports.

    python benchmarks/real_data.py run FOLDER --data SNLI_FOLDER [--jobs 2] [--seeds 3]
    python benchmarks/real_data.py report FOLDER --keep docs/results/real-data

The report prints the tables in markdown from what is there, and keeps the figures behind them as JSON.

Every comparison can be stopped and goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from math import nan
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from uncollapse.experiment import compare
from uncollapse.experiment.execute import judge, keep
from uncollapse.experiment.run import epochs, read_json, write_json
from uncollapse.experiment.summary import FIGURES, Comparison, Difference
from uncollapse.metrics.rows import Rows

REMEDIES = ["plain", "beta", "anneal", "slow-anneal", "aggressive", "aggressive+anneal"]
PLAYERS = ("inference", "generation")
#: The control of docs/aggressive.md: Adam and PyTorch's default initialisation.
ADAM = ["model.initialisation=torch"]
ADAM += [f"training.optimisers.{p}.{k}" for p in PLAYERS for k in ("kind=adam", "learning_rate=1e-3")]
SAMPLES, MANY, FEW = 50, 500, 100
KEPT = ("remedy", "seed", *FIGURES, "seconds", "cpu_seconds", "verdict", "warnings")
Row = dict[str, Any]


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
    """What makes plain training take as long as aggressive training did with one seed: the first decay comes later."""
    cells = sorted((folder / "cells").glob("aggressive-seed?"))
    if not cells:
        return []
    plain, aggressive = epochs(cells[0].with_name(cells[0].name.replace("aggressive", "plain"))), epochs(cells[0])
    more = round(len(plain) * (aggressive[-1]["cpu_seconds"] / plain[-1]["cpu_seconds"] - 1))
    return [f"training.plateau.not_before={15 + max(0, more)}", "training.max_epochs=1000"]


def run(folder: Path, data: Path, jobs: int, seeds: int) -> None:
    """Runs every comparison: the main ones seed by seed, then the controls likewise, now that the times are known."""
    for main in (True, False):
        for seed in range(seeds):
            for part in parts(folder, data):
                if (not part.label) == main:
                    compare.run(part.fit, part.remedies, [seed], folder / part.name, jobs=jobs, samples=SAMPLES)
        for cell in sorted((folder / "snli" / "cells").glob("*-seed?")) if main else ():
            keep(cell, judge(cell, samples=MANY, items=FEW))


def report(folder: Path, keep: Path) -> None:
    """Prints the tables of both data sets in markdown, with their controls, and keeps their figures."""
    keep.mkdir(parents=True, exist_ok=True)
    for data in ("snli", "synthetic"):
        print(f"\n## {data}\n")
        rows = merge(_rows(folder, data), keep / f"{data}.json", _place)
        hours = sum(row["cpu_seconds"]["value"] for row in rows) / 3600
        print(f"\nProcessor time of training: {hours:.1f} core-hours over {len(rows)} runs.")
    _gap(folder / "snli")


def merge(here: list[Row], kept: Path, place: Callable[[str], Any]) -> list[Row]:
    """Prints the tables of finished cells in the order of their remedies' places, and keeps their figures.

    Figures kept before stand for the cells that are not here: a cell is a function of its spec and seed.
    """
    here = _ordered(here, place)
    cells = {(row["remedy"], row["seed"]) for row in here}
    before = read_json(kept) if kept.is_file() else {"rows": [], "differences": {}}
    rows = _ordered(here + [row for row in before["rows"] if (row["remedy"], row["seed"]) not in cells], place)
    now = Comparison(here).to_json()["differences"]
    paired = {**before["differences"], **{remedy: figures for remedy, figures in now.items() if figures}}
    markdown(Comparison(rows).table())
    print()
    markdown(_differences(rows, paired))
    write_json(kept, {"rows": [{k: row[k] for k in KEPT if k in row} for row in rows], "differences": paired})
    return rows


def _rows(folder: Path, data: str) -> list[Row]:
    """The finished cells of a data set, the controls labelled."""
    rows = []
    for part in parts(folder, Path()):
        if part.name.split("-")[0] == data and (folder / part.name / "cells").is_dir():
            found = compare.collect(folder / part.name, SAMPLES)
            rows += [{**row, "remedy": row["remedy"] + part.label} for row in found.rows if "verdict" in row]
    return rows


def _ordered(rows: list[Row], place: Callable[[str], Any]) -> list[Row]:
    return sorted(rows, key=lambda row: (place(row["remedy"]), row["remedy"], row["seed"]))


def _differences(rows: list[Row], paired: dict[str, Any]) -> list[list[str]]:
    """Paired differences to plain over all seeds; the error over items is of the seeds that were at hand together."""
    cells = {(row["remedy"], row["seed"]): row for row in rows}
    table = [["remedy − plain", "NLL", "−ELBO"]]
    for remedy in dict.fromkeys(row["remedy"] for row in rows if row["remedy"] != "plain"):
        line = [remedy]
        for figure in ("nll", "neg_elbo"):
            pairs = [(cells[r, s], cells["plain", s]) for r, s in cells if r == remedy and ("plain", s) in cells]
            values = [one[figure]["value"] - plain[figure]["value"] for one, plain in pairs]
            seeds = stdev(values) / len(values) ** 0.5 if len(values) > 1 else nan
            items = paired[remedy][figure]["over_items"] if remedy in paired else nan
            said = str(Difference(mean(values), items, seeds, len(values)))
            if remedy not in paired:
                said = said.replace("(", "(items unpaired, ") if "(" in said else f"{said} (items unpaired)"
            line.append(said)
        table.append(line)
    return table


def _place(remedy: str) -> tuple[bool, int]:
    """The controls come last."""
    return "," in remedy, REMEDIES.index(remedy.split(",")[0])


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
