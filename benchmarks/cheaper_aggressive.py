"""Cheaper ways to train aggressively, against the faithful one and against plain training: runs, resumes and reports.

    python benchmarks/cheaper_aggressive.py run FOLDER --data DATA [--jobs 2] [--seeds 0 1 2] [--only snli plain ...]
    python benchmarks/cheaper_aggressive.py report FOLDER --keep docs/results/cheaper-aggressive

A run can be stopped and goes on where it was; `--only` names some of the data sets and candidates. The report prints
the tables in markdown from what is there, and keeps the figures behind them as JSON. Candidates are chosen by the
validation split of the first two data sets, which is their last table; the test split then says what they came to, and
the third set, on which nothing was chosen, whether it is true elsewhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from real_data import Row, markdown, merge
from uncollapse.experiment import compare
from uncollapse.experiment.run import epochs
from uncollapse.experiment.summary import BASELINE

SAMPLES = 50
PROCEDURE = "training.procedure"
OWN, RATIO = f"{PROCEDURE}.clip=own", f"{PROCEDURE}.clip=ratio"
#: Encoder steps under the joint norm are about ten times shorter than under their own.
SHORT = f"{PROCEDURE}.inner_clip=0.5"
HALF = f"{PROCEDURE}.share=0.5"
ADAM = ["training.optimisers.inference.kind=adam", "training.optimisers.inference.learning_rate=1e-3"]
RATE = "training.dials.objective.weights.rate"


def _steps(budget: int, epochs: int | None = None) -> list[str]:
    """So many inner steps, for so many aggressive epochs at most."""
    return [f"{PROCEDURE}.budget={budget}", *([f"{PROCEDURE}.until.max_epochs={epochs}"] if epochs else [])]


def _start(steps: int) -> list[str]:
    """So many aggressive steps at the start, and Adam for the encoder throughout."""
    return [OWN, f"{PROCEDURE}.until.max_steps={steps}", *ADAM]


#: By name, the remedy of the catalogue and what is changed of it.
CANDIDATES: dict[str, tuple[str, list[str]]] = {
    BASELINE: (BASELINE, []),
    "aggressive": ("aggressive", []),
    "own": ("aggressive", [OWN]),
    "own-short": ("aggressive", [OWN, SHORT]),
    "ratio": ("aggressive", [RATIO]),
    "half": ("aggressive", [RATIO, HALF]),
    "window-20": ("aggressive", [f"{PROCEDURE}.window=20"]),
    "15": ("aggressive-budget", _steps(15)),
    "8": ("aggressive-budget", _steps(8)),
    "own-short-3": ("aggressive-budget", [OWN, SHORT, *_steps(3)]),
    "adam-5": ("aggressive-budget", [OWN, *_steps(5), *ADAM]),
    "adam-encoder": (BASELINE, ADAM),
    # What the goal of 1.3 times plain training leaves: few inner steps, few epochs, or none and another optimiser.
    "own-short-2-epochs-of-6": ("aggressive-budget", [OWN, SHORT, *_steps(6, 2)]),
    "own-short-4-epochs-of-3": ("aggressive-budget", [OWN, SHORT, *_steps(3, 4)]),
    "own-short-1-epoch": ("aggressive", [OWN, SHORT, f"{PROCEDURE}.until.max_epochs=1"]),
    "anneal": ("anneal", []),
    "adam-encoder+anneal": ("anneal", ADAM),
    "adam-3-epochs-of-5+anneal": ("aggressive-budget+anneal", [OWN, *_steps(5, 3), *ADAM]),
    "slow-anneal": ("slow-anneal", []),
    "adam-encoder+slow-anneal": ("slow-anneal", ADAM),
    "aggressive+anneal": ("aggressive+anneal", []),
    "start-20+slow-anneal": ("aggressive+slow-anneal", _start(20)),
    "start-50+16-epochs": ("aggressive+slow-anneal", [*_start(50), f"{RATE}.over=16 epochs"]),
    "start-100+slow-anneal": ("aggressive+slow-anneal", _start(100)),
    "start-50+anneal": ("aggressive+anneal", _start(50)),
    "own-short-350-steps": ("aggressive", [OWN, SHORT, f"{PROCEDURE}.until.max_steps=350"]),
}


class Cell(NamedTuple):
    """One training, in a comparison of its own, so that any of them can be asked for in any order."""

    data: str
    candidate: str
    seed: int

    def folder(self, root: Path) -> Path:
        return root / self.data / self.candidate / f"seed{self.seed}"


def data_sets(data: Path) -> dict[str, list[str]]:
    """What `uncollapse fit` is told of each data set."""
    return {
        "snli": _text(data / "snli_18k" / "snli_18k"),
        "synthetic": ["synthetic", "--recipe", "he2019-synthetic"],
        "ptb": _text(data / "ptb" / "ptb"),
    }


def _text(name: Path) -> list[str]:
    """The first 6,000 lines of a text in three files, with the networks of the smaller recipe."""
    files = [f"--{split}={name}.{split}.txt.gz" for split in ("train", "valid", "test")]
    return ["text", "--recipe", "snli-small", *files]


def run(root: Path, data: Path, jobs: int, seeds: list[int], only: list[str]) -> None:
    """Every candidate on every data set, all of one seed before the next."""
    fit = data_sets(data)

    def one(cell: Cell) -> None:
        remedy, changes = CANDIDATES[cell.candidate]
        words = [word for change in changes for word in ("--set", change)]
        # One cell is one job; what it must know is that others run beside it.
        compare.run([*fit[cell.data], *words], [remedy], [cell.seed], cell.folder(root), jobs=jobs, samples=SAMPLES)
        print(f"{cell.data}, {cell.candidate}, seed {cell.seed}: done", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(one, _wanted(seeds, only)):
            pass


def _wanted(seeds: list[int], only: list[str]) -> Iterator[Cell]:
    """The cells that were asked for by name, or all, in the order of the names."""
    sets = [one for one in only if one in data_sets(Path())] or list(data_sets(Path()))
    candidates = [one for one in only if one in CANDIDATES] or list(CANDIDATES)
    return (Cell(data, candidate, seed) for seed in seeds for data in sets for candidate in candidates)


def report(root: Path, keep: Path) -> None:
    """Prints each data set's tables, time relative to plain training with the same seed, and keeps their figures."""
    keep.mkdir(parents=True, exist_ok=True)
    order = list(CANDIDATES)
    for data in data_sets(Path()):
        print(f"\n## {data}\n")
        rows = [row for candidate in CANDIDATES for row in _rows(root, data, candidate)]
        merge(rows, keep / f"{data}.json", order.index)
        print()
        markdown(_validation(rows))


