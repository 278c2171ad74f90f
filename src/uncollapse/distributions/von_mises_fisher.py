"""The von Mises-Fisher law on the unit sphere, by quadrature over the angle to its mean direction."""

from __future__ import annotations

from functools import cached_property
from math import pi
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.kl import register_kl

from uncollapse.distributions.loose import loose, tight
from uncollapse.distributions.operations import pairwise_log_prob, space
from uncollapse.distributions.sphere import around, direction, log_area

#: Panels of the angle, and standard deviations of it on either side of its mode: together exact to twelve digits.
PANELS, WIDTH = 128, 14.0
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(4)


class VonMisesFisher(Distribution):
    r"""A law on the unit sphere in R^d that falls off from a mean direction; uniform at a concentration of 0.

    .. math:: \log p(z) = \kappa \mu^\top z - \log \int e^{\kappa \cos \theta} \sin^{d-2} \theta \, d\theta
              - \log |S^{d-2}|

    The integral is a Bessel function. Taken as it is, by Gauss-Legendre in float64 around the mode of the angle, it
    neither over- nor underflows at any d and kappa; the mean and the KL are means over the same angles, and the
    gradients of all of them are its own. Draws invert the angle's cumulative distribution by Newton steps, of which the
    last two carry the gradient: so the first and second derivatives in kappa are exact, and draws move with kappa
    smoothly, which they do not where proposals are accepted or rejected.

    References:
        | Spherical Latent Spaces for Stable Variational Autoencoders (Xu & Durrett, 2018)
        | https://arxiv.org/abs/1808.10805
        | Hyperspherical Variational Auto-Encoders (Davidson et al., 2018)
        | https://arxiv.org/abs/1804.00891

    Arguments:
        loc: The mean direction, unit vectors (..., d), d at least 2.
        concentration: kappa >= 0, with shape (...).
    """

    arg_constraints: ClassVar[dict] = {"loc": constraints.real_vector, "concentration": constraints.nonnegative}  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    has_rsample = True

    def __init__(self, loc: Tensor, concentration: Tensor, validate_args: bool | None = False) -> None:
        self.loc, self.concentration = loc, concentration
        super().__init__(concentration.shape, loc.shape[-1:], validate_args=validate_args)

    @cached_property
    def _angle(self) -> _Angle:
        return _Angle.of(self.concentration.double(), self.event_shape[0])

    @property
    def mean(self) -> Tensor:
        """E[z], with shape (..., d)."""
        return (1 - self._angle.mean()).to(self.loc).unsqueeze(-1) * self.loc

    @property
    def log_peak(self) -> Tensor:
        """log p at the mean direction, with shape (...), in float64."""
        return -self._angle.log_total - log_area(self.event_shape[0] - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.score((value.double() * self.loc.double()).sum(-1)).to(self.loc)

    def score(self, cosine: Tensor) -> Tensor:
        """log p, in float64, at points by the cosine of their angle to the mean direction."""
        return self.concentration.double() * (cosine - 1) + self.log_peak

    def entropy(self) -> Tensor:
        return (self.concentration.double() * self._angle.mean() - self.log_peak).to(self.loc)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        shape = torch.Size(sample_shape) + self.batch_shape
        uniform = torch.rand(shape, dtype=torch.float64, device=self.loc.device)
        angle = self._angle.quantile(uniform.reshape(-1, *self.batch_shape)).reshape(shape)
        return around(self.loc, angle.cos().to(self.loc), angle.sin().to(self.loc))

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> VonMisesFisher:  # pyright: ignore[reportIncompatibleMethodOverride]
        loc = self.loc.expand(*batch_shape, *self.event_shape)
        return VonMisesFisher(loc, self.concentration.expand(batch_shape))


class _Angle(NamedTuple):
    r"""The law of the angle, :math:`p(\theta) \propto e^{\kappa (\cos \theta - 1)} \sin^{d-2} \theta`, on panels."""

    kappa: Tensor
    """(...)."""
    power: int
    """d - 2."""
    edges: Tensor
    """(..., P + 1), between the panels, without a gradient: the integral does not depend on them."""
    points: Tensor
    """(..., P, 4), where the integrand is taken."""
    log_masses: Tensor
    """(..., P, 4), the logarithm of the integrand there, with the points' weights."""

    @classmethod
    def of(cls, kappa: Tensor, dimension: int) -> _Angle:
        power = dimension - 2
        with torch.no_grad():
            # The mode, and minus the second derivative of log p there.
            curvature = (power**2 + 4 * kappa.square()).sqrt()
            mode = torch.atan2((2.0 * power * (power + curvature)).sqrt(), 2 * kappa)
            reach = WIDTH / curvature.sqrt()
            low, high = (mode - reach).clamp_min(0), (mode + reach).clamp_max(pi)
            steps = torch.linspace(0, 1, PANELS + 1, dtype=kappa.dtype, device=kappa.device)
            edges = low.unsqueeze(-1) + (high - low).unsqueeze(-1) * steps
        points, weights = _panel(edges[..., :-1], edges[..., 1:])
        return cls(kappa, power, edges, points, _log_density(kappa[..., None, None], power, points) + weights.log())

    @property
    def log_total(self) -> Tensor:
        return self.log_masses.flatten(-2).logsumexp(-1)

    def mean(self) -> Tensor:
        """E[1 - cos], with shape (...)."""
        share = self.log_masses.flatten(-2).softmax(-1)
        return (share * 2 * (self.points.flatten(-2) / 2).sin().square()).sum(-1)

    def quantile(self, u: Tensor) -> Tensor:
        """The angles below which a share u (N, ...) of the law is, with shape (N, ...)."""
        masses = (self.log_masses - self.log_total[..., None, None]).exp().sum(-1)
        below = torch.cat([torch.zeros_like(masses[..., :1]), masses.cumsum(-1)], -1)
        u = u.movedim(0, -1).contiguous()
        panel = (torch.searchsorted(below.detach().contiguous(), u) - 1).clamp(0, PANELS - 1)
        start, rest = self.edges.gather(-1, panel), u - below.gather(-1, panel)
        with torch.no_grad():
            width = self.edges.gather(-1, panel + 1) - start
            angle = start + self._within(start, width, rest)
            angle = self._newton(self._newton(angle, start, rest), start, rest).clamp(start, start + width)
        return self._newton(self._newton(angle, start, rest), start, rest).movedim(-1, 0)

    def _within(self, start: Tensor, width: Tensor, rest: Tensor) -> Tensor:
        """How far into a panel a mass reaches if the density is a straight line there."""
        left, right = self._density(start), self._density(start + width)
        root = (left.square() + 2 * (right - left) * rest / width).clamp_min(0).sqrt()
        return (2 * rest / (left + root).clamp_min(torch.finfo(rest.dtype).tiny)).clamp_max(width)

    def _newton(self, angle: Tensor, start: Tensor, rest: Tensor) -> Tensor:
        points, weights = _panel(start, angle)
        reached = (self._density(points.flatten(-2)).view_as(points) * weights).sum(-1)
        return angle - (reached - rest) / self._density(angle).clamp_min(torch.finfo(rest.dtype).tiny)

    def _density(self, angle: Tensor) -> Tensor:
        return (_log_density(self.kappa.unsqueeze(-1), self.power, angle) - self.log_total.unsqueeze(-1)).exp()


def _panel(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """The points of a quadrature between two edges, and their weights, each (..., 4)."""
    points, weights = (torch.as_tensor(value, dtype=start.dtype, device=start.device) for value in (_POINTS, _WEIGHTS))
    half = ((end - start) / 2).unsqueeze(-1)
    return start.unsqueeze(-1) + half * (points + 1), half * weights


def _log_density(kappa: Tensor, power: int, angle: Tensor) -> Tensor:
    # 1 - cos by the half angle: at a large kappa the difference of two numbers near 1 would have few digits.
    return -2 * kappa * (angle / 2).sin().square() + torch.special.xlogy(power, angle.sin())


@register_kl(VonMisesFisher, VonMisesFisher)
def _kl(q: VonMisesFisher, p: VonMisesFisher) -> Tensor:
    return cross(q.mean, p) - q.entropy()


def cross(mean: Tensor, p: VonMisesFisher) -> Tensor:
    """-E[log p(z)], with shape (...), for z of this mean (..., d)."""
    return -p.score((mean.double() * p.loc.double()).sum(-1)).to(mean)


@pairwise_log_prob.register
def _(law: VonMisesFisher, z: Tensor) -> Tensor:
    return law.score(z.double() @ law.loc.double().T)


@space.register
def _(law: VonMisesFisher) -> str:
    return "unit vectors"


@loose.register
def _(law: VonMisesFisher) -> dict[str, Tensor]:
    # How sure q is stays: it may be a constant of the model.
    return {"loc": law.loc}


@tight.register
def _(law: VonMisesFisher, values: dict[str, Tensor]) -> VonMisesFisher:
    return VonMisesFisher(direction(values["loc"]), law.concentration)
