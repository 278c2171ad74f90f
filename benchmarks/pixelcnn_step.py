"""A training step of the OMNIGLOT model of He et al. 2019 against the authors' implementation, in one interleaved run.

    git clone https://github.com/jxhe/vae-lagging-encoder AUTHORS
    python benchmarks/pixelcnn_step.py --authors AUTHORS [--rounds 7] [--threads 1] [--device cpu]

50 images of 28 x 28; forward and backward pass, one clip over encoder and decoder, a step of Adam for each. The two
take turns; the ratio is of processor time, the median over rounds of the ratio within a round (of seconds on a GPU).
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

import uncollapse as uc
from uncollapse.cli.memory import keep_large_blocks
from uncollapse.nets.pixelcnn import PixelCNNDecoder
from uncollapse.nets.residual import ResidualEncoder
from uncollapse.training.descent import Descent
from uncollapse.training.optimisers import Adam
from uncollapse.training.procedures import Joint

UNITS, ITEMS = 32, 50


def ours(x: Tensor) -> Callable[[], Any]:
    """A step of this library."""
    encoder = uc.Posterior(ResidualEncoder((1, 28, 28), 2 * UNITS), uc.gaussian, (UNITS, UNITS))
    model = uc.VAE(encoder, PixelCNNDecoder((1, 28, 28), UNITS), uc.StandardNormal(UNITS))
    adam = {name: Adam(1e-3) for name in model.players()}
    descent = Descent(model, [x], optimisers=adam, clip=5.0, device=x.device)
    return lambda: Joint()(descent, x)


def theirs(x: Tensor, folder: Path) -> Callable[[], Any]:
    """A step of the authors' image.py with their modules."""
    sys.path.insert(0, str(folder))
    import modules  # pyright: ignore[reportMissingImports]

    said = SimpleNamespace(nz=UNITS, latent_feature_map=4, device=x.device)
    vae = modules.VAE(modules.ResNetEncoderV2(said), modules.PixelCNNDecoderV2(said), said).to(x.device)
    optimisers = [torch.optim.Adam(part.parameters(), lr=0.001) for part in (vae.encoder, vae.decoder)]

    def step() -> None:
        for optimiser in optimisers:
            optimiser.zero_grad()
        vae.loss(x, 1.0, nsamples=1)[0].mean().backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 5.0)
        for optimiser in optimisers:
            optimiser.step()

    return step


def seconds(step: Callable[[], Any], device: str) -> float:
    """The time of a step."""
    repeats = 1 if device == "cpu" else 20
    clock = time.process_time if device == "cpu" else time.perf_counter
    began = clock()
    for _ in range(repeats):
        step()
    if device != "cpu":
        torch.cuda.synchronize()
    return (clock() - began) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--authors", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(given.threads)
    keep_large_blocks()
    torch.manual_seed(0)
    x = torch.rand(ITEMS, 1, 28, 28).round().to(given.device)
    sides = theirs(x, given.authors), ours(x)
    rounds = [[seconds(side, given.device) for side in sides] for _ in range(given.rounds + 1)][1:]
    authors, own = (median(times) for times in zip(*rounds, strict=True))
    ratio = median(b / a for a, b in rounds)
    print(f"authors {authors:.3f} s, ours {own:.3f} s, ratio {ratio:.2f} ({given.rounds} rounds, {given.device})")


if __name__ == "__main__":
    main()
