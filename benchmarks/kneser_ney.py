"""What a Kneser-Ney 5-gram of a text costs to count, and what it says of another text.

    python benchmarks/kneser_ney.py TRAIN TEST [--arpa MODEL]

With a model that `lmplz -o 5` made of TRAIN, and kenlm installed, the largest difference of a token's log-probability.
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from pathlib import Path

import numpy as np

from uncollapse.data.text import read_lines
from uncollapse.metrics.kneser_ney import KneserNey


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--arpa", type=Path)
    asked = parser.parse_args()
    train, test = read_lines(asked.train), read_lines(asked.test)
    start = time.process_time()
    model = KneserNey.fit(train)
    words = sum(len(line.split()) for line in train)
    print(f"{words:,} words in {len(train):,} sentences: {time.process_time() - start:.1f} s of a processor")
    start = time.process_time()
    print(f"perplexity of the other text: {model.perplexity(test)}, {time.process_time() - start:.2f} s")
    print(f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    if asked.arpa:
        import kenlm  # pyright: ignore[reportMissingImports]

        theirs = kenlm.Model(str(asked.arpa))
        pairs = zip(test, model.log_probabilities(test), strict=True)
        scores = ((np.array([one[0] for one in theirs.full_scores(line)]) * math.log(10), ours) for line, ours in pairs)
        print(f"largest difference of a log-probability: {max(np.abs(a - b).max() for a, b in scores):.2g} nats")


if __name__ == "__main__":
    main()
