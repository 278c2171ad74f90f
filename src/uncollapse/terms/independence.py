"""Terms that make units of the aggregate posterior independent, of each other or of what a batch says of its items."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal

from uncollapse.bound import Bound
from uncollapse.distributions import operations
from uncollapse.errors import InputError, unknown
from uncollapse.quantities import Count, Weight
from uncollapse.terms.decomposition import posterior, split


@dataclass
class DIP:
    r"""How far the covariance of the aggregate posterior is from the identity: DIP-VAE.

    .. math:: \lambda_o \sum_{i \ne j} C_{ij}^2 + \lambda_d \sum_i (C_{ii} - 1)^2, \quad
              C = \text{Cov}_x \mathbb{E}[z | x] \;\text{(I)} \quad\text{or}\quad
              \mathbb{E}_x \text{Cov}[z | x] + \text{Cov}_x \mathbb{E}[z | x] \;\text{(II)}

    It has no unit. Each pair of units counts twice, and the covariance over the batch's B items is divided by B, so
    that it has rank B - 1 at most: take batches larger than the number of units. Of several processes each takes the
    covariance of its own items.

    References:
        | Variational Inference of Disentangled Latent Concepts from Unlabeled Observations (Kumar et al., 2018)
        | https://arxiv.org/abs/1711.00848

    Arguments:
        of: Whether the posteriors' means are to be uncorrelated (I), or draws of z (II).
        off_diagonal: :math:`\lambda_o`.
        diagonal: :math:`\lambda_d`; ten times the other in the source's I, and the same in its II.

    Raises:
        InputError: where the model has no law of z given x, or one of which the covariance is not known.
    """

    of: Literal["means", "draws"] = "means"
    off_diagonal: Weight = 10.0
    diagonal: Weight = 100.0

    def __call__(self, bound: Bound) -> Tensor:
        q = posterior(bound, "dip")
        means = operations.mean(q).flatten(1)
        away = means - means.mean(0)
        # No matrix product: under mixed precision it would be in bfloat16.
        covariance = (away.unsqueeze(2) * away.unsqueeze(1)).mean(0)
        return self.penalty(covariance if self.of == "means" else covariance + _spread(q))

    def penalty(self, covariance: Tensor) -> Tensor:
        """The value, (), for a covariance (D, D)."""
        on = covariance.diagonal()
        off = covariance.square().sum() - on.square().sum()
        return self.off_diagonal * off + self.diagonal * (on - 1).square().sum()


def _spread(q: Distribution) -> Tensor:
    """The mean over the items of the covariance of z given x, with shape (D, D)."""
    if isinstance(q, MultivariateNormal):
        return q.covariance_matrix.mean(0)
    if isinstance(q, Independent):
        return q.variance.flatten(1).mean(0).diag()
    raise InputError(
        f"the term `dip` of draws needs the covariance of z, which the law `{type(q).__name__}` does not say: set `of` "
        "to means, or take a Gaussian posterior."
    )


@dataclass
class HSIC:
    r"""The Hilbert-Schmidt independence criterion of groups of units, or of z and what a batch says of its items.

    .. math:: \mathbb{E} \prod_v k_v(i, j) + \prod_v \mathbb{E}\, k_v(i, j)
              - 2\, \mathbb{E}_i \prod_v \mathbb{E}_j\, k_v(i, j), \quad
              k_v = e^{-r^2 / 2 s^2}, \quad s = 2 \, \Gamma(\tfrac{d + 1}2) / \Gamma(\tfrac d2)

    Of the batch's draws, over all pairs of items, an item with itself too, so that the value is at least 0 but for
    rounding, with a bias of the order of 1 / B; for more than two variables v it is dHSIC. It has no unit, and is at
    most of the order of 0.1: weigh it up. The width s suits d numbers of unit variance. Whole numbers, such as classes,
    are alike or not: k is 1 or 0. Of several processes each compares its own items.

    References:
        | Information Constraints on Auto-Encoding Variational Bayes (Lopez et al., 2018), of which this is the square
        | https://arxiv.org/abs/1805.08672

    Arguments:
        groups: How many groups of consecutive units, as even as can be; 1 for z as a whole.
        against: The extra of the bound that the groups are to be independent of too, such as `label`.

    Raises:
        InputError: where there are not two variables, as many units as groups, or that extra.
    """

    groups: Count = 2
    against: str | None = None

    def __post_init__(self) -> None:
        if self.groups == 1 and self.against is None:
            raise InputError(
                "the term `hsic` has one group of units and nothing for it to be independent of: give 2 `groups`, or "
                "name the extra that z is held `against`, such as `label`."
            )

    def __call__(self, bound: Bound) -> Tensor:
        variables = [*split(bound.z[0].flatten(1), self.groups, "hsic")]
        if self.against is not None:
            if self.against not in bound.extras:
                raise unknown("extra", self.against, bound.extras)
            variables.append(bound.extras[self.against].unsqueeze(-1).flatten(1))
        return criterion(variables).to(bound.z)


def criterion(variables: list[Tensor]) -> Tensor:
    """The criterion, (), of variables with shapes (B, d), each with its own d."""
    kernels = torch.stack([_alike(one) for one in variables])
    of_item = kernels.mean(2)
    return kernels.prod(0).mean() + of_item.mean(1).prod() - 2 * of_item.prod(0).mean()


def _alike(values: Tensor) -> Tensor:
    """The kernel of all pairs, with shape (B, B)."""
    if not values.is_floating_point():
        return (values.unsqueeze(1) == values).all(-1).float()
    units = values.shape[1]
    width = 2 * math.exp(math.lgamma((units + 1) / 2) - math.lgamma(units / 2))
    return (-(values.unsqueeze(1) - values).square().sum(-1) / (2 * width**2)).exp()
