r"""An LSTM over sequences that draws of z share, with weights that are not trained.

.. math:: a_t = E_t + Z + R h_{t-1}, \quad i, f, o = \sigma(a_t^{ifo}), \quad g = \tanh(a_t^g), \quad
          c_t = f c_{t-1} + i g, \quad h_t = o \tanh c_t

Torch's own LSTM on a processor computes the gradients of its weights even where they are frozen, and reads every token
again for every draw. Here E is what the tokens put in, once for all draws, and Z what z does, once for all steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward


class Step(NamedTuple):
    """What one step makes of the states before it, each (S, B, H)."""

    i: Tensor
    f: Tensor
    g: Tensor
    o: Tensor
    c: Tensor
    tanh_c: Tensor
    h: Tensor


def unrolled(tokens: Tensor, constant: Tensor, h: Tensor, c: Tensor, recurrent: Tensor) -> Tensor:
    """The hidden states of all steps, with shape (T, S, B, H).

    Arguments:
        tokens: E, with shape (T, B, 4 H), the gates in torch's order i, f, g, o.
        constant: Z, with shape (S, B, 4 H).
        h, c: The states before the first step, with shape (S, B, H).
        recurrent: R, with shape (4 H, H); it gets no gradient.
    """
    if torch.is_grad_enabled():
        return _Unrolled.apply(tokens, constant, h, c, recurrent)  # pyright: ignore[reportReturnType]
    states = h.new_empty(len(tokens), *h.shape)
    for t, token in enumerate(tokens):
        *_, c, _, h = _step(token, constant, h, c, recurrent)
        states[t] = h
    return states


def _step(token: Tensor, constant: Tensor, h: Tensor, c: Tensor, recurrent: Tensor) -> Step:
    arriving = torch.addmm(constant.flatten(0, 1), h.flatten(0, 1), recurrent.T).view_as(constant) + token
    i, f, g, o = arriving.chunk(4, -1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    c = torch.addcmul(i * g, f, c)
    tanh_c = c.tanh()
    return Step(i, f, g, o, c, tanh_c, o * tanh_c)


class _Unrolled(torch.autograd.Function):
    """The steps with a backward pass that leaves the weights alone."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, constant: Tensor, h: Tensor, c: Tensor, recurrent: Tensor) -> Tensor:
        ctx.save_for_backward(tokens, constant, h, c, recurrent)
        ctx.steps = []
        for token in tokens:
            ctx.steps.append(_step(token, constant, h, c, recurrent))
            c, h = ctx.steps[-1].c, ctx.steps[-1].h
        return torch.stack([step.h for step in ctx.steps])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        tokens, constant, h, c, recurrent = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _differentiable((tokens, constant, h, c), recurrent, gradients[0], ctx.needs_input_grad)
        of_tokens = torch.empty_like(tokens) if ctx.needs_input_grad[0] else None
        of_constant, of_h, of_c = torch.zeros_like(constant), torch.zeros_like(h), torch.zeros_like(c)
        for t in reversed(range(len(tokens))):
            before = ctx.steps[t - 1].c if t else c
            arriving, of_c = _arriving(ctx.steps[t], before, of_h + gradients[0][t], of_c)
            of_constant += arriving
            of_h = (arriving.flatten(0, 1) @ recurrent).view_as(h)
            if of_tokens is not None:
                torch.sum(arriving, 0, out=of_tokens[t])
        return of_tokens, of_constant, of_h, of_c, None


def _arriving(step: Step, before: Tensor, of_h: Tensor, of_c: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of what arrives at the gates and of the cell before, from those of both states."""
    of_c = of_c + tanh_backward(of_h * step.o, step.tanh_c)
    of_gates = (
        sigmoid_backward(of_c * step.g, step.i),
        sigmoid_backward(of_c * before, step.f),
        tanh_backward(of_c * step.i, step.g),
        sigmoid_backward(of_h * step.tanh_c, step.o),
    )
    return torch.cat(of_gates, -1), of_c * step.f


def _differentiable(
    inputs: tuple[Tensor, ...], recurrent: Tensor, gradient: Tensor, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """The gradients as functions that can be differentiated again: by torch, through every step."""
    tokens, constant, h, c = inputs = tuple(tensor.view_as(tensor) for tensor in inputs)
    states = []
    for token in tokens:
        *_, c, _, h = _step(token, constant, h, c, recurrent)
        states.append(h)
    asked = [i for i, want in enumerate(wanted[:4]) if want]
    found = torch.autograd.grad(torch.stack(states), [inputs[i] for i in asked], gradient, create_graph=True)
    by_input = dict(zip(asked, found, strict=True))
    return *(by_input.get(i) for i in range(4)), None
