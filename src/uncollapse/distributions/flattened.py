"""Laws for decoders that know one batch dimension, where z has two: samples and items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from uncollapse.errors import InputError


class Flattened(Distribution):
    """The law of S draws of each of B items, made of one over S * B items.

    What is scored is summed over the item, whatever its shape: images are reshaped to what the law is over.

    Arguments:
        law: Over the draws of the items, batch shape (S * B, ...); what its batch shape has beyond that is the item's.
        shape: (S, B).
    """

    arg_constraints: ClassVar[dict] = {}  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]

    def __init__(self, law: Distribution, shape: torch.Size) -> None:
        whole = law.batch_shape + law.event_shape
        if not law.batch_shape or whole[0] != shape.numel():
            raise InputError(
                f"`decode` gives a law with the shape {tuple(whole)} for {shape.numel()} draws of z: let it give one "
                "with a draw in each place of its first dimension."
            )
        self.law = law
        super().__init__(shape, whole[1:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats with shape (S, B), for values with shape (B, ...)."""
        if value[0].numel() != self.event_shape.numel():
            raise InputError(
                f"`decode` gives a law over {tuple(self.event_shape)} an item, and the items have the shape "
                f"{tuple(value.shape[1:])}: both must hold as many numbers."
            )
        each = value.expand(*self.batch_shape, *value.shape[1:]).reshape(-1, *self.event_shape)
        return self.law.log_prob(each).unsqueeze(-1).flatten(1).sum(1).unflatten(0, self.batch_shape)

    @property
    def mean(self) -> Tensor:
        return self.law.mean.unflatten(0, self.batch_shape)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008  (as torch has it)
        return self.law.sample(sample_shape).unflatten(len(sample_shape), self.batch_shape)


class Scored(Distribution):
    """A law of which nothing is known but how to score it.

    Arguments:
        log_likelihood: log p(x | z) of items x (N, ...) and draws z (N, ...), with shape (N,) or (N, ...), which is
            summed over the item.
        z: The draws, with shape (S, B, ...).
    """

    arg_constraints: ClassVar[dict] = {}  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]

    def __init__(self, log_likelihood: Callable[[Tensor, Tensor], Tensor], z: Tensor) -> None:
        self.log_likelihood, self.z = log_likelihood, z
        super().__init__(z.shape[:2], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats with shape (S, B), for values with shape (B, ...)."""
        each = value.expand(*self.batch_shape, *value.shape[1:]).flatten(0, 1)
        found = self.log_likelihood(each, self.z.flatten(0, 1))
        if not isinstance(found, Tensor) or not found.ndim or len(found) != len(each):
            shape = tuple(found.shape) if isinstance(found, Tensor) else f"a `{type(found).__name__}`"
            raise InputError(
                f"`log_likelihood` gives {shape} for {len(each)} items, and must give a number of nats for each: do "
                "not sum or average over the items."
            )
        return found.unsqueeze(-1).flatten(1).sum(1).unflatten(0, self.batch_shape)
