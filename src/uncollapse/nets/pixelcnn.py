r"""Decoders of images, pixel by pixel: each sees those before it in reading order, and z.

.. math:: \log p(x | z) = \sum_i \log p(x_i | x_{<i}, z)

The pixels are zeros and ones; the channels of a pixel are independent given the pixels before it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent
from torch.nn import functional as F

from uncollapse.distributions.bits import Bits
from uncollapse.errors import InputError
from uncollapse.nets.causal import Causal, Convolution, Memory, interleaved, whole
from uncollapse.nets.convolution import check_image
from uncollapse.nets.residual import XavierLinear
from uncollapse.quantities import Count

#: What a convolution makes of an image, whole or of the part that is known by now.
Apply: TypeAlias = Callable[[Causal, Any], Tensor]
#: The kernels of He et al. (2019) for OMNIGLOT, layer by layer.
KERNELS = [7] * 5 + [5] * 4 + [3] * 4
#: Those of the configuration that they released, of a gated decoder.
GATED_KERNELS = [9] * 3 + [7] * 3 + [5] * 3 + [3] * 3


class Autoregressive(nn.Module, ABC):
    """A decoder that sees the pixels before each one.

    Arguments:
        shape: The shape of an item, (C, H, W).
        kernels: The sides of the layers' kernels, the first of them next to the image.

    Raises:
        InputError: for items that are no images, and for kernels without a middle.
    """

    def __init__(self, shape: tuple[int, ...], kernels: Sequence[int]) -> None:
        super().__init__()
        check_image(shape)
        if even := [side for side in kernels if side % 2 == 0]:
            raise InputError(f"a kernel of {even[0]} pixels has no pixel in its middle: give odd sides in `kernels`.")
        self.shape = tuple(shape)

    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        """The law of images given z (S, B, d) and their pixels (B, C, H, W): each is predicted by those before it."""
        around = self.around(seen, self.of_z(z), len(z), whole)
        logits = self.logits(seen, around, len(z), whole)
        logits = logits.float() if logits.itemsize < 4 else logits
        return Independent(Bits(logits.unflatten(0, z.shape[:2])), 3, validate_args=False)

    @torch.no_grad()
    def paint(self, z: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images drawn pixel by pixel, (N, C, H, W), for z (N, d).

        What layers have made of the pixels before is kept, so that all pixels cost about one pass over the image.

        Arguments:
            z: With shape (N, d).
            noise: Uniform numbers in the shape of the images, which decide the pixels; drawn where they are not given.
        """
        (_, height, width), images = self.shape, z.new_zeros(len(z), *self.shape)
        noise = torch.rand_like(images) if noise is None else noise
        of_z, memory = self.of_z(z.unsqueeze(0)), Memory(len(z), height, width)
        for memory.row in range(height):
            memory.column, memory.columns = 0, width
            around = self.around(None, [one[..., memory.row : memory.row + 1, :] for one in of_z], 1, memory.step)
            memory.columns = 1
            for memory.column in range(width):
                here = ..., slice(memory.row, memory.row + 1), slice(memory.column, memory.column + 1)
                logits = self.logits(None, [one[..., here[2]] for one in around], 1, memory.step)
                images[here] = (noise[here] < logits.sigmoid()).to(z)
                for layer in self.lookers():
                    memory.see(layer, images[here])
        return images

    @abstractmethod
    def of_z(self, z: Tensor) -> list[Tensor]:
        """What z adds to layers, each (S, B, channels, H, W) for z (S, B, d)."""

    @abstractmethod
    def around(self, seen: Tensor | None, of_z: list[Tensor], samples: int, apply: Apply) -> list[Tensor]:
        """What z and the rows above add to each row, layer by layer."""

    @abstractmethod
    def lookers(self) -> list[Causal]:
        """The convolutions that see the pixels themselves, and of them none but those before."""

    @abstractmethod
    def logits(self, seen: Tensor | None, around: list[Tensor], samples: int, apply: Apply) -> Tensor:
        """The logits, (S B, C, H, W)."""

    def _written(self, latent: int, maps: int) -> XavierLinear:
        return XavierLinear(latent, maps * math.prod(self.shape[1:]))

    def _images(self, written: nn.Module, z: Tensor) -> Tensor:
        """The images that z (S, B, d) is written to, (S B, maps, H, W)."""
        return written(z).flatten(0, 1).unflatten(-1, (-1, *self.shape[1:]))


