"""Convolutions over what comes before a pixel in reading order, over a whole image or pixel by pixel."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Convolution(nn.Conv2d):
    r"""A convolution whose weights start as normal draws of variance 2 / (height, width, outputs of the kernel)."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=math.sqrt(2 / self._reach()))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _reach(self) -> int:
        return self.out_channels * math.prod(self.kernel_size)


class Causal(Convolution):
    """A convolution that sees the rows above a pixel, and of its own row what is to the left.

    The rows below have no weights, so that the kernel is about half of a masked one; in its own row those of the pixels
    to the right are masked.

    Arguments:
        inputs, outputs: The channels.
        height, width: Of the kernel.
        above, left: How many rows above the pixel, and columns to the left of it, the kernel begins.
        hidden: How many of the last weights of its last row are masked.
    """

    mask: Tensor

    def __init__(
        self, inputs: int, outputs: int, height: int, width: int, above: int, left: int, hidden: int = 0
    ) -> None:
        self.above, self.left = above, left
        super().__init__(inputs, outputs, (height, width), bias=False)
        mask = torch.ones(height, width)
        mask[-1, width - hidden :] = 0
        self.register_buffer("mask", mask, persistent=False)

    def _reach(self) -> int:
        # Of the kernel that is masked in the sources.
        return self.out_channels * self.kernel_size[1] ** 2

    def forward(self, input: Tensor) -> Tensor:
        """The same image with other channels, (N, outputs, H, W)."""
        (height, width), above, left = self.kernel_size, self.above, self.left
        around = left, width - 1 - left, above, height - 1 - above
        return F.conv2d(F.pad(input, around), self.seeing())

    def seeing(self) -> Tensor:
        """The weights, 0 where they are masked."""
        return self.weight * self.mask


class Memory:
    """What convolutions have seen of images that are written row by row, or pixel by pixel.

    Arguments:
        count: N, of the images.
        height, width: Of an image.
    """

    def __init__(self, count: int, height: int, width: int) -> None:
        self.count, self.height, self.width = count, height, width
        self.row, self.column, self.columns = 0, 0, 1
        self._seen: dict[Causal, Tensor] = {}
        self._weights: dict[Causal, Tensor] = {}

    def step(self, layer: Causal, part: Tensor | None) -> Tensor:
        """What a convolution makes of all before here, and of the part from here on where that is known.

        Arguments:
            layer: The convolution.
            part: So many `columns` of the row, (N, inputs, 1, w); the result is as wide.
        """
        if part is not None:
            self.see(layer, part)
        rows = slice(self.row, self.row + layer.kernel_size[0])
        columns = slice(self.column, self.column + layer.kernel_size[1] - 1 + self.columns)
        window = self._of(layer)[:, :, rows, columns]
        return F.conv2d(window, self._weights[layer])

    def see(self, layer: Causal, part: Tensor) -> None:
        """Keeps a part of an image, (N, inputs, 1, w), from here on, for a convolution."""
        first = self.column + layer.left
        self._of(layer)[:, :, self.row + layer.above, first : first + part.shape[-1]] = part[:, :, 0]

    def _of(self, layer: Causal) -> Tensor:
        if layer not in self._seen:
            right = max(0, layer.kernel_size[1] - 1 - layer.left)
            shape = self.count, layer.in_channels, self.height + layer.above + 1, self.width + layer.left + right
            self._seen[layer] = layer.weight.new_zeros(shape)
            self._weights[layer] = layer.seeing()
        return self._seen[layer]


def whole(layer: Causal, x: Tensor) -> Tensor:
    """What a convolution makes of a whole image."""
    return layer(x)


def interleaved(x: Tensor) -> Tensor:
    """The same image with its channels side by side in memory, with which convolutions take a quarter less time."""
    return x.contiguous(memory_format=torch.channels_last)
