"""An encoder of images by residual blocks."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from uncollapse.nets.causal import Convolution, interleaved
from uncollapse.nets.convolution import halved
from uncollapse.quantities import Count


class ResidualEncoder(nn.Module):
    """Reads an image through residual blocks that halve its sides each, and a convolution over all that is left.

    References:
        | Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He et al., 2019)
        | https://arxiv.org/abs/1901.05534

    Arguments:
        shape: The shape of an item, (C, H, W).
        outputs: The size of the result, as 2 d for the mean and log-variance of d units.
        channels: Of each block, the first of them next to the image.
        features: Of the last convolution.

    Raises:
        InputError: for items that are no images.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        channels: list[Count] = [64, 64, 64],  # noqa: B006 - never written to
        features: Count = 512,
    ) -> None:
        super().__init__()
        sides, depths = halved(shape, channels)
        self.layers = nn.Sequential(
            *(Block(a, b) for a, b in pairwise(depths)),
            Convolution(depths[-1], features, sides[-1], bias=False),
            nn.BatchNorm2d(features),
            nn.ELU(),
            nn.Flatten(),
        )
        self.output = XavierLinear(features, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs of every image of x (B, C, H, W), with shape (B, outputs)."""
        return self.output(self.layers(interleaved(x)))


class Block(nn.Module):
    """Two convolutions, 3 x 3, whose result is added to the image at half its sides.

    Arguments:
        inputs, outputs: The channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.through = nn.Sequential(
            Convolution(inputs, outputs, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ELU(),
            Convolution(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.past = nn.Sequential(Convolution(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(self.through(x) + self.past(x))


class XavierLinear(nn.Linear):
    """A linear layer with the initial weights of Glorot & Bengio (2010), uniform, and no bias at first."""

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)