def _beside(looked: Tensor, of_z: Tensor | None, samples: int) -> Tensor:
    """The sum of what a layer makes of items (B, ...) and of their z (S, B, ...), with shape (S B, ...)."""
    everywhere = looked.expand(samples, *looked.shape) if of_z is None else looked + of_z
    return interleaved(everywhere.flatten(0, 1))


class PixelCNNDecoder(Autoregressive):
    r"""A PixelCNN of residual blocks with z written to images beside the first layer.

    .. math:: h^0 = \text{elu}(A x + M(W z)), \quad
              h^l = B_l(h^{l-1} + D_l(h^{l-3})), \quad \log p(x | z) = \text{Bernoulli}(x; C \, h)

    A sees the pixels before each one, :math:`B_l` and :math:`D_l` are blocks that see it too, and M sees all of z's
    images around it; D stands from the third block on, and once more at the end. All have batch normalisation.

    References:
        | Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He et al., 2019)
        | https://arxiv.org/abs/1901.05534

    Arguments:
        shape: The shape of an item, (C, H, W).
        latent: d, the size of z; 0 for a model without.
        kernels: The sides of the layers' kernels, at least 3 layers.
        channels: Of every layer; a block's convolution has half of them.
        maps: How many images z is written to.

    Raises:
        InputError: for items that are no images, for kernels without a middle, and for fewer than 3 layers.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent: int,
        kernels: list[Count] = KERNELS,
        channels: Count = 64,
        maps: Count = 4,
    ) -> None:
        super().__init__(shape, kernels)
        if len(kernels) < 3:
            raise InputError(f"{len(kernels)} layers are too few for this decoder: give at least 3 `kernels`.")
        side = kernels[0]
        self.first = masked(shape[0], channels, side, itself=False)
        self.written = self._written(latent, maps) if latent else None
        self.beside = Convolution(maps, channels, side, padding=side // 2, bias=False) if latent else None
        self.norm = nn.BatchNorm2d(channels)
        self.blocks = nn.ModuleList(Block(channels, side) for side in kernels[1:])
        self.past = nn.ModuleList(Block(channels, side) for side in kernels[1:-1])
        self.last = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ELU(),
            nn.Conv2d(channels, shape[0], 1, bias=False),
        )

    def of_z(self, z: Tensor) -> list[Tensor]:
        if self.written is None or self.beside is None:
            return []
        return [self.beside(self._images(self.written, z)).unflatten(0, z.shape[:2])]

    def around(self, seen: Tensor | None, of_z: list[Tensor], samples: int, apply: Apply) -> list[Tensor]:
        return of_z

    def lookers(self) -> list[Causal]:
        return [self.first]

    def logits(self, seen: Tensor | None, around: list[Tensor], samples: int, apply: Apply) -> Tensor:
        x = F.elu(self.norm(_beside(apply(self.first, seen), around[0] if around else None, samples)))
        before = [x]
        for i, block in enumerate(self.blocks):
            if i >= 2:
                x = x + self.past[i - 2](before.pop(0), apply)
            x = block(x, apply)
            before.append(x)
        return self.last(x + self.past[-1](before.pop(0), apply))


class Block(nn.Module):
    """A residual block of which the middle convolution sees the pixels before each one, and it.

    Arguments:
        channels: Of the image.
        side: Of the kernel.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.narrow = nn.Sequential(Convolution(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ELU())
        self.look = masked(inner, inner, side, itself=True)
        self.widen = nn.Sequential(
            nn.BatchNorm2d(inner), nn.ELU(), Convolution(inner, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor, apply: Apply) -> Tensor:
        return F.elu(x + self.widen(apply(self.look, self.narrow(x))))


def masked(inputs: int, outputs: int, side: int, itself: bool) -> Causal:
    """The convolution of a square kernel that sees the pixels before each one, and it where it is asked for."""
    middle = side // 2
    return Causal(inputs, outputs, middle + 1, side, above=middle, left=middle, hidden=middle + 1 - itself)


class GatedPixelCNNDecoder(Autoregressive):
    r"""A gated PixelCNN of two stacks: one of the rows above, and one of the row itself that is handed what it found.

    .. math:: v^l = g(V_l v^{l-1} + V'_l m), \quad h^l = h^{l-1} + R_l \, g(H_l h^{l-1} + H'_l m + L_l V_l v^{l-1}),
              \quad g([a; b]) = \tanh a \cdot \sigma(b)

    So nothing before a pixel is out of its sight. z's images m are beside the first layer, which sees all around it;
    with the skip each later layer has an image of its own, and so have the logits.

    References:
        | Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016)
        | https://arxiv.org/abs/1606.05328
        | Avoiding Latent Variable Collapse with Generative Skip Models (Dieng et al., 2019): `skip`
        | https://arxiv.org/abs/1807.04863

    Arguments:
        shape: The shape of an item, (C, H, W).
        latent: d, the size of z; 0 for a model without.
        kernels: The sides of the layers' kernels.
        channels: Of every layer.
        maps: How many images z is written to, beside the first layer.
        skip: Whether z is written to an image for each later layer, and one for the logits, too.

    Raises:
        InputError: for items that are no images, for kernels without a middle, and for a skip without z.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent: int,
        kernels: list[Count] = GATED_KERNELS,
        channels: Count = 32,
        maps: Count = 4,
        skip: bool = False,
    ) -> None:
        super().__init__(shape, kernels)
        if skip and not latent:
            raise InputError("a model without z has nothing for `skip` to hand on: leave it out.")
        self.layers = nn.ModuleList(
            Gated(shape[0] if i == 0 else channels, channels, side, first=i == 0) for i, side in enumerate(kernels)
        )
        each = [maps, *([1] * len(kernels) if skip else [])] if latent else []
        self.written = nn.ModuleList(self._written(latent, count) for count in each)
        self.beside = nn.ModuleList(
            Convolution(count, 4 * channels, side, padding=side // 2, bias=False)
            for count, side in zip(each, kernels, strict=False)
        )
        self.output = nn.Conv2d(channels, shape[0], 1)
        self.skipped = nn.Conv2d(1, shape[0], 1, bias=False) if skip else None

    def of_z(self, z: Tensor) -> list[Tensor]:
        last = [] if self.skipped is None else [self.skipped]
        pairs = zip(self.written, [*self.beside, *last], strict=True)
        return [net(self._images(written, z)).unflatten(0, z.shape[:2]) for written, net in pairs]

    def around(self, seen: Tensor | None, of_z: list[Tensor], samples: int, apply: Apply) -> list[Tensor]:
        rows: Any = seen
        found = []
        for i, layer in enumerate(self.layers):
            above, along = of_z[i].chunk(2, 2) if i < len(self.beside) else (None, None)
            rows, handed = layer.above(rows, above, samples if i == 0 else None, apply)  # pyright: ignore
            found.append(handed if along is None else handed + along.flatten(0, 1))
        return found if self.skipped is None else [*found, of_z[-1].flatten(0, 1)]

    def lookers(self) -> list[Causal]:
        first: Any = self.layers[0]
        return [first.rows, first.row]

    def logits(self, seen: Tensor | None, around: list[Tensor], samples: int, apply: Apply) -> Tensor:
        row: Any = seen
        for i, (layer, added) in enumerate(zip(self.layers, around, strict=False)):
            row = layer(row, added, samples if i == 0 else None, apply)
        return self.output(row) if self.skipped is None else self.output(row) + around[-1]


class Gated(nn.Module):
    """A layer of both stacks.

    Arguments:
        inputs, outputs: The channels.
        side: Of the kernel.
        first: Whether it sees the pixels, and of them none but those before.
    """

    def __init__(self, inputs: int, outputs: int, side: int, first: bool) -> None:
        super().__init__()
        middle, self.first = side // 2, first
        # Beyond the first layer a row's own part of the upper stack knows of the rows above alone, and may be seen.
        self.rows = Causal(inputs, 2 * outputs, middle + 1, side, above=middle + first, left=middle)
        self.row = Causal(inputs, 2 * outputs, 1, middle + 1, above=0, left=middle + first)
        self.bias = nn.Parameter(torch.zeros(2 * outputs, 1, 1))
        self.handed = nn.Conv2d(2 * outputs, 2 * outputs, 1)
        self.out = nn.Conv2d(outputs, outputs, 1)

    def above(self, rows: Any, of_z: Tensor | None, samples: int | None, apply: Apply) -> tuple[Tensor, Tensor]:
        """The upper stack, and what it hands to the row; from (B, ...) where samples are given, to (S B, ...)."""
        found = apply(self.rows, rows)
        if samples is not None:
            found = _beside(found, of_z, samples)
        elif of_z is not None:
            found = found + of_z.flatten(0, 1)
        found = found + self.bias
        return _gate(found), self.handed(found)

    def forward(self, row: Any, added: Tensor, samples: int | None, apply: Apply) -> Tensor:
        """The stack of the row, with what the other one and z add."""
        looked = apply(self.row, row)
        looked = looked if samples is None else _beside(looked, None, samples)
        found = self.out(_gate(looked + added))
        return found if self.first else found + row


def _gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return a.tanh() * b.sigmoid()
