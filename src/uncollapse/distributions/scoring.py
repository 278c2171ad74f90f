r"""Softmax scores of tokens, without the logits of a whole batch.

.. math:: s_n = \log \text{softmax}(W h_n)_{x_n}, \qquad
          \frac{\partial s_n}{\partial h_n} = W^\top (1_{x_n} - p_n), \qquad
          \frac{\partial}{\partial W} \sum_n g_n s_n = \sum_n g_n (1_{x_n} - p_n) h_n^\top

The logits of a language model are by far its largest tensor. Both gradients need them, so they are taken while a
few rows of logits are at hand, and no row is kept for later. Of W that is possible before g is known only where
all g_n are equal, as in the ELBO; else the rows are made again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: How many logits exist at a time on a processor, 32 MB of float32, and on a GPU, 512 MB.
LOGITS, LOGITS_ON_GPU = 2**23, 2**27

#: Rows of logits start at multiples of this many numbers: matrix products into rows that do not are a third slower.
ALIGNED = 16


def scores(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """The log-probability of each target, with shape (P,), in float32 or finer.

    Arguments:
        hidden: The states h, with shape (P, H).
        weight: The matrix W, with shape (V, H).
        target: The tokens x, with shape (P,).
    """
    exact = hidden.dtype == weight.dtype and hidden.dtype in (torch.float32, torch.float64)
    plain = torch.is_autocast_enabled(hidden.device.type) or not exact or not len(target)
    step = _at_a_time(hidden, weight)
    if torch.is_grad_enabled():
        plain = plain or (hidden.device.type != "cpu" and len(target) <= step)
        return _plain(hidden, weight, target) if plain else _Scores.apply(hidden, weight, target)  # pyright: ignore[reportReturnType]
    if not plain:
        return torch.cat([scored for _, scored, _ in _rows(hidden, weight, target)])
    return torch.cat([_plain(h, weight, x) for h, x in zip(hidden.split(step), target.split(step), strict=True)])


def _at_a_time(hidden: Tensor, weight: Tensor) -> int:
    return max(1, (LOGITS if hidden.device.type == "cpu" else LOGITS_ON_GPU) // len(weight))


def wide(logits: Tensor) -> Tensor:
    """Logits in float32 or finer: half precision has too few digits for sums over a vocabulary and over an item."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _plain(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """The scores by torch's own functions: all that half precision and second derivatives need."""
    return -F.cross_entropy(wide(F.linear(hidden, weight)), target, reduction="none")


class _Scores(torch.autograd.Function):
    """The scores, whose gradients are taken along with them."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight, target)
        ctx.of_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        ctx.of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        found = []
        for rows, scored, probabilities in _rows(hidden, weight, target):
            found.append(scored)
            residuals = _residuals(probabilities, target[rows])
            if ctx.of_hidden is not None:
                torch.mm(residuals, weight, out=ctx.of_hidden[rows])
            if ctx.of_weight is not None:
                ctx.of_weight.addmm_(residuals.T, hidden[rows])
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (g,), (hidden, weight, target) = gradients, ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_differentiable(hidden, weight, target, g, ctx.needs_input_grad), None
        of_hidden = None if ctx.of_hidden is None else ctx.of_hidden * g.unsqueeze(1)
        if not ctx.needs_input_grad[1]:
            return of_hidden, None, None
        of_weight, ctx.of_weight = ctx.of_weight, None
        if of_weight is not None and bool((g == g[0]).all()):
            return of_hidden, of_weight.mul_(g[0]), None
        return of_hidden, _of_weight(hidden, weight, target, g), None


def _rows(hidden: Tensor, weight: Tensor, target: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Which rows, their scores, and the probabilities p of all tokens, in memory that the next rows will take."""
    size, step = len(weight), _at_a_time(hidden, weight)
    memory = hidden.new_empty(min(step, len(hidden)), -(-size // ALIGNED) * ALIGNED)
    for first in range(0, len(hidden), step):
        rows = slice(first, min(first + step, len(hidden)))
        padded, wanted = memory[: rows.stop - first], target[rows].unsqueeze(1)
        padded[:, size:] = -torch.inf
        logits = padded[:, :size]
        torch.mm(hidden[rows], weight.T, out=logits)
        scored = logits.gather(1, wanted) - logits.amax(1, keepdim=True)
        torch.softmax(padded, 1, out=padded)
        # The largest probability is 1 / sum(exp(l - max l)): no logarithm is taken of one that may have vanished.
        scored += logits.amax(1, keepdim=True).log()
        yield rows, scored.squeeze(1), logits


def _residuals(probabilities: Tensor, target: Tensor) -> Tensor:
    """1_x - p, in place."""
    one = probabilities.new_ones(len(target), 1)
    return probabilities.neg_().scatter_add_(1, target.unsqueeze(1), one)


def _of_weight(hidden: Tensor, weight: Tensor, target: Tensor, g: Tensor) -> Tensor:
    """The gradient of W where the scores do not all count alike."""
    found = torch.zeros_like(weight)
    for rows, _, probabilities in _rows(hidden, weight, target):
        residuals = _residuals(probabilities, target[rows])
        found.addmm_(residuals.T, hidden[rows] * g[rows].unsqueeze(1))
    return found


def _differentiable(
    hidden: Tensor, weight: Tensor, target: Tensor, g: Tensor, wanted: tuple[bool, ...]
) -> list[Tensor | None]:
    """Both gradients as functions that can be differentiated again."""
    # Aliases, as the states may depend on a weight that is tied to the embedding.
    inputs = hidden.view_as(hidden), weight.view_as(weight)
    asked = [i for i in (0, 1) if wanted[i]]
    found = torch.autograd.grad(_plain(*inputs, target), [inputs[i] for i in asked], g, create_graph=True)
    by_input = dict(zip(asked, found, strict=True))
    return [by_input.get(0), by_input.get(1)]
