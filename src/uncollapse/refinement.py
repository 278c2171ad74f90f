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

from uncollapse.bound import Batch, items, size
from uncollapse.differences import DIFFERENCE, Differences
from uncollapse.distributions.loose import loose, tight
from uncollapse.divergence import kl_by_group
from uncollapse.errors import InputError
from uncollapse.inference import Aim, Taught
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


@dataclass(frozen=True)
class SVI:
    r"""Posteriors found by steps on each item's own loss that no gradient goes through; the encoder learns apart.

    .. math:: \min_\theta f(\lambda_K, \theta), \qquad
              \min_\phi f(\lambda_0) \text{ or } \min_\phi \mathrm{KL}(q_{\lambda_0} \| q_{\lambda_K})

    with :math:`\lambda_K` and the decoder held fixed for the encoder, whose lesson by the loss is the gradient of the
    first step, and costs nothing more.

    References:
        | Stochastic Variational Inference (Hoffman et al., 2013): "nothing"
        | https://arxiv.org/abs/1206.7051
        | On the Challenges of Learning with Inference Networks on Sparse, High-dimensional Data (Krishnan et al., 2018)
        | https://arxiv.org/abs/1710.06085: "loss"
        | Semi-Amortized Variational Autoencoders (Kim et al., 2018): "kl"
        | https://arxiv.org/abs/1802.02550
        | Iterative Refinement of the Approximate Posterior for Directed Belief Networks (Hjelm et al., 2016)
        | https://arxiv.org/abs/1511.06382: "reverse-kl"

    Arguments:
        steps: How q is refined.
        encoder_learns_by: With "nothing" it is not used, and the steps start from zeros, which of a Gaussian is the
            standard one. Else they start from its answer, and it learns by the "loss" at its answer, by the "kl" of its
            answer from the refined posterior, or by that of the refined one from its answer, "reverse-kl".

    Raises:
        InputError: for a model whose posterior cannot be refined.
    """

    steps: Steps = Steps()
    encoder_learns_by: Literal["nothing", "loss", "kl", "reverse-kl"] = "nothing"

    def __call__(self, model: Model, x: Batch, aim: Aim) -> Distribution | Taught:
        teaches = learning(model) and self.encoder_learns_by != "nothing"
        with torch.enable_grad():
            law, values = self._start(model, x)
            loss, seen = loss_of(model, x, aim, law), list[Values]()

            def noted(values: Values) -> Values:
                seen.append(slopes(loss, values))
                return seen[-1]

            q = tight(law, self.steps(detached(values), noted))
            return Taught(q, self._lesson(law, values, q, seen[0])) if teaches else q

    def _start(self, model: Model, x: Batch) -> tuple[Distribution, Values]:
        if self.encoder_learns_by != "nothing":
            law = start(model, x)
            return law, loose(law)
        # Two items tell the family: an encoder with batch normalisation takes no single one.
        with torch.no_grad():
            law = start(model, items(x, slice(0, 2)))
        return law, {name: value.new_zeros(size(x), *value.shape[1:]) for name, value in loose(law).items()}

    def _lesson(self, own: Distribution, values: Values, refined: Distribution, first: Values) -> Tensor:
        if self.encoder_learns_by == "loss":
            return lesson(values, first)
        q, p = (own, refined) if self.encoder_learns_by == "kl" else (refined, own)
        z = q.rsample((1,))  # pyright: ignore[reportArgumentType]
        return kl_by_group(q, p, q.log_prob(z), p.log_prob(z)).sum()


def lesson(values: Values, slopes: Values) -> Tensor:
    """(), whose gradient in some values is already known."""
    return torch.stack([(values[name] * slope.detach()).sum() for name, slope in slopes.items()]).sum()


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
