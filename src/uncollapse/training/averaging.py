"""Averaged weights: the mean of those that a player has stepped through since its validation got no better."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from uncollapse.quantities import Count
from uncollapse.training.sharding import here, like, whole


@dataclass(frozen=True)
class Averaging:
    r"""Averages the weights from the first epoch that is worse than an earlier one, the last few aside (NT-ASGD).

    .. math:: T = \min \{t : v_t > \min(v_0, \dots, v_{t - n - 1})\}, \quad
              \bar\theta_k = \frac{1}{k - k_T} \sum_{i = k_T + 1}^k \theta_i

    where :math:`v_t` is the negative bound of the validation split after epoch t, counted from 0, and :math:`k_T` how
    often the player had stepped by the end of epoch T. Validation, the best checkpoint and the trained model have the
    mean, and training goes on from :math:`\theta_k`. Buffers, such as the averages of a batch normalisation, are those
    of :math:`\theta_k`. A decay of the learning rate begins the mean anew.

    The source averages SGD's steps; any other optimiser's are averaged alike. The rule is that of its code and of its
    published text; the first preprint's holds an epoch against the last n alone.

    References:
        | Regularizing and Optimizing LSTM Language Models (Merity et al., 2018), Algorithm 1
        | https://arxiv.org/abs/1708.02182

    Arguments:
        interval: The non-monotone interval n: how many of the epochs before are not held against an epoch.
    """

    interval: Count = 5


class Average:
    """The mean of a player's weights over its steps since the rule of `Averaging` was met.

    Arguments:
        parameters: The player's.
        interval: As for `Averaging`; None for no averaging.
    """

    def __init__(self, parameters: Sequence[Tensor], interval: int | None) -> None:
        self.parameters, self.interval = parameters, interval
        self.forget()

    def forget(self) -> None:
        """Begins anew, as if there had been no validation yet."""
        self.values: list[float] = []
        self.on = False
        self.renew()

    def renew(self) -> None:
        """Begins the mean anew."""
        self.count = 0
        self.means: list[Tensor] = []

    def observe(self, value: float) -> None:
        """Hears the negative bound of the validation split after an epoch."""
        if self.interval is None or self.on:
            return
        earlier = self.values[: -self.interval]
        self.on = bool(earlier) and value > min(earlier)
        self.values.append(value)

    def add(self) -> None:
        """Takes the weights of now into the mean."""
        if not self.on:
            return
        self.count += 1
        if self.count == 1:
            self.means = [parameter.detach().clone() for parameter in self.parameters]
            return
        with torch.no_grad():
            for mean, parameter in zip(self.means, self.parameters, strict=True):
                here(mean).lerp_(here(parameter), 1 / self.count)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within it the player's weights are their mean, where there is one."""
        raw = [parameter.detach().clone() for parameter in self.parameters] if self.count else []
        self._put(self.means)
        try:
            yield
        finally:
            self._put(raw)

    def _put(self, values: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.parameters, values, strict=False):  # None where there is no mean.
                here(parameter).copy_(here(value))

    def memory(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a checkpoint must hold: the mean, each tensor whole, and what else is remembered as JSON."""
        means = {str(number): whole(mean) for number, mean in enumerate(self.means)}
        return means, {"values": self.values, "on": self.on, "count": self.count}

    def recall(self, means: dict[str, Tensor], rest: dict[str, Any]) -> None:
        """Takes back what `memory` gave."""
        self.values, self.on, self.count = [*rest["values"]], rest["on"], rest["count"]
        kept = enumerate(self.parameters) if self.count else ()
        self.means = [like(parameter, means[str(number)].to(parameter.device)) for number, parameter in kept]


@contextmanager
def shown(averages: Iterable[Average]) -> Iterator[None]:
    """Within it the weights are their means, where there are such."""
    with ExitStack() as stack:
        for average in averages:
            stack.enter_context(average.shown())
        yield
