"""Which latent units move with the data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from uncollapse.metrics.estimate import Answer, Estimate, Unavailable
from uncollapse.metrics.information import NO_UNITS


def variance_of_means(means: Tensor) -> Tensor:
    r"""The variance over items of each unit's posterior mean, in the shape of z, divisor N - 1.

    .. math:: A_d = \text{Var}_x(\mathbb{E}_{q(z|x)}[z_d])

    References:
        | Importance Weighted Autoencoders (Burda et al., 2015)
        | https://arxiv.org/abs/1509.00519

    Arguments:
        means: The posterior means, with shape (N, ...), of all items, not of one batch.
    """
    # Of one item: nan, and no error.
    return (_moment(means, 2) * len(means) / torch.tensor(len(means) - 1)).view(means.shape[1:])


def active_units(means: Tensor, threshold: float = 0.01) -> Answer:
    r"""How many units' posterior means vary: :math:`\#\{d : A_d \ge \text{threshold}\}`.

    It depends on the scale of z: multiply z by ten and more units are active, though nothing was learnt. The
    standard error takes the sampled variance of each unit for Gaussian, with its spread from fourth moments,
    and the units for independent: :math:`\sqrt{\sum_d p_d (1 - p_d)}`, p the chance to read as active.

    Arguments:
        means: The posterior means, with shape (N, ...).
        threshold: The least variance of an active unit.
    """
    n, units = len(means), means[0].numel()
    if not units:
        return NO_UNITS
    if n < 2:
        return Unavailable("the variance over items needs two items")
    variance = variance_of_means(means).flatten()
    error = ((_moment(means, 4) - variance.square() * (n - 3) / (n - 1)) / n).clamp_min(0).sqrt()
    distance = (variance - threshold) / error.clamp_min(torch.finfo(torch.float64).tiny)
    chance = torch.special.ndtr(distance)
    se = math.sqrt((chance * (1 - chance)).sum().item())
    return Estimate(float((variance >= threshold).sum()), se, n, "units", cap=float(units))


def active_by_channel(variance: Tensor, threshold: float = 0.01) -> list[int] | None:
    """How many units of each channel, the first dimension of z, are active; None where z has one dimension.

    Arguments:
        variance: What `variance_of_means` gives, with shape (C, ...).
        threshold: The least variance of an active unit.
    """
    return (variance >= threshold).flatten(1).sum(1).tolist() if variance.ndim > 1 else None


def _moment(means: Tensor, power: int) -> Tensor:
    """The central moment of each unit, with shape (D,), a unit at a time: float64 copies of all would be large."""
    units = means.unsqueeze(-1).flatten(1)
    moments = torch.empty(units.shape[1], dtype=torch.float64, device=means.device)
    for d, unit in enumerate(units.unbind(1)):
        moments[d] = (unit.double() - unit.double().mean()).pow(power).mean()
    return moments
