"""Remedies on images: trains each row on the same pictures, resumes, and reports.

    python benchmarks/image_table.py run FOLDER digits [--seeds 3] [--jobs 2] [--only plain anneal]
    python benchmarks/image_table.py run FOLDER small-omniglot --data OMNIGLOT_FOLDER [--device cuda]
    python benchmarks/image_table.py report FOLDER [--pictures PICTURES]

OMNIGLOT_FOLDER has train.npz, valid.npz and test.npz as `benchmarks/omniglot_split.py` writes them. K = 50. `beta` has
the weight 0.8. Of `small-omniglot` there are two rows with the gated decoder, whose skip is Skip-VAE's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from uncollapse.experiment import compare

SAMPLES = 50
ROWS = (
    *("plain", "without-z", "aggressive", "aggressive+anneal", "anneal", "beta", "vampprior", "mae", "wae-mmd"),
    *("wae-gan", "factor-vae"),
)
OWN = Path(__file__).with_name("image_rows.yaml")
GATED = ("gated", "gated-skip")
BETA = ["--set", "training.dials.objective.weights.rate={kind: constant, value: 0.8}"]
SETTINGS = {
    "digits": [],
    # A size that one GPU trains in minutes.
    "small-omniglot": ["--set", "training.max_epochs=40", "--set", "data.evaluation_batch_size=200"],
}


def run(folder: Path, given: argparse.Namespace) -> None:
    files = [f"--{split}={given.data / split}.npz" for split in ("train", "valid", "test")] if given.data else []
    kind = "images" if given.data else given.recipe
    fit = [kind, "--recipe", given.recipe, *files, "--catalogue", str(OWN), *SETTINGS[given.recipe]]
    fit += ["--device", given.device]
    rows = given.only or [*ROWS, *(GATED if given.data else ["skip"])]
    compare.run(fit, rows, range(given.seeds), folder, jobs=given.jobs, samples=SAMPLES, more={"beta": BETA})


def report(folder: Path, pictures: Path | None) -> None:
    """Prints the comparison as Markdown; draws samples and reconstructions of each row's first seed."""
    found = compare.collect(folder, SAMPLES)
    for table in (found.table(), found.differences()):
        head, *body = table
        print("\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *body]) + "\n")
    if pictures is None:
        return
    pictures.mkdir(parents=True, exist_ok=True)
    for row in found.rows:
        if "verdict" in row and row["seed"] == 0:
            _command("generate", row["folder"], "-n", "64", "-o", str(pictures / f"{row['remedy']}.png"))


def _command(*words: str) -> None:
    subprocess.run([sys.executable, "-P", "-m", "uncollapse", *words], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("run", "report"):
        commands.add_parser(command).add_argument("folder", type=Path)
    running = commands.choices["run"]
    running.add_argument("recipe", choices=list(SETTINGS))
    running.add_argument("--data", type=Path)
    running.add_argument("--only", nargs="+", choices=[*ROWS, "skip", *GATED])
    running.add_argument("--seeds", type=int, default=1)
    running.add_argument("--jobs", type=int, default=2)
    running.add_argument("--device", default="cpu")
    commands.choices["report"].add_argument("--pictures", type=Path)
    given = parser.parse_args()
    if given.command == "run":
        run(given.folder, given)
    else:
        report(given.folder, given.pictures)
