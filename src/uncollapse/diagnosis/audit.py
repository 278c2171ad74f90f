r"""What a loss really weighs: its gradient as a sum of those of distortion and rate.

.. math:: \nabla \text{loss} \approx a \nabla \text{distortion} + b \nabla \text{rate}, \qquad \beta = b / a

A loss of means where the bound has sums, of squares where it has a Gaussian's nats, or with a factor somewhere, still
is one of this form, and :math:`\beta` is the KL weight that it amounts to. The gradients are taken at perturbed
parameters, as at a collapsed model that of the rate is 0. The loss draws noise of its own, so that a and b are found by
instrumental variables: the product of two gradients from independent noise is unbiased.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from uncollapse.bound import Batch
from uncollapse.metrics.estimate import Unavailable
from uncollapse.metrics.subject import evaluating, networks
from uncollapse.model import ask
from uncollapse.randomness import generator, seeded

#: From a batch to the loss that is descended, ().
LossOf = Callable[[Batch], Tensor]

#: How often gradients are taken, and how far parameters are moved first, of their root mean square.
REPEATS, PERTURBED = 8, 0.1

UNCHECKED = Unavailable("not checkable without your loss: `uc.diagnose(model, data, loss=lambda x: ...)`")


class Audit(NamedTuple):
    """The weights that a loss amounts to, for the mean over the items of a batch."""

    distortion: float
    """a."""
    rate: float
    """b."""
    beta: float
    se: float
    """Of beta, by the jackknife over repeats."""
    unexplained: float
    """The share of the loss's gradient that is of neither: 0 where the loss is nothing but the two."""


def audit(model: Any, loss: LossOf, x: Batch, seed: int = 0) -> Audit | Unavailable:
    """What a loss weighs on a batch.

    Arguments:
        model: Whose distortion and rate are meant; the loss must be of the same parameters.
        loss: The loss of a batch, a scalar.
        x: The batch, where the model is.
        seed: Decides the noise.
    """
    parameters = [p for root in networks(model) or [] for p in root.parameters() if p.requires_grad]
    if not parameters:
        return Unavailable("the model has no parameters that learn")
    with evaluating(model), torch.enable_grad(), _perturbed(parameters, seed):
        found = [_products(model, loss, x, parameters, seed, k) for k in range(REPEATS)]
    if isinstance(found[0], Unavailable) or any(isinstance(one, Unavailable) for one in found):
        return next(one for one in found if isinstance(one, Unavailable))
    products = torch.stack([one for one in found if isinstance(one, Tensor)])
    a, b, unexplained = _solved(products.mean(0))
    kept = [_solved(products[torch.arange(REPEATS) != k].mean(0)) for k in range(REPEATS)]
    betas = torch.tensor([one_b / one_a if one_a else torch.inf for one_a, one_b, _ in kept], dtype=torch.float64)
    se = ((REPEATS - 1) / REPEATS * (betas - betas.mean()).square().sum()).sqrt().item()
    return Audit(a, b, b / a if a else torch.inf, se, unexplained)


def _products(model: Any, loss: LossOf, x: Batch, to: list[nn.Parameter], seed: int, k: int) -> Tensor | Unavailable:
    """(3, 3), of the gradients of loss, distortion and rate under one noise with those under another."""
    rows = []
    for half in (0, 1):
        with seeded(seed, "audit", k, half, device=to[0].device):
            of_loss = _gradient(loss(x), to)
        if of_loss is None or not bool(of_loss.any()):
            return Unavailable(
                "the loss does not depend on the model's parameters: let it call the very module that the model is of"
            )
        with seeded(seed, "audit", k, half, device=to[0].device):
            bound = ask(model, x)
        parts = [_gradient(part.mean(), to) for part in (bound.distortion, bound.rate)]
        rows.append(torch.stack([of_loss, *(torch.zeros_like(of_loss) if part is None else part for part in parts)]))
    return rows[0] @ rows[1].T


def _gradient(value: Tensor, to: list[nn.Parameter]) -> Tensor | None:
    if not value.requires_grad:
        return None
    found = torch.autograd.grad(value, to, allow_unused=True, retain_graph=True, materialize_grads=True)
    return torch.cat([gradient.flatten().double().cpu() for gradient in found])


def _solved(products: Tensor) -> tuple[float, float, float]:
    """a, b and the share that they leave, from the products of gradients under two noises."""
    both = 0.5 * (products + products.T)
    gram, aims = both[1:, 1:], both[0, 1:]
    unit = gram.diagonal().clamp(min=torch.finfo(torch.float64).tiny).rsqrt()
    scaled = unit.unsqueeze(1) * gram * unit
    weights = torch.linalg.lstsq(scaled, (unit * aims).unsqueeze(1), driver="gelsd").solution.squeeze(1) * unit
    left = both[0, 0] - 2 * weights @ aims + weights @ gram @ weights
    return weights[0].item(), weights[1].item(), max(0.0, (left / both[0, 0]).item())


@contextmanager
def _perturbed(parameters: list[nn.Parameter], seed: int) -> Iterator[None]:
    """Within it, parameters are moved at random; after it they are as they were."""
    before = [p.detach().clone() for p in parameters]
    random = generator(seed, "perturb")
    try:
        with torch.no_grad():
            for p in parameters:
                size = PERTURBED * p.double().square().mean().sqrt().clamp(min=0.1).item()
                p.add_(size * torch.randn(p.shape, generator=random).to(p))
        yield
    finally:
        with torch.no_grad():
            for p, value in zip(parameters, before, strict=True):
                p.copy_(value)
