"""Terms of the aggregate posterior q(z), the mean of the items' posteriors, or of those of one class, in a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from annotated_types import MinLen
from torch import Tensor

from uncollapse.bound import Bound
from uncollapse.errors import InputError
from uncollapse.quantities import Count, Positive
from uncollapse.terms.auxiliary import label_of


@dataclass
class MMD:
    r"""The squared maximum mean discrepancy between the aggregate posterior and the prior.

    .. math:: \mathbb{E}\, k(p, p') + \mathbb{E}\, k(q, q') - 2\, \mathbb{E}\, k(q, p), \quad
              k = \sum_s \frac{C_s}{C_s + r^2} \;\text{(imq)} \quad\text{or}\quad \sum_s e^{-r^2 / C_s} \;\text{(rbf)},
              \quad C_s = 2 s D \sigma_p^2

    Of the batch's draws of q(z) and as many of p(z), with r their distance: the width of the kernel grows with the
    number D of units, as distances do. Unbiased, the expectations over q, q' and p, p' leave out a draw with itself,
    so that the value may be negative, and is 0 for a batch of one item; biased, they do not. It has no unit, and is
    of the order of 1: weigh it up. Of several processes each compares its own items.

    References:
        | InfoVAE: Information Maximizing Variational Autoencoders (Zhao et al., 2017)
        | https://arxiv.org/abs/1706.02262
        | Wasserstein Auto-Encoders (Tolstikhin et al., 2018)
        | https://arxiv.org/abs/1711.01558

    Arguments:
        statistic: Whether a draw is compared with itself too.
        kernel: The inverse multiquadric, with heavy tails, or the Gaussian.
        scales: Of the widths s; the kernels add up.
        variance: Of a unit under the prior.

    Raises:
        InputError: where the model has no prior of its own.
    """

    statistic: Literal["unbiased", "biased"] = "unbiased"
    kernel: Literal["imq", "rbf"] = "imq"
    # As in the code of Tolstikhin et al.
    scales: Annotated[list[Positive], MinLen(1)] = field(default_factory=lambda: [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0])
    variance: Positive = 1.0

    def __call__(self, bound: Bound) -> Tensor:
        if bound.p is None:
            raise InputError(
                "the term `mmd` compares z with draws of the prior, and this model's prior depends on the path: leave "
                "the term out."
            )
        items = () if bound.p.batch_shape else bound.z.shape[1:2]
        # With a gradient where there is one, so that a prior that learns does.
        drawn = bound.p.rsample(items) if bound.p.has_rsample else bound.p.sample(items)
        return self.between(bound.z[0].flatten(1), drawn.flatten(1))

    def between(self, q: Tensor, p: Tensor) -> Tensor:
        """The statistic, (), of two samples with shapes (N, D) and (M, D)."""
        if self.statistic == "unbiased" and min(len(q), len(p)) < 2:
            return q.sum() * 0.0
        return self._within(q) + self._within(p) - 2 * self._values(q, p).mean()

    def _within(self, z: Tensor) -> Tensor:
        values = self._values(z, z)
        if self.statistic == "biased":
            return values.mean()
        return (values.sum() - values.diagonal().sum()) / (len(z) * (len(z) - 1))

    def _values(self, a: Tensor, b: Tensor) -> Tensor:
        # No square root: its gradient is not finite where two draws are the same.
        squares = (a.unsqueeze(1) - b).square().sum(-1)
        widths = [2 * scale * a.shape[1] * self.variance for scale in self.scales]
        of_width = [c / (c + squares) if self.kernel == "imq" else (-squares / c).exp() for c in widths]
        return sum(of_width[1:], start=of_width[0])


@dataclass
class LabelMMD:
    r"""The squared maximum mean discrepancy between the aggregate posteriors of the classes, by random features.

    .. math:: \| \bar\psi_a - \bar\psi_b \|^2, \quad \psi(z) = \sqrt{2 / R} \cos(\sqrt{2 / g} \, z W + b), \quad
              W_{dr} \sim N(0, 1), \; b_r \sim U(0, 2 \pi), \quad g = s D

    with means over the draws of z of the items of each class; of more than two classes in a batch it is the mean over
    all pairs, and of one it is 0. On average the features' products are the kernel :math:`e^{-r^2 / g}` of the distance
    r; all classes share one drawing of them, new at every step. Unbiased, the squares leave out the product of an
    item with itself, and classes with one item in the batch are left out; biased, as published, they do not, and few
    items of a class read far too high. It has no unit, and is below 2: weigh it up. Of several processes each compares
    its own items.

    References:
        | The Variational Fair Autoencoder (Louizos et al., 2016)
        | https://arxiv.org/abs/1511.00830

    Arguments:
        features: R, how many.
        scale: s, of the kernel's width; it grows with the number D of units, as squared distances do.
        statistic: Whether an item is compared with itself too.

    Raises:
        InputError: for items without labels.
    """

    features: Count = 500
    scale: Positive = 2.0
    statistic: Literal["unbiased", "biased"] = "unbiased"

    def __call__(self, bound: Bound) -> Tensor:
        found, label = self.mapped(bound.z.flatten(2)).mean(0), label_of(bound, "label-mmd")
        least = 2 if self.statistic == "unbiased" else 1
        groups = [group for name in label.unique() if len(group := found[label == name]) >= least]
        if len(groups) < 2:
            return found.sum() * 0.0
        means, within = (torch.stack([one(group) for group in groups]) for one in (_mean, self._within))
        one, other = torch.combinations(torch.arange(len(means), device=means.device)).unbind(1)
        return (within[one] + within[other] - 2 * (means[one] * means[other]).sum(1)).mean()

    def _within(self, group: Tensor) -> Tensor:
        """The mean of the products of all items' features (n, R)."""
        n, whole = len(group), _mean(group).square().sum()
        return whole if self.statistic == "biased" else (n * whole - group.square().sum() / n) / (n - 1)

    def mapped(self, z: Tensor) -> Tensor:
        """The features (..., R) of draws (..., D), drawn anew."""
        units = z.shape[-1]
        weights = torch.randn(units, self.features, dtype=z.dtype, device=z.device)
        turns = 2 * torch.pi * torch.rand(self.features, dtype=z.dtype, device=z.device)
        return (2 / self.features) ** 0.5 * torch.cos((2 / (self.scale * units)) ** 0.5 * z @ weights + turns)


def _mean(group: Tensor) -> Tensor:
    return group.mean(0)
