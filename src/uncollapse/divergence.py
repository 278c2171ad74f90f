"""KL(q || p) by group of latent units: closed form through torch's registry, Monte Carlo where none is known."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence


def kl_by_group(q: Distribution, p: Distribution, log_q: Tensor, log_p: Tensor) -> Tensor:
    r"""KL(q || p) in nats with shape (B, K).

    .. math:: \mathrm{KL}(q \| p) = \sum_k \mathrm{KL}(q_k \| p_k) \quad\text{where both factorise}

    K is the number of units where both laws are `Independent`, else 1. Where torch knows no closed form, the
    mean of log q - log p over the samples already drawn stands in (unbiased; a single item may be negative).

    Arguments:
        q: The posterior, batch shape (B,).
        p: The prior, batch shape () or (B,).
        log_q: log q at the draws, with shape (S, B).
        log_p: log p at the draws, with shape (S, B).
    """
    try:
        if isinstance(q, Independent) and isinstance(p, Independent):
            return kl_divergence(q.base_dist, p.base_dist).flatten(1)
        return kl_divergence(q, p).unsqueeze(-1)
    except NotImplementedError:
        return (log_q - log_p).mean(0).unsqueeze(-1)
