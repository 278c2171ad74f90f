"""Multilayer perceptrons: the encoder and decoder of a VAE of vectors, or of anything that is flattened to one."""

from __future__ import annotations

import math

from torch import Tensor, nn

from uncollapse.errors import InputError
from uncollapse.nets.elementwise import Elementwise, Likelihood, Variance
from uncollapse.nets.lipschitz import Injective
from uncollapse.quantities import Count, Weight


class MLPEncoder(nn.Module):
    """Reads an item through layers of rectified units.

    Arguments:
        shape: The shape of an item.
        outputs: The size of the result, as 2 d for the mean and log-variance of d units.
        hidden: The widths of the hidden layers, the first of them next to the item.
    """

    def __init__(self, shape: tuple[int, ...], outputs: int, hidden: list[Count]) -> None:
        super().__init__()
        self.layers = layers(math.prod(shape), hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs of every item of x (B, ...), with shape (B, outputs)."""
        return self.layers(x.flatten(1))


class MLPDecoder(Elementwise):
    r"""Writes an item from z through layers of rectified units, all its elements at once; see `Elementwise`.

    .. math:: h_1 = \text{ReLU}(A_1 z), \quad h_l = \text{ReLU}(A_l h_{l-1} + W_l z), \quad f(z) = O h_L + U z

    Without the skip W and U are 0.

    References:
        | Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2021): "shared" and "optimal"
        | https://arxiv.org/abs/2006.13202
        | Avoiding Latent Variable Collapse with Generative Skip Models (Dieng et al., 2019): `skip`
        | https://arxiv.org/abs/1807.04863

    Arguments:
        shape: The shape of an item.
        latent: d, the size of z.
        hidden: The widths of the hidden layers, the first of them next to z.
        likelihood: "gaussian" for real numbers, "bernoulli" for zeros and ones; for values on a scale "logistic", a
            logistic law in bins, or "categorical", a probability for each level.
        variance: Whose: of "elements", "shared", or "optimal"; of a Gaussian likelihood, and the first two of a
            logistic one.
        inverse_lipschitz: None for rectified layers. Else f is one under which no two z have one output, and this is
            the inverse Lipschitz constant of each of its two maps (see `lipschitz.Injective`).
        skip: Whether z also reaches each later layer directly.
        levels: How many values an element can have, between 0 and 1; None for real numbers.

    Raises:
        InputError: for a variance of a likelihood that has none, a likelihood of other values than there are, a skip of
            layers that are to keep all z apart, and for an item too small for that.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent: int,
        hidden: list[Count],
        likelihood: Likelihood = "gaussian",
        variance: Variance = "elements",
        inverse_lipschitz: Weight | None = None,
        skip: bool = False,
        levels: int | None = None,
    ) -> None:
        super().__init__(shape, likelihood, variance, levels)
        sizes = latent, hidden, math.prod(shape) * self.numbers
        if skip and inverse_lipschitz is not None:
            raise InputError("layers that keep all z apart have no `skip`: leave it or `inverse_lipschitz` out.")
        if inverse_lipschitz is not None:
            self.layers = Injective(*sizes, inverse_lipschitz)
        else:
            self.layers = Skipped(latent, layers(*sizes)) if skip else layers(*sizes)

    def found(self, z: Tensor) -> Tensor:
        return self.layers(z).unflatten(-1, (*self.shape, self.numbers) if self.numbers > 1 else self.shape)


class Skipped(nn.Module):
    """Layers of which each but the first is also told of what the first reads.

    Arguments:
        inputs: How many numbers that is.
        layers: The layers, linear ones and others in turn.
    """

    def __init__(self, inputs: int, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers
        later = (layer for layer in list(layers)[1:] if isinstance(layer, nn.Linear))
        self.beside = nn.ModuleList(nn.Linear(inputs, layer.out_features, bias=False) for layer in later)

    def forward(self, z: Tensor) -> Tensor:
        first, *later = self.layers
        found, beside = first(z), iter(self.beside)
        for layer in later:
            found = layer(found) + next(beside)(z) if isinstance(layer, nn.Linear) else layer(found)
        return found


def layers(inputs: int, hidden: list[int], outputs: int, leak: float = 0.0) -> nn.Sequential:
    widths = [inputs, *hidden]
    between = [
        layer
        for a, b in zip(widths, hidden, strict=False)
        for layer in (nn.Linear(a, b), nn.LeakyReLU(leak) if leak else nn.ReLU())
    ]
    return nn.Sequential(*between, nn.Linear(widths[-1], outputs))
