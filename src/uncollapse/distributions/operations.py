"""What the library does with a law beyond `torch.distributions`: join, pick, compare in pairs, fix its draws.

Every function is generic over the law's parameters; a law whose parameters do not all carry the batch
dimension first registers its own.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from functools import singledispatch
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MixtureSameFamily, Normal

from uncollapse.errors import InputError

#: Parameters that say the same: torch keeps those that somebody has looked at, and takes one of them only.
_ALIKE = (("logits", "probs"), ("scale_tril", "covariance_matrix", "precision_matrix"))

#: Standard deviations, squared, of a mean from the middle of all, from where on squares cancel to less than 1e-5.
_FAR = 1e10


@singledispatch
def parameters(law: Distribution) -> dict[str, Tensor]:
    """The law's parameters by name, each (B, ...)."""
    # Of the law itself: some say it as a property.
    names = [name for name in cast(dict[str, Any], law.arg_constraints) if name in law.__dict__]
    for same in _ALIKE:
        names = [name for name in names if name not in same or name == next(n for n in same if n in names)]
    if not names:
        raise InputError(
            f"the law `{type(law).__name__}` does not say its parameters: register it with "
            "`uncollapse.distributions.operations.parameters` and `rebuild`."
        )
    return {name: getattr(law, name) for name in names}


@parameters.register
def _(law: Independent) -> dict[str, Tensor]:
    return parameters(law.base_dist)


@singledispatch
def rebuild(law: Distribution, values: dict[str, Tensor]) -> Distribution:
    """A law of the same family with other parameters."""
    return cast(Any, type(law))(**values, validate_args=False)


@rebuild.register
def _(law: Independent, values: dict[str, Tensor]) -> Distribution:
    return Independent(rebuild(law.base_dist, values), law.reinterpreted_batch_ndims, validate_args=False)


@parameters.register
def _(law: MixtureSameFamily) -> dict[str, Tensor]:
    of_each = parameters(law.component_distribution)
    return {"weights": law.mixture_distribution.logits, **{f"each.{name}": value for name, value in of_each.items()}}


@rebuild.register
def _(law: MixtureSameFamily, values: dict[str, Tensor]) -> Distribution:
    weights = rebuild(law.mixture_distribution, {"logits": values["weights"]})
    of_each = {name.removeprefix("each."): value for name, value in values.items() if name != "weights"}
    each = rebuild(law.component_distribution, of_each)
    return MixtureSameFamily(weights, each, validate_args=False)  # pyright: ignore[reportArgumentType]


@singledispatch
def detached(law: Any) -> Distribution:
    """The same law, without a gradient for its parameters."""
    return rebuild(law, {name: value.detach() for name, value in parameters(law).items()})


def cat(laws: Sequence[Any]) -> Distribution:
    """One law over the items of all, in order."""
    values = [parameters(law) for law in laws]
    return rebuild(laws[0], {name: torch.cat([v[name] for v in values]) for name in values[0]})


def take(law: Any, items: Tensor | slice) -> Distribution:
    """The law of some items."""
    return rebuild(law, {name: value[items] for name, value in parameters(law).items()})


def mean(law: Distribution) -> Tensor:
    """E[z], with shape (B, ...), that of z."""
    return law.mean


def common(law: Any) -> Tensor | None:
    """The numbers of a law that is the same for all items, with shape (P,); None where it is not.

    A law without a batch shape, and none at all, have none that could differ.
    """
    if law is None or not law.batch_shape:
        return torch.empty(0)
    try:
        values = torch.cat([value.unsqueeze(-1).flatten(1).cpu() for value in parameters(law).values()], 1)
    except InputError:  # Nobody knows whether it is.
        return None
    return values[0] if bool((values == values[0]).all()) else None


@singledispatch
def space(law: Any) -> str:
    """What a law's draws are: the densities of laws over different spaces cannot be compared."""
    return "vectors"


@space.register
def _(law: MixtureSameFamily) -> str:
    return space(law.component_distribution)


@singledispatch
def comparable(law: Any) -> int:
    """How many items can be compared in pairs within seconds, for a law whose density takes many passes."""
    return sys.maxsize


@singledispatch
def pairwise_log_prob(law: Any, z: Tensor) -> Tensor:
    """log q(z_i | x_j) for every draw i and every item j, with shape (N, B), for draws (N, ...)."""
    spread = rebuild(law, {name: value.unsqueeze(0) for name, value in parameters(law).items()})
    return spread.log_prob(z.unsqueeze(1))


@pairwise_log_prob.register
def _(law: Independent, z: Tensor) -> Tensor:
    gaussian = isinstance(law.base_dist, Normal)
    return _gaussian_pairs(law.base_dist, z) if gaussian else pairwise_log_prob.dispatch(object)(law, z)


def _gaussian_pairs(q: Normal, z: Tensor) -> Tensor:
    z, loc, scale = (t.flatten(1).double() for t in (z, q.loc, q.scale))
    middle = loc.detach().mean(0)
    z, loc, precision = z - middle, loc - middle, scale.pow(-2)
    constant = (2 * scale.log() + torch.tensor(2 * torch.pi).log()).sum(1)
    return -0.5 * (_squares(z, loc, precision) + constant)


def _squares(z: Tensor, loc: Tensor, precision: Tensor) -> Tensor:
    """The weighted squared distances, (N, B), of all z (N, D) from all loc (B, D)."""
    own = loc.square() * precision
    if own.numel() and own.detach().max() > _FAR:
        units = zip(z.unbind(1), loc.unbind(1), precision.unbind(1), strict=True)
        return sum((a[:, None] - b).square() * weight for a, b, weight in units)  # pyright: ignore[reportReturnType]
    # Two matrix products instead of an (N, B, D) tensor; in float64, as the squares cancel.
    return z.square() @ precision.T - 2 * z @ (loc * precision).T + own.sum(1)


@singledispatch
def finely(law: Any) -> Any:
    """The same law with draws much finer than its scales, however narrow it is: a Gaussian in double precision."""
    return law


@finely.register
def _(law: Independent) -> Any:
    if not isinstance(law.base_dist, Normal):
        return law
    return rebuild(law, {name: value.double() for name, value in parameters(law).items()})


@singledispatch
def pairwise_by_group(law: Any, z: Tensor) -> Tensor:
    """log q(z_ik | x_j) for every draw i, every item j and every group k of units, with shape (N, B, K).

    Under every q the groups are independent, so that their sum is `pairwise_log_prob`; K = 1 where z does not split.
    """
    return pairwise_log_prob(law, z).unsqueeze(-1)


@pairwise_by_group.register
def _(law: Independent, z: Tensor) -> Tensor:
    return pairwise_log_prob(law.base_dist, z).flatten(2)


def fixed(law: Any, z: Tensor) -> Distribution:
    """The same law, whose next draws are z (S, B, ...), already made.

    Evaluation draws its noise item by item; this hands it to any model that samples the law it is given.
    """
    law = copy.copy(law)
    law.rsample = law.sample = lambda sample_shape=(): z
    return law
