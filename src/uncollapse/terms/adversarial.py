r"""Terms that hold a law of z to another by a critic that learns to tell their draws.

With logits f and :math:`D = \text{sigmoid}(f)` the best critic has :math:`f(z) = \log p(z) - \log q(z)`, and
:math:`\mathbb{E}_p \log D + \mathbb{E}_q \log(1 - D) = 2 \, \mathrm{JS}(p \| q) - 2 \log 2`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncollapse.bound import Bound
from uncollapse.distributions.generated import has_density
from uncollapse.errors import InputError
from uncollapse.learner import Learner
from uncollapse.quantities import Count, Slot, Weight
from uncollapse.terms.auxiliary import label_of


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

    of_latents: ClassVar[bool] = True
    """Its critic reads z and labels, and no likelihood."""

    def __init__(self, critic: Annotated[nn.Module, Slot("critics", "latent")], steps: Count = 1) -> None:
        super().__init__()
        self.critic, self.steps = critic, steps

    def forward(self, bound: Bound) -> Tensor:
        return F.softplus(-self.critic(_units(bound.z))).mean()

    def opposition(self, bound: Bound) -> Tensor:
        """What the critic descends: the binary cross-entropy of prior and posteriors, summed over the two."""
        return opposed(self.critic, _of_prior(bound), _units(bound.z))

    def players(self) -> dict[str, Learner]:
        return {"critic": Learner(self.critic)}


class WassersteinPrior(nn.Module):
    r"""A critic of bounded slope tells draws of the posteriors from prior draws, and the encoder makes them alike.

    .. math:: \mathbb{E}_{p(z)} f(z) - \mathbb{E}_x \mathbb{E}_{q(z|x)} f(z), \quad
              \text{which the critic climbs, less }
              \lambda \, \mathbb{E} (\| \nabla f(\epsilon z_p + (1 - \epsilon) z_q) \| - 1)^2

    The term is the largest such difference that the critic has found: at slope 1 a lower estimate of the Wasserstein
    distance of q(z) and p(z), in units of z. As published at first, `clip` bounds the slope by the size of the weights.

    References:
        | Wasserstein Generative Adversarial Networks (Arjovsky et al., 2017): `clip`
        | https://arxiv.org/abs/1701.07875
        | Improved Training of Wasserstein GANs (Gulrajani et al., 2017): `penalty`
        | https://arxiv.org/abs/1704.00028
        | Adversarially Regularized Autoencoders (Zhao et al., 2018): `share`
        | https://arxiv.org/abs/1706.04223

    Arguments:
        critic: Maps z (..., d) to f (...,), higher where z is from the prior.
        steps: How often the critic steps before each outer step.
        penalty: lambda, the weight of the penalty on its slope; 0 for none.
        clip: The largest size of a weight of the critic; None for no limit.
        share: Which part of the gradient by z the encoder gets. A prior that is drawn by a network gets all of its own.

    Raises:
        InputError: where nothing bounds the slope.
    """

    of_latents: ClassVar[bool] = True
    """Its critic reads z and labels, and no likelihood."""

    def __init__(
        self,
        critic: Annotated[nn.Module, Slot("critics", "latent")],
        steps: Count = 5,
        penalty: Weight = 10.0,
        clip: Weight | None = None,
        share: Weight = 1.0,
    ) -> None:
        super().__init__()
        if not penalty and clip is None:
            raise InputError("a critic without a bound on its slope has no best one: set `penalty` or `clip`.")
        self.critic, self.steps, self.penalty, self.clip, self.share = critic, steps, penalty, clip, share

    def forward(self, bound: Bound) -> Tensor:
        self._clipped()
        z = _units(bound.z)
        z = z if self.share == 1 else torch.lerp(z.detach(), z, self.share)
        return self.critic(_of_prior(bound, learns=not has_density(bound.p))).mean() - self.critic(z).mean()

    def opposition(self, bound: Bound) -> Tensor:
        """What the critic descends: the difference climbed, and the penalty on its slope between the draws."""
        self._clipped()
        drawn, z = _of_prior(bound), _units(bound.z)
        found = self.critic(z).mean() - self.critic(drawn).mean()
        return found + self.penalty * self._steep(drawn, z) if self.penalty else found

    def _steep(self, first: Tensor, second: Tensor) -> Tensor:
        at = torch.lerp(second, first, torch.rand_like(first[..., :1])).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(at).sum(), at, create_graph=True)
        return (slope.norm(dim=-1) - 1).square().mean()

    @torch.no_grad()
    def _clipped(self) -> None:
        # Before it is used, which is after each of its steps.
        if self.clip is not None:
            for parameter in self.critic.parameters():
                parameter.clamp_(-self.clip, self.clip)

    def players(self) -> dict[str, Learner]:
        return {"critic": Learner(self.critic)}


class AdversarialTotalCorrelation(nn.Module):
    r"""The total correlation of the aggregate posterior, by a critic that tells its draws from those of its marginals.

    .. math:: \mathrm{KL}(q(z) \| \prod_k q(z_k)) \approx \mathbb{E}_{q(z)} f(z), \quad
              f(z) \to \log q(z) - \log \prod_k q(z_k)

    The critic descends the binary cross-entropy of draws of half of a batch and of the other half, with each unit of
    these from an item of its own. In nats, mean over items and draws; a critic that is not the best reads less. Of
    several processes each has its own items' marginals.

    References:
        | Disentangling by Factorising (Kim & Mnih, 2018)
        | https://arxiv.org/abs/1802.05983

    Arguments:
        critic: Maps z (..., d) to logits (...,), higher where the units of z belong together.
        steps: How often the critic steps before each outer step.
    """

    of_latents: ClassVar[bool] = True
    """Its critic reads z and labels, and no likelihood."""

    def __init__(self, critic: Annotated[nn.Module, Slot("critics", "latent")], steps: Count = 1) -> None:
        super().__init__()
        self.critic, self.steps = critic, steps

    def forward(self, bound: Bound) -> Tensor:
        return self.critic(_units(bound.z)).mean()

    def opposition(self, bound: Bound) -> Tensor:
        """What the critic descends: the binary cross-entropy of draws and of their marginals, summed over the two."""
        z = _units(bound.z)
        items = z.shape[1]
        return opposed(self.critic, z[:, : (items + 1) // 2], exchanged(z[:, items // 2 :]))

    def players(self) -> dict[str, Learner]:
        return {"critic": Learner(self.critic)}


class AdversarialLabels(nn.Module):
    r"""A critic tells the label of an item from its z, and the encoder makes it tell another one.

    .. math:: \mathbb{E}_x \mathbb{E}_{q(z|x)} [-\log D(y' | z)], \quad y' \text{ at random among the classes but } y,
              \quad \text{the critic descends } \mathbb{E}_x \mathbb{E}_{q(z|x)} [-\log D(y | z)]

    In nats, mean over items and draws. A critic at chance has the logarithm of the number of classes in both, and a
    decoder that is told y (`model.tells`) loses nothing by it.

    References:
        | Fader Networks: Manipulating Images by Sliding Attributes (Lample et al., 2017)
        | https://arxiv.org/abs/1706.00409

    Arguments:
        critic: Maps z (..., d) to the logits (..., C) of the classes.
        steps: How often the critic steps before each outer step.

    Raises:
        InputError: for items without labels.
    """

    of_latents: ClassVar[bool] = True
    """Its critic reads z and labels, and no likelihood."""

    def __init__(self, critic: Annotated[nn.Module, Slot("critics", "classes")], steps: Count = 1) -> None:
        super().__init__()
        self.critic, self.steps = critic, steps

    def forward(self, bound: Bound) -> Tensor:
        logits, label = self.critic(_units(bound.z)), label_of(bound, "adversarial-labels")
        classes = logits.shape[-1]
        return _missed(logits, (label + torch.randint_like(label, 1, classes)) % classes)

    def opposition(self, bound: Bound) -> Tensor:
        """What the critic descends: the cross-entropy of the label."""
        return _missed(self.critic(_units(bound.z)), label_of(bound, "adversarial-labels"))

    def players(self) -> dict[str, Learner]:
        return {"critic": Learner(self.critic)}


def _missed(logits: Tensor, label: Tensor) -> Tensor:
    """The cross-entropy of labels (B,) under logits (S, B, C)."""
    return F.cross_entropy(logits.flatten(0, 1), label.repeat(len(logits)))


def cross_entropy(first: Tensor, second: Tensor) -> Tensor:
    """The binary cross-entropies of logits of draws of both laws, each a mean, summed over the two."""
    return F.softplus(-first).mean() + F.softplus(second).mean()


def opposed(critic: Any, first: Tensor, second: Tensor) -> Tensor:
    """What a critic that learns to tell draws of two laws descends: its own `opposition`, or the cross-entropy."""
    own = getattr(critic, "opposition", None)
    return cross_entropy(critic(first), critic(second)) if own is None else own(first, second)


def exchanged(z: Tensor) -> Tensor:
    """Draws z (S, B, d) in which each unit is from an item at random, and every item's used once."""
    return z.gather(1, torch.rand_like(z).argsort(1))


def _of_prior(bound: Bound, learns: bool = False) -> Tensor:
    """As many draws of the prior as there are of the posteriors; `learns` for such that it learns by."""
    if bound.p is None:
        raise InputError("a critic of the prior needs draws of it, and this model's prior depends on the path.")
    shape = bound.z.shape[: bound.z.ndim - len(bound.p.event_shape) - len(bound.p.batch_shape)]
    draw = bound.p.rsample if learns else bound.p.sample
    return _units(draw(torch.Size(shape)))


def _units(z: Tensor) -> Tensor:
    """Draws (S, B, ...) with their units in one dimension."""
    return z.flatten(2)
