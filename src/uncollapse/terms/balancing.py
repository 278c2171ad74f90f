"""The rate with a pace of its own for the prior and for the posterior."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from uncollapse.bound import Bound
from uncollapse.distributions import operations
from uncollapse.divergence import kl_by_group
from uncollapse.errors import InputError
from uncollapse.quantities import Rate, Weight
from uncollapse.terms.rates import per_item


@dataclass
class Balanced:
    r"""The rate, of which the prior and the posterior each descend a share: KL balancing.

    .. math:: \mathbb{E}_x [w_p \max(f, \mathrm{KL}(\bar q \| p)) + w_q \max(f, \mathrm{KL}(q \| \bar p))]

    In nats, summed over units; a bar stands for no gradient. Where w_p > w_q the prior goes to the posterior more than
    the posterior to it. The maximum is of each item's whole KL. With f = 0 and weights that add up to 1 the value is
    the rate; under a prior that does not learn, w_q weighs it as the weight of the rate would.

    References:
        | Mastering Atari with Discrete World Models (Hafner et al., 2021): 0.8 and 0.2
        | https://arxiv.org/abs/2010.02193
        | Mastering Diverse Domains through World Models (Hafner et al., 2023): 0.5 and 0.1, with 1 nat free
        | https://arxiv.org/abs/2301.04104

    Arguments:
        prior: w_p.
        posterior: w_q.
        free: f, what an item costs at least.

    Raises:
        InputError: where the model has no laws of z.
    """

    prior: Weight = 0.8
    posterior: Weight = 0.2
    free: Rate = 0.0

    def __call__(self, bound: Bound) -> Tensor:
        q, p = bound.q, bound.p
        if q is None or p is None:
            raise InputError(
                "KL balancing needs the laws of z, and this model's depend on the path: leave the term out."
            )
        still_q, still_p, z = operations.detached(q), operations.detached(p), bound.z
        of_prior = kl_by_group(still_q, p, bound.log_q.detach(), p.log_prob(z.detach()))
        of_posterior = kl_by_group(q, still_p, bound.log_q, still_p.log_prob(z))
        return self.prior * self._paid(of_prior, bound) + self.posterior * self._paid(of_posterior, bound)

    def remark(self, bound: Bound) -> str | None:
        """What to know before training, of a prior that does not learn."""
        if bound.p is None or bound.p.log_prob(bound.z.detach()).requires_grad:
            return None
        return (
            f"KL balancing under a prior that does not learn is the rate at a weight of {self.posterior:g}: choose a "
            "prior that learns, such as `vampprior`, or weigh the rate, as `beta` does."
        )

    def _paid(self, kl: Tensor, bound: Bound) -> Tensor:
        return kl.sum(1).clamp_min(per_item(self.free, bound)).mean() if self.free else kl.sum(1).mean()
