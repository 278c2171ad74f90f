"""What an engine adds to a cell: the time of a comparison of tiny cells, over that of the bare `fit` commands.

    python benchmarks/engines.py [--cells 20] [--jobs 2]

Slurm is submitit's executor on this machine: a queue's own waiting is not in it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from uncollapse.experiment.engines import Engine, Where
from uncollapse.experiment.engines.cells import Cell
from uncollapse.experiment.engines.on_slurm import OnSlurm

SETTINGS = ["model.encoder.hidden=4", "model.decoder.hidden=4", "model.latent=2", "training.max_epochs=1"]


class Bare:
    """The command by itself."""

    stopped = False

    def run(self, cell: Cell) -> None:
        with cell.log.open("w") as log:
            command = [sys.executable, "-P", "-m", "uncollapse", *cell.arguments]
            subprocess.run(
                command,
                check=True,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def end(self, cell: Cell) -> None:
        pass

    def stop(self) -> None:
        pass


def seconds(begin: Callable[[Path], Engine | Bare], text: Path, count: int, jobs: int) -> tuple[float, float]:
    """Those until an engine is ready, and those of its cells."""
    with tempfile.TemporaryDirectory() as name:
        folder, start = Path(name), time.perf_counter()
        engine = begin(folder)
        ready = time.perf_counter() - start
        cells = [_cell(folder / f"cell{i}", text, i) for i in range(count)]
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(engine.run, cells))
        took = time.perf_counter() - start - ready
        engine.stop()
        assert all((cell.folder / "spec.yaml").is_file() for cell in cells)
    return ready, took


def _cell(folder: Path, text: Path, seed: int) -> Cell:
    asked = ["fit", "text", "--train", str(text), *(part for one in SETTINGS for part in ("--set", one))]
    asked += ["--samples", "0", "--quiet", "--seed", str(seed), "--out", str(folder)]
    return Cell(tuple(asked), folder, folder.with_suffix(".log"), Path.cwd())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    engines: dict[str, Callable[[Path], Engine | Bare]] = {
        "bare": lambda folder: Bare(),
        "local": lambda folder: Where(cpus=1).begin(folder, asked.jobs),
        "ray": lambda folder: Where("ray").begin(folder, asked.jobs),
        "submitit": lambda folder: OnSlurm(folder / "slurm", 1, 0, None, [], 0, "local"),
    }
    with tempfile.TemporaryDirectory() as name:
        text = Path(name) / "a.txt"
        text.write_text("".join(f"a{i % 7} b{i % 5} c{i % 3}\n" for i in range(100)))
        rounds = [
            {engine: seconds(begin, text, asked.cells, asked.jobs) for engine, begin in engines.items()}
            for _ in range(asked.rounds)
        ]
    print("engine, seconds to begin, seconds a cell more than bare, times bare")
    for engine in engines:
        more = median((one[engine][1] - one["bare"][1]) * asked.jobs / asked.cells for one in rounds)
        times = median(one[engine][1] / one["bare"][1] for one in rounds)
        print(f"{engine}, {median(one[engine][0] for one in rounds):.1f}, {more:+.2f}, {times:.2f}")


if __name__ == "__main__":
    main()
