"""Time and memory of the importance-weighted NLL of a PixelCNN of the published size.

    python benchmarks/pixelcnn_nll.py [--items 4] [--samples 500]

Initial weights: neither cost depends on them. One thread.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch

import uncollapse as uc
from uncollapse.nets.pixelcnn import PixelCNNDecoder
from uncollapse.nets.residual import ResidualEncoder


def peak() -> float:
    """The largest resident memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=4)
    parser.add_argument("--samples", type=int, default=500)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    encoder = uc.Posterior(ResidualEncoder((1, 28, 28), 64), uc.gaussian, (32, 32))
    model = uc.VAE(encoder, PixelCNNDecoder((1, 28, 28), 32), uc.StandardNormal(32))
    x, before, began = torch.rand(given.items, 1, 28, 28).round(), peak(), time.process_time()
    uc.evaluate(model, x, given.samples)
    seconds = (time.process_time() - began) / given.items
    print(f"K = {given.samples}: {seconds:.1f} s of a processor an item, peak {peak():.0f} MiB ({before:.0f} before)")


if __name__ == "__main__":
    main()
