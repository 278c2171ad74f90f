r"""Iterative inference: a network that has learned how to improve posteriors by the gradient of their loss.

.. math:: \lambda_{t+1} = g_\phi \odot \lambda_t + (1 - g_\phi) \odot h_\phi, \qquad
          (g_\phi, h_\phi) = \mathrm{net}_\phi(\lambda_t, \nabla_\lambda f(\lambda_t))

References:
    | Iterative Amortized Inference (Marino et al., 2018)
    | https://arxiv.org/abs/1807.09356
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from uncollapse.bound import Batch
from uncollapse.distributions.loose import loose, tight
from uncollapse.errors import InputError
from uncollapse.inference import Aim, Taught
from uncollapse.model import Model
from uncollapse.posteriors import diagonal
from uncollapse.quantities import Count
from uncollapse.refinement import Slope, Values, detached, learning, lesson, loss_of, slopes, start

#: What the logarithm of a gradient is taken of at least.
SMALLEST = 1e-7
#: Between what a log-variance may be, as in the authors' code.
LOG_VARIANCE = (-15.0, 5.0)

Improvement = Callable[[Tensor, Tensor], Tensor]


class Update(nn.Module):
    """What makes better numbers of some numbers and the gradient of a loss in them, item by item.

    It reads the numbers, and sign and logarithm of the gradient, as gradients are of all sizes; its layers are highways
    of exponential linear units, and a gate mixes what it proposes with what there was.

    Arguments:
        count: How many numbers an item has.
        hidden: The width of the layers.
        layers: How many.
    """

    def __init__(self, count: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.into = nn.Linear(3 * count, hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers - 1))
        self.carries = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers - 1))
        self.proposal, self.gate = nn.Linear(hidden, count), nn.Linear(hidden, count)

    def forward(self, values: Tensor, slopes: Tensor) -> Tensor:
        """The better numbers, for numbers and gradients (B, count)."""
        read = torch.cat([values, slopes.abs().clamp(min=SMALLEST).log(), slopes.sign()], -1)
        h = F.elu(self.into(read))
        for layer, carry in zip(self.layers, self.carries, strict=True):
            h = torch.lerp(F.elu(layer(h)), h, carry(h).sigmoid())
        return torch.lerp(self.proposal(h), values, self.gate(h).sigmoid())


class Improving(nn.Module):
    """An encoder with the network that improves its answers; that is used by the inference `Iterative` alone.

    Arguments:
        encoder: Gives q(z | x) of a batch.
        update: From the parameters of q as numbers without limits (B, P), and the gradient in them, to better ones.
    """

    def __init__(self, encoder: nn.Module, update: nn.Module) -> None:
        super().__init__()
        self.encoder, self.update = encoder, update

    def forward(self, x: Batch) -> Distribution:
        return self.encoder(x)


def posterior(net: Callable[[int], nn.Module], latent: int, hidden: Count = 512, layers: Count = 2) -> Improving:
    """A Gaussian with independent units, and a network that improves it step by step: for the inference `iterative`.

    Arguments:
        net: Makes the encoder's network, from the number of its outputs.
        latent: The number of units.
        hidden, layers: Of the network that improves; see `Update`.
    """
    return Improving(diagonal(net, latent), Update(2 * latent, hidden, layers))


@dataclass(frozen=True)
class Iterative:
    r"""The encoder's answer, improved by a network that has learned how, from the gradient of each item's own loss.

    .. math:: \min_\phi \sum_{t \le T} f(\lambda_t), \qquad \min_\theta f(\lambda_T)

    No step hands a gradient to those before it: what the network reads is held fixed, and each of its answers, and the
    encoder's, is taught by the gradient that the next step reads, as in the authors' code. The decoder learns at the
    last one. Each step costs a pass of the decoder forward and one back.

    References:
        | Iterative Amortized Inference (Marino et al., 2018)
        | https://arxiv.org/abs/1807.09356

    Arguments:
        count: T, the number of steps.

    Raises:
        InputError: for a model whose encoder has no network that improves its answers, or whose posterior is no law.
    """

    count: Count = 5

    def __call__(self, model: Model, x: Batch, aim: Aim) -> Distribution | Taught:
        learns, update = learning(model), _update(model)
        with torch.enable_grad():
            law = start(model, x)
            loss = loss_of(model, x, aim, law)
            values, taught = improved(loose(law), lambda at: slopes(loss, at), update, self.count)
        return Taught(tight(law, values), taught) if learns else tight(law, detached(values))


def improved(values: Values, slope: Slope, update: Improvement, count: int) -> tuple[Values, Tensor]:
    """Where some steps lead, and what all places on the way but the last are taught by."""
    taught: list[Tensor] = []
    for _ in range(count):
        found = slope(values)
        taught.append(lesson(values, found))
        values = _moved(detached(values), found, update)
    return values, torch.stack(taught).sum()


def _moved(values: Values, slopes: Values, update: Improvement) -> Values:
    joined, ways = (torch.cat([one.flatten(1) for one in some.values()], 1) for some in (values, slopes))
    parts = update(joined, ways).split([value[0].numel() for value in values.values()], 1)
    moved = {name: part.view_as(values[name]) for name, part in zip(values, parts, strict=True)}
    return {name: value.clamp(*LOG_VARIANCE) if name == "log_variance" else value for name, value in moved.items()}


def _update(model: Any) -> Improvement:
    encoder = model.encoder if "encoder" in dir(model) else model
    if not isinstance(encoder, Improving):
        raise InputError(
            f"`Iterative` cannot improve the posteriors of `{type(encoder).__name__}`, without a network for it: set "
            "model.posterior={kind: iterative}, or wrap your encoder in `uncollapse.iterative.Improving`."
        )
    return encoder.update
