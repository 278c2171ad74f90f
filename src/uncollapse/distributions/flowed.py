"""Laws of what an invertible network makes of noise."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from uncollapse.distributions.families import family
from uncollapse.distributions.loose import loose, tight
from uncollapse.distributions.operations import comparable, detached, pairwise_log_prob, parameters, rebuild
from uncollapse.errors import InputError

#: How many draws a mean is taken over, half of them the mirror images of the others.
DRAWS = 64
#: How many passes of one step's network the comparison of all pairs of items may take: some seconds on a processor.
PASSES = 4_000_000
#: How many pairs are compared at a time: the inverses of zuko keep what every pass made until they are collected.
PAIRS = 4096


def autoregressive(part: str, latent: int, transforms: int, hidden: Sequence[int], context: int = 0) -> Any:
    """A masked autoregressive flow of zuko, of affine steps, each the other way round.

    Arguments:
        part: What needs it, in words.
        latent: The number of units D.
        transforms: How many steps.
        hidden: The widths of the hidden layers of each step's network.
        context: How many numbers it is told of an item.

    Raises:
        InputError: where zuko is not installed.
    """
    checks = Distribution._validate_args
    try:
        flows: Any = import_module("zuko.flows")
    except ImportError:
        raise InputError(f"{part} needs zuko: `pip install 'uncollapse[flows]'`.") from None
    finally:
        Distribution.set_default_validate_args(checks)  # Its import would stop torch's laws from checking anything.
    # Its masks are numbers that its making looks at, which a model that is only counted, on no device, would not have.
    with torch.device("cpu"):
        return flows.MAF(latent, context, transforms=transforms, hidden_features=tuple(hidden))


class Flowed(Distribution):
    r"""The law of z = f(e), e ~ N(0, I).

    .. math:: \log p(z) = \log N(f^{-1}(z); 0, I) + \log |\det \partial f^{-1} / \partial z|

    Arguments:
        flow: Gives a law by `flow()`, as those of zuko do; a module, whose parameters are the law's.
    """

    arg_constraints: ClassVar[dict] = {}  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    has_rsample = True

    def __init__(self, flow: Callable[[], Any]) -> None:
        self.flow = flow
        super().__init__(torch.Size(), flow().event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.flow().log_prob(value)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.flow().rsample(torch.Size(sample_shape))


@parameters.register
def _(law: Flowed) -> dict[str, Tensor]:
    return {}  # None by item: all are the network's.


@rebuild.register
def _(law: Flowed, values: dict[str, Tensor]) -> Flowed:
    return law


@detached.register
def _(law: Flowed) -> Flowed:
    return Flowed(copy.deepcopy(law.flow).requires_grad_(False))  # pyright: ignore[reportFunctionMemberAccess]


class FlowedNormal(Distribution):
    r"""The law of z = f(e; h), e ~ N(m, s^2), f invertible and told of the item by h.

    .. math:: \log q(z) = \log N(e; m, s^2) - \log |\det \partial f / \partial e|

    A draw takes one pass of each step of f, and so does its own density, which is kept with it. That of any other z
    takes as many passes as there are units, as f is inverted unit by unit. The mean is one over fixed draws of e, the
    same for all items, so that items of one law have one mean.

    Arguments:
        flow: Gives a transform by `flow(h)`, as those of zuko do; a module, whose parameters are the law's.
        loc: m, with shape (B, D).
        scale: s, with shape (B, D).
        context: h, with shape (B, C).
    """

    arg_constraints: ClassVar[dict] = {}  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    has_rsample = True

    def __init__(self, flow: Any, loc: Tensor, scale: Tensor, context: Tensor) -> None:
        self.flow, self.loc, self.scale, self.context = flow, loc, scale, context
        self._last: tuple[Tensor, Tensor, bool] | None = None
        """The last draw, its density, and whether that has a gradient."""
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        noise = torch.randn(
            self._extended_shape(torch.Size(sample_shape)), dtype=self.loc.dtype, device=self.loc.device
        )
        e = self.loc + self.scale * noise
        z, stretch = self.flow(self.context).call_and_ladj(e)
        self._last = z, self._density(e, stretch), torch.is_grad_enabled()
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        if self._last is not None:
            z, found, differentiable = self._last
            if value is z and (differentiable or not torch.is_grad_enabled()):
                return found
        transform = self.flow(self.context)
        e = transform.inv(value)
        return self._density(e, transform.log_abs_det_jacobian(e, value))

    def _density(self, e: Tensor, stretch: Tensor) -> Tensor:
        return Normal(self.loc, self.scale, validate_args=False).log_prob(e).sum(-1) - stretch

    @property
    def mean(self) -> Tensor:
        half = torch.randn(
            DRAWS // 2, self.loc.shape[-1], generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )
        transform, total = self.flow(self.context), torch.zeros_like(self.loc)
        for noise in torch.cat([half, -half]).to(self.loc):  # One by one, as all would be large.
            total = total + transform(self.loc + self.scale * noise)
        return total / DRAWS

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> FlowedNormal:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _with(self, {k: v.expand(*batch_shape, v.shape[-1]) for k, v in parameters(self).items()})


def _with(law: FlowedNormal, values: dict[str, Tensor], flow: Any = None) -> FlowedNormal:
    return FlowedNormal(law.flow if flow is None else flow, **values)


@parameters.register
def _(law: FlowedNormal) -> dict[str, Tensor]:
    return {"loc": law.loc, "scale": law.scale, "context": law.context}


@rebuild.register
def _(law: FlowedNormal, values: dict[str, Tensor]) -> FlowedNormal:
    there = values["loc"].device
    return _with(law, values, None if there == law.loc.device else copy.deepcopy(law.flow).to(there))


@detached.register
def _(law: FlowedNormal) -> FlowedNormal:
    still = copy.deepcopy(law.flow).requires_grad_(False)
    return _with(law, {name: value.detach() for name, value in parameters(law).items()}, still)


@loose.register
def _(law: FlowedNormal) -> dict[str, Tensor]:
    return {"loc": law.loc, "log_variance": 2 * law.scale.log(), "context": law.context}


@tight.register
def _(law: FlowedNormal, values: dict[str, Tensor]) -> FlowedNormal:
    scale = (0.5 * values["log_variance"]).exp()
    return _with(law, {"loc": values["loc"], "scale": scale, "context": values["context"]})


@family.register
def _(law: FlowedNormal) -> None:
    """None, as the network is in no file of rows."""


@comparable.register
def _(law: FlowedNormal) -> int:
    return max(2, math.isqrt(PASSES // (law.loc.shape[-1] * len(law.flow.transforms))))


@pairwise_log_prob.register
def _(law: FlowedNormal, z: Tensor) -> Tensor:
    of_some = pairwise_log_prob.dispatch(object)
    return torch.cat([of_some(law, some) for some in z.split(max(1, PAIRS // len(law.loc)))])
