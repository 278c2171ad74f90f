"""Laws by numbers without limits, so that any step on them gives a law again."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, cast

from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, Transform, transform_to

from uncollapse.distributions.operations import parameters, rebuild
from uncollapse.errors import InputError


@singledispatch
def loose(law: Distribution) -> dict[str, Tensor]:
    """The law's parameters as numbers without limits, by name, each (B, ...).

    Raises:
        InputError: for a parameter of which there is no such form.
    """
    return {name: _way(law, name).inv(value) for name, value in parameters(law).items()}  # pyright: ignore[reportReturnType]


@loose.register
def _(law: Independent) -> dict[str, Tensor]:
    return loose(law.base_dist)


@loose.register
def _(law: Normal) -> dict[str, Tensor]:
    return {"loc": law.loc, "log_variance": 2 * law.scale.log()}


@singledispatch
def tight(law: Distribution, values: dict[str, Tensor]) -> Distribution:
    """The law of the same family that `loose` would give these numbers of."""
    return rebuild(law, {name: _way(law, name)(value) for name, value in values.items()})  # pyright: ignore[reportArgumentType]


@tight.register
def _(law: Independent, values: dict[str, Tensor]) -> Distribution:
    return Independent(tight(law.base_dist, values), law.reinterpreted_batch_ndims, validate_args=False)


@tight.register
def _(law: Normal, values: dict[str, Tensor]) -> Distribution:
    return Normal(values["loc"], (0.5 * values["log_variance"]).exp(), validate_args=False)


def _way(law: Distribution, name: str) -> Transform:
    """From all numbers to those that a parameter may be."""
    try:
        return transform_to(cast(dict[str, Any], law.arg_constraints)[name])
    except NotImplementedError:
        raise InputError(
            f"cannot refine a `{type(law).__name__}`: no step keeps its `{name}` within its limits. Take another "
            "family, such as `gaussian`, or register the law with `uncollapse.distributions.loose.loose` and `tight`."
        ) from None
