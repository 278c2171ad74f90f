r"""Refinement: posteriors that descend each item's own loss before they are used.

.. math:: v_k = \gamma v_{k-1} - \nabla_\lambda f(\lambda_k), \qquad \lambda_{k+1} = \lambda_k + \alpha v_k

:math:`\lambda` are the parameters of q as numbers without limits, of a Gaussian its mean and log-variance, and f is the
loss summed over the items, so that no item's steps depend on the others in its batch.

References:
    | Semi-Amortized Variational Autoencoders (Kim et al., 2018)
    | https://arxiv.org/abs/1802.02550
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent
from torch.nn.attention import SDPBackend, sdpa_kernel

from uncollapse.bound import Batch
from uncollapse.differences import DIFFERENCE, Differences
from uncollapse.distributions.loose import loose, tight
from uncollapse.errors import InputError
from uncollapse.inference import Aim
from uncollapse.model import Model, ask, posterior
from uncollapse.quantities import Count, Dropout, Positive

#: The parameters of the posteriors of a batch by name, as numbers without limits, each (B, ...).
Values = dict[str, Tensor]
#: From values to the gradient of the loss in them.
Slope = Callable[[Values], Values]


@dataclass(frozen=True)
class Steps:
    """Descent with momentum, each item by itself.

    The code of the paper steps at rate 1 on the mean over a batch of 32 items, and clips the norm of that mean's
    gradient to 5: of an item that is a rate of 1/32, and a norm of 28 where all items' gradients are alike.

    Arguments:
        count: K, how many.
        learning_rate: alpha, of an item's own gradient.
        momentum: gamma.
        clip: The largest norm of an item's gradient in one parameter; None for no clipping.
    """

    count: Count = 20
    learning_rate: Positive = 1 / 32
    momentum: Dropout = 0.5
    clip: Positive | None = None

    def __call__(self, values: Values, slope: Slope) -> Values:
        """Where the steps from some values end."""
        velocity: Values = {name: torch.zeros_like(value) for name, value in values.items()}
        for _ in range(self.count):
            slopes = slope(values)
            velocity = {name: self.momentum * v - self._clipped(slopes[name]) for name, v in velocity.items()}
            values = {name: value + self.learning_rate * velocity[name] for name, value in values.items()}
        return values

    def _clipped(self, slope: Tensor) -> Tensor:
        if self.clip is None:
            return slope
        norm = torch.linalg.vector_norm(slope.flatten(1), dim=1).view(-1, *(1,) * (slope.ndim - 1))
        return slope * (self.clip / norm.clamp(min=self.clip))


@dataclass(frozen=True)
class SemiAmortised:
    r"""The encoder's answer, refined by some steps on each item's own loss; training goes through the steps.

    .. math:: \lambda_0 = \mathrm{enc}_\phi(x), \quad
              \min_{\phi, \theta} f(\lambda_K(\lambda_0, \theta), \theta)

    Encoder and decoder get the whole gradient, second derivatives included: what the decoder does to where the steps
    lead counts too. Each step costs a pass of the decoder forward and one back; in training one more back, which is
    twice as long, or with differences two more of both.

    References:
        | Semi-Amortized Variational Autoencoders (Kim et al., 2018)
        | https://arxiv.org/abs/1802.02550

    Arguments:
        steps: How q is refined.
        gradient: "exact", or by finite "differences" with the same noise (see `differences`), which any layer can do;
            what terms learn gets none of it.
        difference: How far the number that moves most is moved for these.

    Raises:
        InputError: for a model whose posterior cannot be refined.
    """

    steps: Steps = Steps()
    gradient: Literal["exact", "differences"] = "exact"
    difference: Positive = DIFFERENCE

    def __call__(self, model: Model, x: Batch, aim: Aim) -> Distribution:
        learns = learning(model)
        with torch.enable_grad():
            law = start(model, x)
            values, loss = loose(law), loss_of(model, x, aim, law)
            if not learns:
                return tight(law, self.steps(detached(values), partial(slopes, loss)))
            if self.gradient == "differences":
                moving = [p for p in model.parameters() if p.requires_grad]  # pyright: ignore[reportAttributeAccessIssue]
                return tight(law, self.steps(values, Differences(loss, moving, self.difference)))
            with twice_differentiable():
                return tight(law, self.steps(values, partial(slopes, loss, through=True)))


def learning(model: Model) -> bool:
    """Whether a model is in training here: some of its parameters ask for a gradient that will be taken."""
    return torch.is_grad_enabled() and isinstance(model, nn.Module) and any(p.requires_grad for p in model.parameters())


def start(model: Model, x: Batch) -> Distribution:
    """The encoder's answer.

    Raises:
        InputError: where it is no law, or one whose draws have no gradient.
    """
    law = posterior(model, x)
    if law is None:
        raise InputError(
            f"cannot refine the posterior of `{type(model).__name__}`, which depends on the path: leave "
            "`training.inference` out."
        )
    if not law.has_rsample:
        inner = law.base_dist if isinstance(law, Independent) else law
        raise InputError(
            f"cannot refine a `{type(inner).__name__}`, whose draws have no gradient: take another family, such as "
            "`gaussian`, or leave `training.inference` out."
        )
    return law


def loss_of(model: Model, x: Batch, aim: Aim, law: Distribution) -> Callable[[Values], Tensor]:
    """The loss of a batch, summed over its items, as a function of the parameters of posteriors of a family."""
    return lambda values: aim(ask(model, x, tight(law, values)))


def slopes(loss: Callable[[Values], Tensor], values: Values, through: bool = False) -> Values:
    """The gradient of a loss in some values; `through`, where it can be differentiated again."""
    here = values if through else detached(values)
    here = {name: value if value.requires_grad else value.requires_grad_() for name, value in here.items()}
    found = torch.autograd.grad(loss(here), list(here.values()), create_graph=through, materialize_grads=True)
    return dict(zip(here, found, strict=True))


def detached(values: Values) -> Values:
    return {name: value.detach() for name, value in values.items()}


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Within it the layers that know no second derivative are computed by others that do."""
    with torch.backends.cudnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
        yield
