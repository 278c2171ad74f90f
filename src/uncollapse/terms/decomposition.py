r"""The rate in parts: what z says of x, how far the units depend on each other, and how far each is from the prior.

.. math:: \mathbb{E}_x \mathrm{KL}(q(z | x) \| p(z)) = I_q(x; z) + \mathrm{KL}(q(z) \| \textstyle\prod_k q(z_k))
          + \mathrm{KL}(\textstyle\prod_k q(z_k) \| p(z)), \quad q(z) = \mathbb{E}_x q(z | x)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from uncollapse.bound import Bound
from uncollapse.distributions import operations
from uncollapse.errors import InputError
from uncollapse.quantities import Count, Weight


def posterior(bound: Bound, term: str) -> Distribution:
    """The law q(z | x) of a bound.

    Raises:
        InputError: where there is none.
    """
    if bound.q is None:
        raise InputError(
            f"the term `{term}` needs the law of z given x, and this model's depends on the path: leave the term out."
        )
    return bound.q


def pairs(q: Distribution, z: Tensor) -> Tensor:
    """log q(z_sik | x_j) with shape (S, B, B, K), for draws z (S, B, ...); see `operations.pairwise_by_group`."""
    return operations.pairwise_by_group(q, z.flatten(0, 1)).unflatten(0, z.shape[:2])


def split(values: Tensor, groups: int, term: str) -> tuple[Tensor, ...]:
    """Values (..., K) in so many groups of consecutive units, as even as can be.

    Raises:
        InputError: where there are fewer units.
    """
    if groups > values.shape[-1]:
        raise InputError(
            f"the term `{term}` has {groups} groups of units, and this model's z splits into {values.shape[-1]}: lower "
            "`groups`, or choose a posterior of more independent units."
        )
    return values.tensor_split(groups, -1)


class Parts(NamedTuple):
    """The parts of the rate, each (), in nats, mean over items and draws; they add up to the mean of log q - log p."""

    information: Tensor
    """I_q(x; z)."""
    between: Tensor
    """The total correlation of the groups of units, KL(q(z) || prod_g q(z_g))."""
    within: Tensor
    """The total correlation of the units of each group, sum_g KL(q(z_g) || prod_{k in g} q(z_k))."""
    marginal: Tensor
    """KL(prod_k q(z_k) || p(z)); under a prior of independent units sum_k KL(q(z_k) || p(z_k))."""


def decomposed(bound: Bound, log_weights: Tensor, groups: int | None, term: str) -> Parts:
    """The parts of the rate, all from the same densities, which are taken once.

    Arguments:
        bound: The bound.
        log_weights: With shape (B, B); in row i the logarithms of what each q(z_i | x_j) counts in q(z_i).
        groups: How many groups of consecutive units; None where each unit is one.
        term: Who asks.
    """
    logs = pairs(posterior(bound, term), bound.z)

    def mixed(of_items: Tensor) -> Tensor:
        return (of_items + log_weights.unsqueeze(-1)).logsumexp(2)

    by_unit = mixed(logs).sum(-1)
    grouped = by_unit
    if groups is not None:
        grouped = mixed(torch.stack([one.sum(-1) for one in split(logs, groups, term)], -1)).sum(-1)
    whole = mixed(logs.sum(-1, keepdim=True)).squeeze(-1)
    steps = (bound.log_q, whole, grouped, by_unit, bound.log_p)
    return Parts(*((above - below).mean() for above, below in pairwise(steps)))


@dataclass
class DecomposedRate:
    r"""The rate with a weight of its own for each of its parts, among them the total correlation of the units.

    .. math:: w_I \, I_q(x; z) + w_B \, \mathrm{KL}(q(z) \| \textstyle\prod_g q(z_g))
              + w_W \textstyle\sum_g \mathrm{KL}(q(z_g) \| \prod_{k \in g} q(z_k))
              + w_M \, \mathrm{KL}(\textstyle\prod_k q(z_k) \| p(z))

    In nats, mean over items and draws, for N items to train on and batches of B. With z_i in the batch, q(z_i) is the
    sum of :math:`w_{ij} q(z_i | x_j)`; weighted, all w are 1 / NB; stratified, :math:`w_{ii} = 1 / N`, all others are
    (N - 1) / (N (B - 1)), and q(z_i) is unbiased where a batch is a random sample of the items. Weighted, q(z_i) is
    too small by a factor: the total correlation is too high by about (K - 1) log NB nats, the marginal part as much
    too low, and gradients vary less. With all weights 1 the value is the mean of log q - log p in either way. It takes
    the densities of all pairs of items, B^2 K numbers for each draw; of several processes each pairs its own items. A
    posterior that does not split by unit, such as von Mises-Fisher, has no total correlation.

    References:
        | Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), beta-TCVAE
        | https://arxiv.org/abs/1802.04942
        | Structured Disentangled Representations (Esmaeili et al., 2019), HFVAE
        | https://arxiv.org/abs/1804.02086

    Arguments:
        training_items: N.
        information: w_I, of the mutual information of x and z.
        between: w_B, of the total correlation of the groups.
        within: w_W, of the total correlation of the units of each group.
        marginal: w_M, of how far single units are from the prior.
        groups: How many groups of consecutive units, as even as can be; each unit is one where it is null.
        sampling: How q(z) is estimated.

    Raises:
        InputError: where the model has no law of z given x, or fewer units than groups.
    """

    training_items: int
    information: Weight = 1.0
    between: Weight = 1.0
    within: Weight = 1.0
    marginal: Weight = 1.0
    groups: Count | None = None
    sampling: Literal["weighted", "stratified"] = "weighted"  # As the code of Chen et al. does unless it is told.

    def __call__(self, bound: Bound) -> Tensor:
        parts = decomposed(bound, self.log_weights(bound.log_q), self.groups, "decomposed-rate")
        of_groups = self.between * parts.between + self.within * parts.within
        return self.information * parts.information + of_groups + self.marginal * parts.marginal

    def log_weights(self, of: Tensor) -> Tensor:
        """The logarithms of the weights w, with shape (B, B), for a tensor (S, B)."""
        n, batch = self.training_items, of.shape[1]
        if self.sampling == "weighted":
            return of.new_full((batch, batch), -math.log(n * batch))
        others = of.new_full((batch, batch), (n - 1) / (n * max(1, batch - 1)))
        return others.fill_diagonal_(1 / n).log()


@dataclass
class DensityGap:
    r"""How far the units of the batch's aggregate posterior are from the prior, in place of the rate.

    .. math:: \mathrm{KL}(\textstyle\prod_k q_B(z_k) \| p(z)), \quad
              q_B(z_k) = \frac1B \sum_j q(z_k | x_j)

    In nats, summed over units, mean over draws of all items. Neither the mutual information nor the correlation of the
    units is charged, so that it is no bound. A batch of one item pays its rate. It takes the densities of all pairs of
    items, B^2 K numbers for each draw; of several processes each mixes its own items. A posterior that does not split
    by unit, such as von Mises-Fisher, is compared as a whole.

    References:
        | Improving Variational Autoencoders with Density Gap-based Regularization (Zhang et al., 2022)
        | https://papers.nips.cc/paper_files/paper/2022/hash/7b2e844c52349134268e819a9b56b9e8-Abstract-Conference.html

    Arguments:
        samples: How many draws of each item.

    Raises:
        InputError: where the model has no laws of z.
    """

    samples: Count = 32

    def __call__(self, bound: Bound) -> Tensor:
        q = posterior(bound, "density-gap")
        if bound.p is None:
            raise InputError("the term `density-gap` needs a prior's law, and this model's depends on the path.")
        z = q.rsample(torch.Size((self.samples,)))
        mixed = pairs(q, z).logsumexp(2) - math.log(z.shape[1])
        return (mixed.sum(-1) - bound.p.log_prob(z)).mean()