def _rows(root: Path, data: str, candidate: str) -> Iterator[Row]:
    for folder in sorted((root / data / candidate).glob("seed?")):
        for row in compare.collect(folder, SAMPLES).rows:
            if "verdict" in row:
                yield {**row, "remedy": candidate}


def _validation(rows: list[Row]) -> list[list[str]]:
    """What the validation split said of each run that is here: at its best epoch, and of the MI at the first ones."""
    table = [["candidate", "seed", "epochs", "of them aggressive", "−ELBO", "MI", "MI of the first ten epochs"]]
    for row in rows:
        each = epochs(Path(row["folder"]))
        best = min(each, key=lambda one: one["neg_elbo"]["value"])
        # An epoch's record says whether the next one is aggressive.
        aggressive = sum(one["active"] for one in each) + 1 if "active" in each[0] else 0
        found = [f"{best[figure]['value']:.2f}" for figure in ("neg_elbo", "mi")]
        course = " ".join(f"{one['mi']['value']:.2f}" for one in each[:10])
        table.append([row["remedy"], str(row["seed"]), str(len(each)), str(aggressive), *found, course])
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=Path(), help="the folder with snli_18k and ptb")
    parser.add_argument("--keep", type=Path, default=Path("docs/results/cheaper-aggressive"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=[])
    given = parser.parse_args()
    if given.what == "report":
        report(given.folder, given.keep)
    else:
        run(given.folder, given.data.resolve(), given.jobs, given.seeds, given.only)
