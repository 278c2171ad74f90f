"""Posteriors on the unit sphere: a direction, and how sure of it q is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from uncollapse.distributions.power_spherical import PowerSpherical
from uncollapse.distributions.sphere import direction
from uncollapse.distributions.von_mises_fisher import VonMisesFisher
from uncollapse.errors import InputError
from uncollapse.posteriors import Posterior
from uncollapse.quantities import Positive


@dataclass
class Around:
    """A family of laws on the sphere, around the direction of a vector.

    Arguments:
        law: Makes one of a unit vector and a concentration.
        concentration: That of all items; None where each has its own, 1 at least, from a further number.
    """

    law: Callable[[Tensor, Tensor], Distribution]
    concentration: float | None = None

    def __call__(self, vector: Tensor, raw: Tensor | None = None) -> Distribution:
        # In float32 at least: half precision has too few digits for an angle.
        vector = vector.float() if vector.itemsize < 4 else vector
        if self.concentration is not None:
            return self.law(direction(vector), vector.new_full(vector.shape[:-1], self.concentration))
        assert raw is not None  # As many numbers as `sizes` below asks for.
        return self.law(direction(vector), F.softplus(raw.to(vector)).squeeze(-1) + 1)


def von_mises_fisher(net: Callable[[int], nn.Module], latent: int, concentration: Positive | None = 35.0) -> Posterior:
    r"""A von Mises-Fisher law on the unit sphere, whose KL is the same for all items where its concentration is fixed.

    .. math:: \mathrm{KL} = \kappa A_d(\kappa) + \log C_d(\kappa) + \log |S^{d-1}|, \quad
              A_d = I_{d/2} / I_{d/2-1}

    The prior must be on the sphere too. As a rate it bounds what z can say: 8.6 nats at d = 32 and kappa = 35.

    References:
        | Spherical Latent Spaces for Stable Variational Autoencoders (Xu & Durrett, 2018): fixed
        | https://arxiv.org/abs/1808.10805
        | Hyperspherical Variational Auto-Encoders (Davidson et al., 2018): learned, softplus + 1
        | https://arxiv.org/abs/1804.00891

    Arguments:
        net: Makes the encoder's network, from the number of its outputs.
        latent: d, the number of units; at least 2.
        concentration: kappa; null where the network is to give each item's, 1 at least.
    """
    return _on_sphere(net, latent, VonMisesFisher, concentration)


def power_spherical(net: Callable[[int], nn.Module], latent: int, concentration: Positive | None = None) -> Posterior:
    """A power spherical law on the unit sphere, by default of a concentration that is the item's own.

    The prior must be on the sphere too.

    References:
        | The Power Spherical Distribution (De Cao & Aziz, 2020)
        | https://arxiv.org/abs/2006.04437

    Arguments:
        net: Makes the encoder's network, from the number of its outputs.
        latent: d, the number of units; at least 2.
        concentration: kappa; null where the network is to give each item's, 1 at least.
    """
    return _on_sphere(net, latent, PowerSpherical, concentration)


def _on_sphere(
    net: Callable[[int], nn.Module],
    latent: int,
    law: Callable[[Tensor, Tensor], Distribution],
    concentration: float | None,
) -> Posterior:
    if latent < 2:
        raise InputError("a sphere has at least 2 units, and there is 1: raise `model.latent`.")
    sizes = (latent,) if concentration is not None else (latent, 1)
    return Posterior(net(sum(sizes)), Around(law, concentration), sizes)
