r"""Posteriors of a hierarchy of latent variables, from the top down.

.. math:: q(z | x) = \prod_k q(z_k | z_{<k}, x), \quad z = [z_1, \dots, z_K]

z_1 is the top group, which the prior `hierarchical` draws first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from uncollapse.bound import Batch
from uncollapse.distributions.chain import Chain
from uncollapse.distributions.scoring import wide
from uncollapse.errors import InputError
from uncollapse.nets.hierarchy import Down, gaussian, split
from uncollapse.quantities import Count

#: From the number of a group, the numbers of the items, the groups before it and the prior's law of it, its law.
Rule = Callable[[int, Tensor, "Tensor | None", Any], Any]


class TopDown(nn.Module):
    """An encoder whose law of each group may start from the prior's, which it asks for.

    Arguments:
        net: Reads a batch to numbers of its items, (B, F).
        rule: Makes the law of a group.
        sizes: Of the groups.
        shares: Whether the rule needs the prior's laws.
    """

    def __init__(self, net: nn.Module, rule: nn.Module, sizes: Sequence[int], shares: bool) -> None:
        super().__init__()
        self.net, self.rule, self.sizes, self.shares = net, rule, tuple(sizes), shares

    def forward(self, x: Batch, prior: Any = None) -> Chain:
        """The posteriors of a batch; without the prior's law only their first groups can be had, if it is shared."""
        return Chain(_Links(self.rule, prior if self.shares else None, self.shares), self.sizes, wide(self.net(x)))


class _Links(nn.Module):
    """A rule with the prior that it starts from."""

    def __init__(self, rule: nn.Module, prior: Any, shares: bool) -> None:
        super().__init__()
        self.rule, self.prior, self.shares = rule, prior, shares

    def forward(self, k: int, features: Tensor, before: Tensor | None) -> Any:
        return self.rule(k, features, before, self._law(k, before) if k and self.shares else None)

    def _law(self, k: int, before: Tensor | None) -> Any:
        if not isinstance(self.prior, Chain):
            raise InputError(
                "this posterior goes down with the prior, which must be of groups too: set `model.prior.kind` to "
                "`hierarchical`, with as many groups."
            )
        return self.prior.links(k, None, before)


class Own(nn.Module):
    """Each group's law by a network of its own, or, `relative`, what that changes of the prior's.

    Arguments:
        sizes: Of the groups.
        context: How many numbers of an item each network is told.
        hidden: The widths of the hidden layers of each network.
        relative: Whether the mean is added to the prior's and the deviation multiplies it.
    """

    def __init__(self, sizes: Sequence[int], context: int, hidden: Sequence[int], relative: bool) -> None:
        super().__init__()
        self.top, self.relative = 2 * sizes[0], relative
        self.down = Down(sizes, hidden, context)

    def forward(self, k: int, features: Tensor, before: Tensor | None, prior: Any) -> Any:
        if before is None:
            return gaussian(*features[..., : self.top].chunk(2, -1))
        mean, log_variance = self.down(k, before, features[..., self.top :])
        if not self.relative:
            return gaussian(mean, log_variance)
        return gaussian(prior.loc + mean, 2 * prior.log_scale + log_variance)


class Weighed(nn.Module):
    """Each group's law is the prior's and one read from the item, multiplied: their precisions add up.

    Arguments:
        sizes: Of the groups.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)

    def forward(self, k: int, features: Tensor, before: Tensor | None, prior: Any) -> Any:
        means, log_variances = (half.split(self.sizes, -1)[k] for half in features.chunk(2, -1))
        if before is None:
            return gaussian(means, log_variances)
        read, of_prior = -log_variances, -2 * prior.log_scale
        both = torch.logaddexp(read, of_prior)  # Of the logarithms, as precisions go beyond what a number holds.
        return gaussian(means * (read - both).exp() + prior.loc * (of_prior - both).exp(), -both)


def hierarchical(
    net: Callable[[int], nn.Module],
    latent: int,
    groups: Count = 2,
    hidden: list[Count] = [64],  # noqa: B006 - never written to
    context: Count = 64,
    relative: bool = False,
) -> TopDown:
    r"""Gaussians of groups of units, each told of the item and of the groups before it.

    .. math:: q(z_k | z_{<k}, x) = N(m_k, s_k^2), \quad \text{or, relative, }
              N(\mu_k + m_k, (\sigma_k s_k)^2) \text{ of a prior } p(z_k | z_{<k}) = N(\mu_k, \sigma_k^2)

    The KL, in nats, is by group, in closed form given the groups before, which are drawn. A relative posterior that
    says nothing is the prior.

    References:
        | VAE with a VampPrior (Tomczak & Welling, 2018)
        | https://arxiv.org/abs/1705.07120
        | NVAE: A Deep Hierarchical Variational Autoencoder (Vahdat & Kautz, 2020): `relative`
        | https://arxiv.org/abs/2007.03898

    Arguments:
        net: Makes the encoder's network, from the number of its outputs.
        latent: The number of units of all groups.
        groups: K, of as many units each.
        hidden: The widths of the hidden layers of each group's network.
        context: How many numbers of an item these are told.
        relative: Whether each group's law starts from the prior's, which is to be `hierarchical`.

    Raises:
        InputError: where the units do not split.
    """
    sizes = split(latent, groups)
    rule = Own(sizes, context, hidden, relative)
    return TopDown(net(2 * sizes[0] + context), rule, sizes, relative)


def ladder(net: Callable[[int], nn.Module], latent: int, groups: Count = 2) -> TopDown:
    r"""A Gaussian of the item corrects the prior's on the way down, weighed by their precisions (ladder VAE).

    .. math:: \frac1{s_k^2} = \frac1{\hat s_k^2} + \frac1{\sigma_k^2}, \quad
              m_k = s_k^2 \left( \frac{\hat m_k}{\hat s_k^2} + \frac{\mu_k}{\sigma_k^2} \right), \quad
              p(z_k | z_{<k}) = N(\mu_k, \sigma_k^2)

    The top group is read from the item alone. The KL, in nats, is by group.

    References:
        | Ladder Variational Autoencoders (Soenderby et al., 2016)
        | https://arxiv.org/abs/1602.02282

    Arguments:
        net: Makes the encoder's network, from the number of its outputs.
        latent: The number of units of all groups.
        groups: K, of as many units each, as those of the prior `hierarchical`.

    Raises:
        InputError: where the units do not split.
    """
    sizes = split(latent, groups)
    return TopDown(net(2 * latent), Weighed(sizes), sizes, True)
