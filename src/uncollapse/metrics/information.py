r"""How much z says about x, from the posteriors of all items.

.. math:: \text{mean KL} = I_q(x; z) + \mathrm{KL}(q(z) \| p(z)), \quad q(z) = \frac1n \sum_j q(z | x_j)
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from uncollapse.distributions import operations
from uncollapse.metrics.draws import draw
from uncollapse.metrics.estimate import Answer, Estimate, Unavailable, mean
from uncollapse.metrics.likelihood import NATS
from uncollapse.randomness import generator

#: How many pairs are compared at a time: few enough for a processor's cache, enough to be worth a call.
PAIRS = 2**20

PATH = Unavailable("there is no law of z given x alone: the posterior depends on the path")
PRIORS = Unavailable("the prior is conditional: items have priors of their own, and q(z) none to be held against")
NO_UNITS = Unavailable("the model has no latent units")
ALONE = Unavailable("one item has no other to be told from: give at least 2")
SINGLES = Unavailable("every batch has one item, which has no other to be told from: give larger batches")


def missing(law: Any) -> Unavailable | None:
    """Why nothing can be said of how much z tells, by the posteriors of all items; None where it can."""
    if law is None:
        return PATH
    return None if law.event_shape.numel() else NO_UNITS


class Densities(NamedTuple):
    """The information density log q(z|x) - log q(z) of some items, each a mean over its draws."""

    values: Tensor
    """(n,), in nats."""
    items: Tensor
    """(n,), their positions among all."""
    bias: float
    """About how much their mean exceeds the mutual information of the population; at most 0."""


def densities(law: Any, seed: int = 0, passes: int = 5, limit: int = 10_000) -> Densities:
    r"""The terms of the mutual information, one an item.

    .. math:: r_i = \log q(z_i | x_i) - \log \frac1n \sum_j q(z_i | x_j), \quad z_i \sim q(z | x_i)

    Both terms are taken at the same draw and j = i is included, so that r is 0 for identical posteriors and
    never above log n. As the mixture is made of n items, the mean is too low for the population they come
    from, to first order by :math:`\chi^2 / 2n`, where :math:`\chi^2 = \mathbb{E}[q(z|x) / q(z)] - 1` (read
    off the same densities, hence too small itself near the cap).

    Arguments:
        law: The posteriors of all items, batch shape (N,).
        seed: Decides the draws and the items.
        passes: How many draws an item.
        limit: The most items; of more, a random subset is taken, as the cost is their square. Some laws are only
            compared for fewer; see `operations.comparable`.
    """
    total, limit = law.batch_shape[0], min(limit, operations.comparable(law))
    items = torch.arange(total)
    if total > limit:
        items = torch.randperm(total, generator=generator(seed, "subset"))[:limit].sort().values
        law = operations.take(law, items)
    n, law = len(items), operations.finely(law)
    draws = draw(law, seed, "information", items.tolist(), passes)
    values = torch.stack([_one_pass(law, z) for z in draws])
    return Densities(values.mean(0), items, -(values.exp().mean().item() - 1) / (2 * n))


def _one_pass(law: Any, z: Tensor) -> Tensor:
    """r, with shape (n,), for one draw an item."""
    n = len(z)
    step = max(1, PAIRS // n)
    values = []
    for start in range(0, n, step):
        pairs = operations.pairwise_log_prob(law, z[start : start + step]).double()
        own = pairs.diagonal(start)
        values.append(own - pairs.logsumexp(1) + math.log(n))
    return torch.cat(values)


def mutual_information(law: Any, seed: int = 0, passes: int = 5, limit: int = 10_000) -> Answer:
    r"""The mutual information of x and z under q, over all items at once; see `densities`.

    .. math:: \hat I = \frac1n \sum_i r_i \le \log n

    References:
        | ELBO Surgery: Yet Another Way to Carve Up the Variational Evidence Lower Bound
        | (Hoffman & Johnson, 2016)
        | http://approximateinference.org/accepted/HoffmanJohnson2016.pdf
    """
    return missing(law) or from_densities(densities(law, seed, passes, limit))


def from_densities(found: Densities) -> Answer:
    r"""The mutual information that densities add up to, with the standard error :math:`\text{sd}(r) / \sqrt n`.

    Each item also has a part in the mixture that the others are compared with. To first order that part is
    :math:`\int q(z | x_k) dz = 1` for every item, so that it adds no spread: measured, the infinitesimal
    jackknife that counts both parts is within 2 % of this error and covers the truth no better.
    """
    if len(found.values) < 2:
        return ALONE
    return mean(found.values, NATS, cap=math.log(len(found.values)), bias=found.bias)


def is_floor(mi: Estimate) -> bool:
    """Whether the figure is only a floor: near its cap, or with a bias above half its standard error."""
    return mi.saturated or -2 * (mi.bias or 0.0) > mi.se


def marginal_kl(kl: Tensor, found: Densities) -> Answer:
    """KL(q(z) || p(z)) = mean KL - MI, over the items of the densities, with the error of the differences.

    Arguments:
        kl: KL(q(z|x) || p(z)) of all items, with shape (N,).
        found: See `densities`.
    """
    if len(found.values) < 2:
        return ALONE
    return mean(kl[found.items] - found.values, NATS, bias=-found.bias)


def marginal_kl_floor(kl: Tensor, law: Any) -> Estimate | None:
    r"""What KL(q(z) || p(z)) is at least, however few the items; None where the moments of q(z) do not tell.

    .. math:: \mathrm{KL}(q(z) \| p(z)) \ge \text{mean KL} + \text{mean } H(q(z|x)) - \tfrac12 \log \det 2 \pi e \Sigma,
              \quad \Sigma = \text{Cov}_x(\mathbb{E}[z|x]) + \mathbb{E}_x \text{Cov}[z|x]

    As no law of covariance :math:`\Sigma` has more entropy than the Gaussian. Whatever the prior is, it is in the mean
    KL. No items are compared with each other, so that there is no cap. The bias is exact for means that are Gaussian
    beside which the posteriors are narrow, and too large for others. The standard error counts both parts of an item.

    Arguments:
        kl: KL(q(z|x) || p(z)) of all items, with shape (N,).
        law: The posteriors of all items; told of are independent Gaussians, of more than twice as many items as units.
    """
    if not (isinstance(law, Independent) and isinstance(law.base_dist, Normal)):
        return None
    loc, scale = law.base_dist.loc.flatten(1).double(), law.base_dist.scale.flatten(1).double()
    n, units = loc.shape
    if n <= 2 * units:
        return None
    away = loc - loc.mean(0)
    precision = torch.linalg.inv(away.T @ away / n + scale.square().mean(0).diag())
    distance = (away @ precision * away).sum(1) + scale.square() @ precision.diagonal()
    gained = 0.5 * (distance - units - torch.logdet(precision)) - scale.log().sum(1)
    freedom = torch.arange(n - 1, n - 1 - units, -1, dtype=torch.float64)
    bias = -0.5 * (torch.digamma(freedom / 2) + math.log(2 / n)).sum().item()
    return mean(kl - gained, NATS, bias=bias)


def mi_published(law: Any, batch: Tensor, seed: int = 0, passes: int = 1) -> Answer:
    r"""The mutual information as it is published: within each evaluation batch, then averaged over items.

    .. math:: \hat I(B) = -\frac1{|B|} \sum_{i \in B} H(q(z|x_i))
              - \frac1{|B|} \sum_{i \in B} \log \frac1{|B|} \sum_{j \in B} q(z_i | x_j)

    The cap is the mean over items of log |B|, and length-sorted batches hide what z says about the length: it
    is here to compare with published tables (and for the stopping rule that uses it), nothing else. The
    entropy is exact and the other term sampled, so that a figure may be below 0 or above the cap by chance.

    References:
        | Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He et al., 2019)
        | https://arxiv.org/abs/1901.05534

    Arguments:
        law: The posteriors of all items, batch shape (N,).
        batch: The batch of each item, with shape (N,).
        seed: Decides the draws.
        passes: How many draws an item; one in the reference.
    """
    if none := missing(law):
        return none
    try:
        negentropy = -law.entropy().double()
    except NotImplementedError:
        return Unavailable("the entropy of the posterior is not known in closed form")
    sizes = batch.unique(return_counts=True)[1].tolist()
    if max(sizes) == 1:
        return SINGLES
    law = operations.finely(law)
    draws = draw(law, seed, "published", range(len(batch)), passes)
    values, caps = torch.empty_like(negentropy), torch.empty_like(negentropy)
    for members in batch.argsort(stable=True).split(sizes):
        part, size = operations.take(law, members), math.log(len(members))
        mixture = [operations.pairwise_log_prob(part, z[members]).double().logsumexp(1) - size for z in draws]
        values[members] = negentropy[members] - torch.stack(mixture).mean(0)
        caps[members] = size
    return mean(values, NATS, cap=caps.mean().item())
