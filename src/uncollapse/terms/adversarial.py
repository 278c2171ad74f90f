r"""Terms that hold a law of z to another by a critic that learns to tell their draws.

With logits f and :math:`D = \text{sigmoid}(f)` the best critic has :math:`f(z) = \log p(z) - \log q(z)`, and
:math:`\mathbb{E}_p \log D + \mathbb{E}_q \log(1 - D) = 2 \, \mathrm{JS}(p \| q) - 2 \log 2`.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncollapse.bound import Bound
from uncollapse.errors import InputError
from uncollapse.learner import Learner
from uncollapse.quantities import Count, Slot


class AdversarialPrior(nn.Module):
    r"""A critic tells draws of the posteriors from draws of the prior, and the encoder makes them alike.

    .. math:: \mathbb{E}_x \mathbb{E}_{q(z|x)} [-\log D(z)], \quad \text{the critic descends }
              \mathbb{E}_{p(z)} [-\log D(z)] + \mathbb{E}_x \mathbb{E}_{q(z|x)} [-\log(1 - D(z))]

    The term is that of the encoder (non-saturating), in nats, mean over items and draws; it acts on the aggregate
    posterior alone, so that without the rate nothing keeps each posterior wide. Of several processes each holds its own
    items to the prior.

    References:
        | Adversarial Autoencoders (Makhzani et al., 2015)
        | https://arxiv.org/abs/1511.05644

    Arguments:
        critic: Maps z (..., d) to logits (...,), higher where z is from the prior.
        steps: How often the critic steps before each outer step.
    """

    def __init__(self, critic: Annotated[nn.Module, Slot("critics", "latent")], steps: Count = 1) -> None:
        super().__init__()
        self.critic, self.steps = critic, steps

    def forward(self, bound: Bound) -> Tensor:
        return F.softplus(-self.critic(_units(bound.z))).mean()

    def opposition(self, bound: Bound) -> Tensor:
        """What the critic descends: the binary cross-entropy of prior and posteriors, summed over the two."""
        if bound.p is None:
            raise InputError("`adversarial-prior` needs draws of the prior, and this model's depends on the path.")
        z = _units(bound.z)
        shape = bound.z.shape[: bound.z.ndim - len(bound.p.event_shape) - len(bound.p.batch_shape)]
        drawn = _units(bound.p.sample(torch.Size(shape)))
        return F.softplus(-self.critic(drawn)).mean() + F.softplus(self.critic(z)).mean()

    def players(self) -> dict[str, Learner]:
        return {"critic": Learner(self.critic)}


def _units(z: Tensor) -> Tensor:
    """Draws (S, B, ...) with their units in one dimension."""
    return z.flatten(2)
