"""OMNIGLOT in three files by drawer, for `benchmarks/image_table.py` and docs/results/gpu.md; not Burda's split.

    python benchmarks/omniglot_split.py omniglot_28x28.npz FOLDER [--train 10000] [--test 1000]

The source has `images` (N, 28, 28) and `drawer` (N,), counted from 1. Of the drawers up to 15, 1,345 drawings at
random (seed 0) are for validation and the others, or so many of them, for training; of the drawers after these all, or
so many at random, are for the test.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

VALID, LAST = 1345, 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int)
    parser.add_argument("--test", type=int)
    given = parser.parse_args()
    there = np.load(given.source)
    images, early = there["images"], there["drawer"] <= LAST
    random = np.random.default_rng(0)
    train, test = (random.permutation(np.flatnonzero(kept)) for kept in (early, ~early))
    given.folder.mkdir(parents=True, exist_ok=True)
    ids = {"train": train[VALID:][: given.train], "valid": train[:VALID], "test": test[: given.test]}
    for split, one in ids.items():
        np.savez_compressed(given.folder / f"{split}.npz", images=images[np.sort(one)])
        print(f"{split}: {len(one)}")


if __name__ == "__main__":
    main()
