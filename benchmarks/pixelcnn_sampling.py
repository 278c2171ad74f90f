"""Drawing images of a PixelCNN by what its layers have seen, against a pass over the whole image for every pixel.

    python benchmarks/pixelcnn_sampling.py [--images 16] [--device cpu]

28 x 28 pixels and the published decoder, and the gated one; the same uniform numbers decide the pixels on both sides.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from uncollapse.nets.pixelcnn import Autoregressive, GatedPixelCNNDecoder, PixelCNNDecoder


@torch.no_grad()
def naive(decoder: Autoregressive, z: Tensor, noise: Tensor) -> Tensor:
    images = torch.zeros_like(noise)
    for row in range(28):
        for column in range(28):
            law: Any = decoder(z.unsqueeze(0), images)
            chance = law.base_dist.logits[0, :, :, row, column].sigmoid()
            images[:, :, row, column] = (noise[:, :, row, column] < chance).to(z)
    return images


def timed(draw: Callable[[], Tensor]) -> tuple[float, Tensor]:
    began = time.perf_counter()
    images = draw()
    images.sum().item()
    return time.perf_counter() - began, images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    for make in (PixelCNNDecoder, GatedPixelCNNDecoder):
        torch.manual_seed(0)
        decoder = make((1, 28, 28), 32).to(given.device).eval()
        z, noise = (torch.randn(given.images, 32), torch.rand(given.images, 1, 28, 28))
        z, noise = z.to(given.device), noise.to(given.device)
        seconds, images = timed(lambda decoder=decoder, z=z, noise=noise: decoder.paint(z, noise))
        slow, others = timed(lambda decoder=decoder, z=z, noise=noise: naive(decoder, z, noise))
        same = (images == others).float().mean().item()
        print(f"{make.__name__}: {seconds:.2f} s, naive {slow:.2f} s, {slow / seconds:.1f} times; {same:.4%} the same")


if __name__ == "__main__":
    main()
