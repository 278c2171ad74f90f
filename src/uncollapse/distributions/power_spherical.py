"""The power spherical law: like von Mises-Fisher's, without a Bessel function."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Beta, Distribution, constraints
from torch.distributions.kl import register_kl

from uncollapse.distributions.loose import loose, tight
from uncollapse.distributions.operations import pairwise_log_prob, space
from uncollapse.distributions.sphere import around, direction
from uncollapse.distributions.von_mises_fisher import VonMisesFisher, cross


class PowerSpherical(Distribution):
    r"""A law on the unit sphere in R^d that falls off from a mean direction by a power.

    .. math:: p(z) \propto (1 + \mu^\top z)^\kappa, \quad
              \tfrac12 (1 + \mu^\top z) \sim \text{Beta}(\tfrac{d-1}2 + \kappa, \tfrac{d-1}2)

    Its kappa is not von Mises-Fisher's: the same one says less.

    References:
        | The Power Spherical Distribution (De Cao & Aziz, 2020)
        | https://arxiv.org/abs/2006.04437

    Arguments:
        loc: The mean direction, unit vectors (..., d), d at least 2.
        concentration: kappa >= 0, with shape (...).
    """

    arg_constraints: ClassVar[dict] = {"loc": constraints.real_vector, "concentration": constraints.nonnegative}  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    has_rsample = True

    def __init__(self, loc: Tensor, concentration: Tensor, validate_args: bool | None = False) -> None:
        self.loc, self.concentration = loc, concentration
        super().__init__(concentration.shape, loc.shape[-1:], validate_args=validate_args)

    @property
    def _shapes(self) -> tuple[Tensor, Tensor]:
        """The two numbers of the Beta law, in float64."""
        b = torch.full_like(self.concentration, (self.event_shape[0] - 1) / 2, dtype=torch.float64)
        return self.concentration.double() + b, b

    @property
    def _log_total(self) -> Tensor:
        a, b = self._shapes
        return (a + b) * math.log(2) + a.lgamma() - (a + b).lgamma() + b * math.log(math.pi)

    @property
    def mean(self) -> Tensor:
        """E[z], with shape (..., d)."""
        a, b = self._shapes
        return ((a - b) / (a + b)).to(self.loc).unsqueeze(-1) * self.loc

    def log_prob(self, value: Tensor) -> Tensor:
        return self.score((value.double() * self.loc.double()).sum(-1)).to(self.loc)

    def score(self, cosine: Tensor) -> Tensor:
        """log p, in float64, at points by the cosine of their angle to the mean direction."""
        # Opposite the mean direction the density is 0: a draw is never there, but a rounded one may be.
        least = torch.finfo(torch.float32).tiny
        return self.concentration.double() * (1 + cosine).clamp_min(least).log() - self._log_total

    def entropy(self) -> Tensor:
        a, b = self._shapes
        expected = self.concentration.double() * (math.log(2) + a.digamma() - (a + b).digamma())
        return (self._log_total - expected).to(self.loc)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        share = Beta(*self._shapes, validate_args=False).rsample(torch.Size(sample_shape))
        sine = 2 * (share * (1 - share)).clamp_min(1e-14).sqrt()
        return around(self.loc, (2 * share - 1).to(self.loc), sine.to(self.loc))

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> PowerSpherical:  # pyright: ignore[reportIncompatibleMethodOverride]
        loc = self.loc.expand(*batch_shape, *self.event_shape)
        return PowerSpherical(loc, self.concentration.expand(batch_shape))


@register_kl(PowerSpherical, VonMisesFisher)
def _kl(q: PowerSpherical, p: VonMisesFisher) -> Tensor:
    return cross(q.mean, p) - q.entropy()


@pairwise_log_prob.register
def _(law: PowerSpherical, z: Tensor) -> Tensor:
    return law.score(z.double() @ law.loc.double().T)


@space.register
def _(law: PowerSpherical) -> str:
    return "unit vectors"


@loose.register
def _(law: PowerSpherical) -> dict[str, Tensor]:
    # How sure q is stays: it may be a constant of the model.
    return {"loc": law.loc}


@tight.register
def _(law: PowerSpherical, values: dict[str, Tensor]) -> PowerSpherical:
    return PowerSpherical(direction(values["loc"]), law.concentration)
