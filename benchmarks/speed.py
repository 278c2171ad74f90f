"""Training steps and the importance-weighted NLL against the authors' implementation, with the same weights.

    git clone https://github.com/jxhe/vae-lagging-encoder AUTHORS
    python benchmarks/speed.py --authors AUTHORS [--sizes a b] [--threads 1 2] [--rounds 5] [--keep FILE.json]
    python benchmarks/speed.py --authors AUTHORS --sizes b --threads 1 --rounds 0 --samples 5000   # NLL alone

Each side is a process of its own; they take turns, task by task, and what counts is the median over rounds of the ratio
within a round. About ten minutes on two quiet cores. On a shared machine read the processor time of one thread.
On a GPU (`--device cuda --threads 1`) the memory is the GPU's and a step's time the mean of 20.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from uncollapse.experiment.run import write_json

WORKER = Path(__file__).with_name("speed_worker.py")
OURS = ["plain", "inner, joint clip", "inner, own clip", "inner, own clip, half of the tokens"]
STEPS = [("authors", "plain"), ("authors", "inner"), ("authors, same allocator", "plain"), *(("ours", t) for t in OURS)]
NLL = [("authors", "nll"), ("ours", "nll")]
Figures = dict[str, list[dict[str, Any]]]


class Side:
    """A worker process that does one task at a time."""

    def __init__(self, side: str, size: str, threads: int, authors: Path, samples: int, device: str) -> None:
        command = [sys.executable, str(WORKER), side, size, str(threads), "--authors", str(authors)]
        command += ["--samples", str(samples), "--device", device]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def do(self, task: str) -> dict[str, Any]:
        """What the task cost."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(task, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(
    size: str, threads: int, authors: Path, rounds: int, nlls: int, samples: int, device: str
) -> Iterator[Figures]:
    """After every round the costs of all tasks so far; the first round of steps, which warms up, is left out."""
    names = dict.fromkeys(side for side, _ in STEPS)
    sides = {side: Side(side, size, threads, authors, samples, device) for side in names}
    plan = [[*STEPS, ("ours", "product")]] * (rounds + 1) + [NLL] * nlls
    figures: Figures = {}
    for number, tasks in enumerate(plan):
        for side, task in tasks:
            cost = sides[side].do(task)
            if number > 0:
                figures.setdefault(f"{side}: {task}", []).append(cost)
        yield figures
    for side in sides.values():
        side.close()


def report(figures: Figures, title: str, samples: int) -> None:
    """Prints one table of steps and one of the NLL, in markdown."""
    print(f"\n### {title}\n")
    if "ours: product" in figures:
        rates = [one["value"] / one["cpu"] / 1e9 for one in figures["ours: product"]]
        print(f"Matrix products of a convenient shape: {median(rates):.0f} GFLOP/s of processor time.\n")
        _table(figures, [f"{side}: {task}" for side, task in STEPS], "authors: plain")
    if "ours: nll" not in figures:
        return
    print()
    _table(figures, [f"{side}: {task}" for side, task in NLL], "authors: nll")
    (theirs, *_), (ours, effective) = figures["authors: nll"][0]["value"], figures["ours: nll"][0]["value"]
    error = (2 * (1 / effective - 1 / samples)) ** 0.5
    print(f"\nNLL of the item: {theirs:.4f} and {ours:.4f} nats; standard error of the difference {error:.4f}.")


def _table(figures: Figures, names: list[str], base: str) -> None:
    print("| task | seconds | of processors | ratio | of processor time | page faults | peak MiB | extra MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        ours, theirs = figures[name], figures[base]
        middle = {key: median(one[key] for one in ours) for key in ("seconds", "cpu", "faults")}
        ratio = {k: median(a[k] / b[k] for a, b in zip(ours, theirs, strict=True)) for k in ("seconds", "cpu")}
        peak, extra = max(one["peak"] for one in ours), max(one["extra"] for one in ours)
        numbers = f"{middle['seconds']:.3f} | {middle['cpu']:.3f} | {ratio['seconds']:.2f} | {ratio['cpu']:.2f}"
        print(f"| {name} | {numbers} | {middle['faults']:,.0f} | {peak:,.0f} | {extra:,.0f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--authors", type=Path, required=True, help="the folder with a clone of the authors' code")
    parser.add_argument("--sizes", nargs="+", default=["a", "b"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nlls", type=int, default=1, help="measured NLLs of one item; 0 for none")
    parser.add_argument("--samples", type=int, default=500, help="importance samples of the item")
    parser.add_argument("--device", default="cpu", help="a GPU such as cuda, where threads count for little")
    parser.add_argument("--keep", type=Path, default=Path("docs/results/speed.json"))
    given = parser.parse_args()
    kept = json.loads(given.keep.read_text()) if given.keep.exists() else {}
    for size in given.sizes:
        for threads in given.threads:
            title = f"{size}, {threads} thread{'s' * (threads > 1)}" + f", K = {given.samples:,}" * (not given.rounds)
            title += "" if given.device == "cpu" else f", {given.device}"
            where = given.authors.resolve()
            asked = (given.rounds, given.nlls, given.samples, given.device)
            for kept[title] in measure(size, threads, where, *asked):
                write_json(given.keep, kept)
            report(kept[title], title, given.samples)
