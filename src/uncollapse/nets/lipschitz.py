"""Layers under which no two inputs have one output: Brenier maps, the gradients of convex functions."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncollapse.errors import InputError


class Brenier(nn.Module):
    r"""The gradient of a network that is convex in its input.

    .. math:: x \mapsto \nabla f(x), \quad f = 1^\top h_K, \quad h_1 = s(W_1 x + b_1)^2, \quad
              h_k = s(\tfrac1n s(V_k) h_{k-1} + W_k x + b_k)

    with s the softplus, and n the width of :math:`h_{k-1}`. f is strictly convex where :math:`W_1` has full column
    rank, for which its width must not be less than that of x; then no two x have the same gradient.

    The gradient is written out, so that training takes no derivative of a derivative.

    References:
        | Input Convex Neural Networks (Amos et al., 2017)
        | https://arxiv.org/abs/1609.07152

    Arguments:
        size: The size of x.
        hidden: The widths of the h, at least one.
    """

    def __init__(self, size: int, hidden: list[int]) -> None:
        super().__init__()
        self.read = nn.ModuleList(nn.Linear(size, width) for width in hidden)
        self.grow = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(hidden))

    def forward(self, x: Tensor) -> Tensor:
        """The gradient at x (..., size), with its shape."""
        weights = [F.softplus(layer.weight) / layer.in_features for layer in self.grow]  # pyright: ignore
        first, *others = (layer(x) for layer in self.read)
        h, slopes = F.softplus(first).square(), [2 * F.softplus(first) * first.sigmoid()]
        for weight, read in zip(weights, others, strict=True):
            before = F.linear(h, weight) + read
            h = F.softplus(before)
            slopes.append(before.sigmoid())
        # From the last h, whose units count alike, back to the first.
        back = slopes.pop()
        found = back @ self.read[-1].weight
        for weight, layer in zip(reversed(weights), reversed(self.read[:-1]), strict=True):
            back = (back @ weight) * slopes.pop()
            found = found + back @ layer.weight
        return found


class Injective(nn.Module):
    r"""Two Brenier maps with a matrix of orthonormal columns between them: no two inputs have one output.

    .. math:: F(z) = g_2(Q g_1(z) + b), \quad g_i(x) = \nabla f_i(x) + L x, \quad Q^\top Q = I, \quad
              |F(z) - F(z')| \ge L^2 |z - z'|

    A likelihood with such a parameter tells all z apart, so that the exact posterior is never the prior.

    References:
        | Posterior Collapse and Latent Variable Non-identifiability (Wang et al., 2021): L = 0
        | https://arxiv.org/abs/2301.00537
        | Controlling Posterior Collapse by an Inverse Lipschitz Constraint on the Decoder Network (Kinoshita et al.,
        | 2023): L > 0
        | https://arxiv.org/abs/2304.12770

    Arguments:
        inputs: The size of z.
        hidden: The widths within each map; the first must not be less than `inputs`.
        outputs: The size of F(z); not less than `inputs`.
        inverse_lipschitz: L, the inverse Lipschitz constant of each map.

    Raises:
        InputError: where the sizes leave no room for different outputs.
    """

    def __init__(self, inputs: int, hidden: list[int], outputs: int, inverse_lipschitz: float) -> None:
        super().__init__()
        narrowest = min(outputs, *hidden[:1] or [0])
        if narrowest < inputs:
            raise InputError(
                f"{inputs} latent units cannot be told apart by {narrowest} numbers: let the items and the first of "
                f"`hidden` have at least as many, or lower `model.latent`."
            )
        self.first, self.last = Brenier(inputs, hidden), Brenier(outputs, hidden)
        self.between = nn.Linear(inputs, outputs)
        self.inverse_lipschitz = inverse_lipschitz

    def forward(self, z: Tensor) -> Tensor:
        """F(z), with shape (..., outputs), for z (..., inputs)."""
        # With signs, as else a column would change its own where the first number of one passes 0.
        columns, triangle = torch.linalg.qr(self.between.weight)
        inner = F.linear(self._map(self.first, z), columns * triangle.diagonal().sign(), self.between.bias)
        return self._map(self.last, inner)

    def _map(self, gradient: nn.Module, x: Tensor) -> Tensor:
        return gradient(x) + self.inverse_lipschitz * x
