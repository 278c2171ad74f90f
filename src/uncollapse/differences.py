r"""Gradients that can be differentiated once more, by finite differences.

.. math:: H v \approx (\nabla f(\lambda + \epsilon v) - \nabla f(\lambda)) / \epsilon

for the matrix H of second derivatives of f in :math:`\lambda`, or in :math:`\lambda` and the model's parameters. Both
gradients are of the same draws and dropout masks, as what differs between them is divided by :math:`\epsilon`.

References:
    | Semi-Amortized Variational Autoencoders (Kim et al., 2018)
    | https://arxiv.org/abs/1802.02550
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from uncollapse.noise import Replay

#: In float32 the error of rounding is about 1e-7 / DIFFERENCE, that of the difference about DIFFERENCE. The code of the
#: paper moves by 1e-5 times v, which for the small v of a mean over items float32 does not resolve.
DIFFERENCE = 1e-3

Gradient = Callable[[Sequence[Tensor]], Sequence[Tensor | None]]


def product(gradient: Gradient, values: Sequence[Tensor], v: Sequence[Tensor], epsilon: float | Tensor) -> list[Any]:
    """H v, for each of what a gradient is of; None where it is None."""
    moved = gradient([value + epsilon * way for value, way in zip(values, v, strict=True)])
    there = gradient(values)
    return [None if a is None or b is None else (a - b) / epsilon for a, b in zip(moved, there, strict=True)]


class Differences:
    """The gradient of a loss in some values; its own gradient, in them and in parameters, is by finite differences.

    Arguments:
        loss: Of the values by name.
        parameters: Those of the model that get a gradient through this one.
        difference: How far the number that moves most is moved.
    """

    def __init__(self, loss: Callable[[Any], Tensor], parameters: Sequence[Tensor], difference: float) -> None:
        self.loss, self.parameters, self.difference = loss, parameters, difference

    def __call__(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        replay = Replay(next(iter(values.values())).device)

        def gradient(at: Sequence[Tensor], *beside: Tensor) -> Sequence[Tensor | None]:
            with torch.enable_grad():
                here = [value.detach().requires_grad_() for value in at]
                loss = self.loss(dict(zip(values, here, strict=True)))
                return torch.autograd.grad(loss, [*here, *beside], allow_unused=True, retain_graph=True)

        def again(at: Sequence[Tensor]) -> Sequence[Tensor | None]:
            with replay():
                return gradient(at, *self.parameters)

        found = _Slopes.apply(gradient, again, self.difference, len(values), *values.values(), *self.parameters)
        return dict(zip(values, found, strict=True))  # pyright: ignore[reportArgumentType]


class _Slopes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Gradient, again: Gradient, difference: float, count: int, *inputs: Tensor) -> Any:
        ctx.again, ctx.difference = again, difference
        values = inputs[:count]
        ctx.save_for_backward(*values)
        found = zip(gradient(values), values, strict=True)
        return tuple(torch.zeros_like(value) if slope is None else slope for slope, value in found)

    @staticmethod
    def backward(ctx: Any, *v: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        longest = torch.stack([way.abs().amax() for way in v]).amax()
        # Nothing is asked of a way of no length, and it may not be divided by.
        epsilon = ctx.difference / longest.clamp(min=torch.finfo(longest.dtype).tiny)
        return *[None] * 4, *product(ctx.again, ctx.saved_tensors, v, epsilon)
