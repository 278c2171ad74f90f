"""Inference: how q(z | x) is found for a batch."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.distributions import Distribution

from uncollapse.bound import Batch, Bound
from uncollapse.model import Model, ask

#: What is to be low: a scalar of a bound, in nats, summed over the items, so that no item's share depends on others.
Aim = Callable[[Bound], Tensor]

#: From a model, a batch and an aim to the posteriors of the batch; None for the model's own.
Inference = Callable[[Model, Batch, Aim], Distribution | None]


def amortised(model: Model, x: Batch, aim: Aim) -> None:
    """The encoder's answer as it is."""


def inferred(inference: Inference, model: Model, x: Batch, aim: Aim) -> Bound:
    """The bound on a batch under the posteriors that an inference finds.

    Raises:
        InputError: where the model gives none.
    """
    return ask(model, x, inference(model, x, aim))


def plain(bound: Bound) -> Tensor:
    """The negative bound, the rate at weight 1, summed over the items: the aim of all that is measured."""
    return (bound.distortion + bound.rate).sum()
