"""KL(q || p) by group of latent units: closed form through torch's registry, Monte Carlo where none is known."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence
from torch.distributions.kl import register_kl

from uncollapse.distributions.diagonal import Diagonal, to_standard
from uncollapse.distributions.generated import has_density
from uncollapse.distributions.operations import space
from uncollapse.errors import InputError


def kl_by_group(q: Distribution, p: Distribution, log_q: Tensor, log_p: Tensor) -> Tensor:
    r"""KL(q || p) in nats with shape (B, K).

    .. math:: \mathrm{KL}(q \| p) = \sum_k \mathrm{KL}(q_k \| p_k) \quad\text{where both factorise}

    K is the number of units where both laws are `Independent`, of groups where the registered KL is by group, (B, K),
    else 1. Where torch knows no closed form, the mean of log q - log p over the samples already drawn stands in
    (unbiased; a single item may be negative). Where p has no density there is no rate, and K = 0.

    Arguments:
        q: The posterior, batch shape (B,).
        p: The prior, batch shape () or (B,).
        log_q: log q at the draws, with shape (S, B).
        log_p: log p at the draws, with shape (S, B).

    Raises:
        InputError: where q and p are laws over different spaces.
    """
    if space(q) != space(p):
        raise InputError(
            f"q(z | x) is a law over {space(q)} and the prior one over {space(p)}, and no KL is between them: choose "
            "`model.posterior` and `model.prior` together, as the remedies do."
        )
    if not has_density(p):
        return log_q.new_zeros(log_q.shape[1], 0)
    try:
        if isinstance(q, Diagonal) and isinstance(p, Diagonal) and p.standard:
            return to_standard(q).flatten(1)
        if isinstance(q, Independent) and isinstance(p, Independent):
            return kl_divergence(q.base_dist, p.base_dist).flatten(1)
        found = kl_divergence(q, p)
        return found if found.ndim > log_q.ndim - 1 else found.unsqueeze(-1)
    except NotImplementedError:
        return (log_q - log_p).mean(0).unsqueeze(-1)


@register_kl(MultivariateNormal, Independent)
def _full_to_diagonal(q: MultivariateNormal, p: Independent) -> Tensor:
    mean, scale = _diagonal(p)
    squares = (q.loc - mean).square() + q.scale_tril.square().sum(-1)
    return 0.5 * (squares / scale.square() - 1 + 2 * scale.log()).sum(-1) - _log_root(q)


@register_kl(Independent, MultivariateNormal)
def _diagonal_to_full(q: Independent, p: MultivariateNormal) -> Tensor:
    mean, scale = _diagonal(q)
    whitened = torch.linalg.solve_triangular(p.scale_tril, torch.eye(p.event_shape[0]).to(mean), upper=False)
    squares = ((mean - p.loc) @ whitened.mT).square() + scale.square() @ whitened.square().mT
    return 0.5 * (squares - 1).sum(-1) - scale.log().sum(-1) + _log_root(p)


def _diagonal(law: Independent) -> tuple[Tensor, Tensor]:
    """The mean and the scale of a diagonal Gaussian."""
    if not isinstance(law.base_dist, Normal):
        raise NotImplementedError
    return law.base_dist.loc, law.base_dist.scale


def _log_root(law: MultivariateNormal) -> Tensor:
    """Half the logarithm of the determinant of the covariance."""
    return law.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
