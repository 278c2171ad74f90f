"""Inference: how q(z | x) is found for a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.distributions import Distribution

from uncollapse.bound import Batch, Bound
from uncollapse.model import Model, ask

#: What is to be low: a scalar of a bound, in nats, summed over the items, so that no item's share depends on others.
Aim = Callable[[Bound], Tensor]


class Taught(NamedTuple):
    """Posteriors, and what an encoder learns by that the bound under them does not say."""

    q: Distribution
    lesson: Tensor
    """(), summed over the items; its gradient is added to that of the loss, and its value counts nowhere."""


#: From a model, a batch and an aim to the posteriors of the batch; None for the model's own. In training there may be
#: a lesson with them.
Inference = Callable[[Model, Batch, Aim], Distribution | Taught | None]


def amortised(model: Model, x: Batch, aim: Aim) -> None:
    """The encoder's answer as it is."""


def posteriors(inference: Inference, model: Model, x: Batch, aim: Aim) -> tuple[Distribution | None, Tensor | None]:
    """What an inference finds: the posteriors of a batch, None for the model's own, and a lesson where there is one."""
    found = inference(model, x, aim)
    return found if isinstance(found, Taught) else (found, None)


def inferred(inference: Inference, model: Model, x: Batch, aim: Aim) -> tuple[Bound, Tensor | None]:
    """The bound on a batch under the posteriors that an inference finds, and a lesson where there is one.

    Raises:
        InputError: where the model gives none.
    """
    q, lesson = posteriors(inference, model, x, aim)
    return ask(model, x, q), lesson


def plain(bound: Bound) -> Tensor:
    """The negative bound, the rate at weight 1, summed over the items: the aim of all that is measured."""
    return (bound.distortion + bound.rate).sum()
