"""Convolutional networks of images: an encoder, and a decoder of transposed convolutions that mirrors it."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from uncollapse.errors import InputError
from uncollapse.nets.elementwise import Elementwise, Likelihood, Variance
from uncollapse.nets.mlp import layers
from uncollapse.quantities import Count


class ConvolutionalEncoder(nn.Module):
    """Reads an image through convolutions that halve its sides each, and hidden layers, all of rectified units.

    Arguments:
        shape: The shape of an item, (C, H, W).
        outputs: The size of the result, as 2 d for the mean and log-variance of d units.
        channels: The channels of each convolution, 3 x 3 and of stride 2, the first of them next to the image.
        hidden: The widths of the layers between them and the result.

    Raises:
        InputError: for items that are no images.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        channels: list[Count] = [32, 64],  # noqa: B006 - never written to
        hidden: list[Count] = [256],  # noqa: B006
    ) -> None:
        super().__init__()
        sides, depths = halved(shape, channels)
        convolutions = (nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(depths))
        self.layers = nn.Sequential(
            *(layer for one in convolutions for layer in (one, nn.ReLU())),
            nn.Flatten(),
            layers(depths[-1] * math.prod(sides[-1]), hidden, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The outputs of every image of x (B, C, H, W), with shape (B, outputs)."""
        return self.layers(x)


class ConvolutionalDecoder(Elementwise):
    """Writes an image from z through hidden layers and transposed convolutions, all pixels at once.

    Its layers are those of `ConvolutionalEncoder` from the last to the first, of rectified units; see `Elementwise` for
    the law of the pixels.

    Arguments:
        shape: The shape of an item, (C, H, W).
        latent: d, the size of z.
        channels: The channels of each transposed convolution, the last of them next to the hidden layers.
        hidden: The widths of the layers between them and z, the first of them next to z.
        likelihood: "bernoulli" for zeros and ones; for values on a scale "logistic", a logistic law in bins, or
            "categorical", a probability for each level; "gaussian" for a density of real numbers.
        variance: Whose: of "elements", "shared", or "optimal"; of a Gaussian likelihood, and the first two of a
            logistic one.
        levels: How many values an element can have, between 0 and 1; None for real numbers.

    Raises:
        InputError: for items that are no images, a variance of a likelihood that has none, and a likelihood of other
            values than there are.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent: int,
        channels: list[Count] = [32, 64],  # noqa: B006 - never written to
        hidden: list[Count] = [256],  # noqa: B006
        likelihood: Likelihood = "bernoulli",
        variance: Variance = "elements",
        levels: int | None = None,
    ) -> None:
        super().__init__(shape, likelihood, variance, levels)
        sides, depths = halved(shape, channels)
        depths[0] *= self.numbers
        first = (depths[-1], *sides[-1])
        self.layers = nn.Sequential(
            layers(latent, hidden, math.prod(first)),
            nn.Unflatten(-1, first),
            *(layer for i in reversed(range(len(channels))) for layer in (nn.ReLU(), _doubling(sides, depths, i))),
        )

    def found(self, z: Tensor) -> Tensor:
        images = self.layers(z.flatten(0, -2)).unflatten(0, z.shape[:-1])
        if self.numbers == 1:
            return images
        return images.unflatten(-3, (self.shape[0], self.numbers)).movedim(-3, -1)


def _doubling(sides: list[tuple[int, int]], depths: list[int], i: int) -> nn.ConvTranspose2d:
    """The transpose of the convolution from the i-th to the next size, which knows the size that was halved."""
    (height, width), (low, narrow) = sides[i], sides[i + 1]
    odd = (height - (2 * low - 1), width - (2 * narrow - 1))
    return nn.ConvTranspose2d(depths[i + 1], depths[i], 3, stride=2, padding=1, output_padding=odd)


def halved(shape: tuple[int, ...], channels: list[int]) -> tuple[list[tuple[int, int]], list[int]]:
    """Height and width before and after each halving, and the channels there.

    Raises:
        InputError: for items that are no images.
    """
    check_image(shape)
    depth, height, width = shape
    sides = [(height, width)]
    for _ in channels:
        height, width = (height + 1) // 2, (width + 1) // 2
        sides.append((height, width))
    return sides, [depth, *channels]


def check_image(shape: tuple[int, ...]) -> None:
    """Refuses items that are no images.

    Raises:
        InputError: for a shape other than (C, H, W).
    """
    if len(shape) != 3:
        raise InputError(
            f"a convolutional network reads images, (channels, height, width), and an item of this data has the shape "
            f"{tuple(shape)}: choose another network, such as `mlp`."
        )
