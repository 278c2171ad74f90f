"""The law of what an invertible network makes of noise."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from uncollapse.distributions.operations import detached, parameters, rebuild
from uncollapse.errors import InputError


def flows(asks: str) -> Any:
    """The flows of zuko, whose import leaves torch's laws checking what they are given, as they do without it.

    Arguments:
        asks: The slot of the part `flow` that asks.

    Raises:
        InputError: where zuko is not installed.
    """
    checks = Distribution._validate_args
    try:
        return import_module("zuko.flows")
    except ImportError:
        raise InputError(f"the {asks} `flow` needs zuko: `pip install 'uncollapse[flows]'`.") from None
    finally:
        Distribution.set_default_validate_args(checks)


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
