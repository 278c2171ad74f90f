"""Terms that push the posteriors of different items apart, so that z says which item it is of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from uncollapse.bound import Bound
from uncollapse.distributions import operations
from uncollapse.divergence import kl_by_group
from uncollapse.quantities import Weight
from uncollapse.terms.decomposition import posterior


@dataclass
class ContrastiveInformation:
    r"""How well z tells its item from the others of the batch, negated: the InfoNCE bound on mutual information.

    .. math:: -\log B - \mathbb{E}_i \log \frac{q(z_i | x_i)}{\sum_j q(z_i | x_j)}, \quad
              \text{on average} \ge -I_q(x; z)

    In nats, mean over items and draws; it never falls below -log B. The critic is the posterior's own density, the best
    there is, so that nothing else learns. Of several processes each tells its own items apart.

    References:
        | Representation Learning with Contrastive Predictive Coding (van den Oord et al., 2018)
        | https://arxiv.org/abs/1807.03748

    Raises:
        InputError: where the model has no law of z given x.
    """

    def __call__(self, bound: Bound) -> Tensor:
        z = bound.z
        logs = operations.pairwise_log_prob(posterior(bound, "contrastive-information"), z.flatten(0, 1))
        return -information(logs.unflatten(0, z.shape[:2])).to(z)


def information(scores: Tensor) -> Tensor:
    """InfoNCE, (), in nats, of a critic's scores (S, B, B) of every draw i with every item j."""
    own = scores.diagonal(dim1=1, dim2=2)
    return (own - scores.logsumexp(2)).mean() + math.log(scores.shape[2])


@dataclass
class MutualPosteriorDivergence:
    r"""The posteriors of different items are to differ, and all pairs of them about as much: MAE.

    .. math:: \eta \sum_k \log(1 + e^{-D_k / \eta}) + \gamma \, \text{sd}_{i \ne j} \sum_k D_{ij,k}, \quad
              D_{ij,k} = \mathrm{KL}(q(z_k | x_i) \| q(z_k | x_j)), \quad D_k = \mathbb{E}_{i \ne j} D_{ij,k}

    In nats. This is how the source's code goes; in its paper the first part is
    :math:`\eta\, \mathbb{E}_{i \ne j} \sum_k \log(1 + e^{-D_{ij,k}})`, which is no less at :math:`\eta = 1`. The KL
    splits into the units k; the standard deviation is over the ordered pairs of the batch, whose number less one is its
    divisor. Units in which posteriors are far apart are pushed no more. It takes B^2 K numbers, and is 0 for one item;
    of several processes each compares its own items.

    References:
        | MAE: Mutual Posterior-Divergence Regularization for Variational AutoEncoders (Ma et al., 2019)
        | https://arxiv.org/abs/1901.01498

    Arguments:
        diversity: :math:`\eta`.
        smoothness: :math:`\gamma`.
        form: That of the code, or of the paper.

    Raises:
        InputError: where the model has no law of z given x.
    """

    diversity: Weight = 1.0
    smoothness: Weight = 0.5
    form: Literal["code", "paper"] = "code"

    def __call__(self, bound: Bound) -> Tensor:
        if bound.z.shape[1] < 2:
            return bound.z.sum() * 0.0
        apart = divergences(bound)
        return self._diverse(apart) + self.smoothness * apart.sum(1).std()

    def _diverse(self, apart: Tensor) -> Tensor:
        eta = self.diversity
        if self.form == "paper":
            return eta * softplus(-apart).mean(0).sum()
        return eta * softplus(-apart.mean(0) / eta).sum() if eta else apart.sum() * 0.0


def divergences(bound: Bound) -> Tensor:
    """KL(q(z_k | x_i) || q(z_k | x_j)) of all pairs of different items, with shape (B (B - 1), K), in nats.

    Monte Carlo at the bound's draws of z_i where no closed form is known.
    """
    q, z = posterior(bound, "mutual-posterior-divergence"), bound.z
    i, j = (~torch.eye(z.shape[1], dtype=torch.bool, device=z.device)).nonzero().unbind(1)
    one, other = operations.take(q, i), operations.take(q, j)
    return kl_by_group(one, other, bound.log_q[:, i], other.log_prob(z[:, i]))
