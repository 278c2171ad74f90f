r"""The law of groups of units of which each depends on those before it: hierarchies of latent variables.

.. math:: p(z) = \prod_k p(z_k | z_{<k}), \quad
          \mathrm{KL}(q \| p) = \sum_k \mathbb{E}_{q(z_{<k})} \mathrm{KL}(q(z_k | z_{<k}) \| p(z_k | z_{<k}))
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence
from torch.distributions.kl import register_kl

from uncollapse.distributions.families import family
from uncollapse.distributions.loose import loose, tight
from uncollapse.distributions.operations import comparable, detached, mean, parameters, rebuild

#: How many draws the mean of a group that depends on others is taken over, half of them mirror images of the others.
DRAWS = 64
#: How many items are compared in pairs: each pair takes a pass of the networks.
COMPARED = 512

#: From the number of a group, the numbers of the items (B, F) and the groups before it (..., D_k), its law.
Links = Callable[[int, "Tensor | None", "Tensor | None"], Any]


class Chain(Distribution):
    """Groups of units, the first by itself and each other one given those before it.

    Arguments:
        links: Gives the law of each group; a module whose parameters are the law's.
        sizes: Of the groups.
        features: What it is told of the items, (B, F); None for a law of nothing, batch shape ().
    """

    arg_constraints: ClassVar[dict] = {}  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    has_rsample = True

    def __init__(self, links: Links, sizes: Sequence[int], features: Tensor | None = None) -> None:
        self.links, self.sizes, self.features = links, tuple(sizes), features
        self.path: tuple[Tensor, list[Any], bool] | None = None
        """The last z that was drawn or scored, the laws of its groups, and whether these have gradients."""
        batch = torch.Size() if features is None else features.shape[:-1]
        super().__init__(batch, torch.Size([sum(self.sizes)]), validate_args=False)

    @property
    def first(self) -> Any:
        """The law of the first group, which no other one is before."""
        return self.links(0, self.features, None)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        laws = [self.first]
        # A mixture on top has draws without a gradient alone.
        first = laws[0].rsample if laws[0].has_rsample else laws[0].sample
        z = first(torch.Size(sample_shape))
        for k in range(1, len(self.sizes)):
            laws.append(self.links(k, self.features, z))
            z = torch.cat([z, laws[-1].rsample()], -1)
        self.path = z, laws, torch.is_grad_enabled()
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        parts = value.split(self.sizes, -1)
        return sum(law.log_prob(part) for law, part in zip(self.laws(value), parts, strict=True))  # pyright: ignore[reportReturnType]

    def laws(self, z: Tensor) -> list[Any]:
        """The law of each group, given those of z before it."""
        if self.path is not None and self.path[0] is z and (self.path[2] or not torch.is_grad_enabled()):
            return self.path[1]
        before = [sum(self.sizes[:k]) for k in range(len(self.sizes))]
        laws = [self.first, *(self.links(k, self.features, z[..., : before[k]]) for k in range(1, len(before)))]
        self.path = z, laws, torch.is_grad_enabled()
        return laws

    @property
    def mean(self) -> Tensor:
        """Of the first group as it is, of others over draws of those before, the same for all items."""
        half = torch.randn(DRAWS // 2, sum(self.sizes), generator=torch.Generator().manual_seed(0))
        total = 0.0
        for noise in torch.cat([half, -half]):
            z = means = mean(self.first)
            z = z + self.first.base_dist.scale * noise[: self.sizes[0]].to(z)
            for k in range(1, len(self.sizes)):
                law = self.links(k, self.features, z)
                means = torch.cat([means, mean(law)], -1)
                here = noise[z.shape[-1] : z.shape[-1] + self.sizes[k]].to(z)
                z = torch.cat([z, mean(law) + law.base_dist.scale * here], -1)
            total = total + means / DRAWS
        return total  # pyright: ignore[reportReturnType]


@register_kl(Chain, Chain)
def _by_group(q: Chain, p: Chain) -> Tensor:
    """(B, K), at the draws that both have scored: in closed form given these, where there is one."""
    if q.path is None or p.path is None or q.path[0] is not p.path[0] or q.sizes != p.sizes:
        raise NotImplementedError
    z, batch, found = q.path[0], q.batch_shape, []
    for of_q, of_p, part in zip(q.path[1], p.path[1], z.split(q.sizes, -1), strict=True):
        try:
            each = kl_divergence(of_q, of_p)
        except NotImplementedError:
            each = of_q.log_prob(part) - of_p.log_prob(part)
        found.append(each if each.shape == batch else each.mean(0))
    return torch.stack(found, -1)


@parameters.register
def _(law: Chain) -> dict[str, Tensor]:
    return {} if law.features is None else {"features": law.features}


def _with(law: Chain, values: dict[str, Tensor], links: Any = None) -> Chain:
    return Chain(law.links if links is None else links, law.sizes, values.get("features"))


@rebuild.register
def _(law: Chain, values: dict[str, Tensor]) -> Chain:
    if law.features is None or values["features"].device == law.features.device:
        return _with(law, values)
    return _with(law, values, copy.deepcopy(law.links).to(values["features"].device))  # pyright: ignore[reportFunctionMemberAccess]


@detached.register
def _(law: Chain) -> Chain:
    values = {name: value.detach() for name, value in parameters(law).items()}
    return _with(law, values, copy.deepcopy(law.links).requires_grad_(False))  # pyright: ignore[reportFunctionMemberAccess]


@loose.register
def _(law: Chain) -> dict[str, Tensor]:
    return parameters(law)


@tight.register
def _(law: Chain, values: dict[str, Tensor]) -> Chain:
    return _with(law, values)


@family.register
def _(law: Chain) -> None:
    """None, as the networks are in no file of rows."""


@comparable.register
def _(law: Chain) -> int:
    return COMPARED
