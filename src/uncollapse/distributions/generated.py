"""Laws of what a network makes of noise: they can be drawn from, and have no density that is known."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from uncollapse.distributions.operations import detached, parameters, rebuild
from uncollapse.errors import InputError

#: What to say where a figure needs the density.
WHY = "the prior has no density that is known, draws alone: there is no rate, and no bound on the density of an item"


class Generated(Distribution):
    """The law of z = g(e), e ~ N(0, I), for any network g.

    Arguments:
        network: g, from (..., n) to (..., d).
        noise: n, the number of units of e.
        latent: d.
    """

    arg_constraints: ClassVar[dict] = {}  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    has_rsample = True

    def __init__(self, network: Callable[[Tensor], Tensor], noise: Tensor, latent: int) -> None:
        self.network, self.noise = network, noise
        super().__init__(torch.Size(), torch.Size([latent]), validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws (*sample_shape, d), through which the network learns."""
        return self.network(self.noise.new_empty(*sample_shape, len(self.noise)).normal_())

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Refused, as nobody knows it."""
        raise InputError(f"{WHY}.")


def has_density(law: Distribution | None) -> bool:
    """Whether a law can be asked for the density of a point."""
    return not isinstance(law, Generated)


@parameters.register
def _(law: Generated) -> dict[str, Tensor]:
    return {}  # None by item: all are the network's.


@rebuild.register
def _(law: Generated, values: dict[str, Tensor]) -> Generated:
    return law


@detached.register
def _(law: Generated) -> Generated:
    return Generated(copy.deepcopy(law.network).requires_grad_(False), law.noise, law.event_shape[0])  # pyright: ignore
