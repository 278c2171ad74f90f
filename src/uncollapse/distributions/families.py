"""The family of a law as data: what a file says of it beside its parameters."""

from __future__ import annotations

import importlib
from functools import singledispatch
from typing import Any

from torch import Tensor
from torch.distributions import Distribution, Independent


@singledispatch
def family(law: Any) -> dict[str, Any] | None:
    """What `restored` needs to know beside the law's parameters, as JSON; None where that cannot be said."""
    wrapped = law.reinterpreted_batch_ndims if isinstance(law, Independent) else 0
    kind = type(law.base_dist if wrapped else law)
    return {"module": kind.__module__, "name": kind.__qualname__, "independent": wrapped}


def restored(said: dict[str, Any] | None, values: dict[str, Tensor]) -> Distribution | None:
    """The law of a family with these parameters; None where it is not one of torch's or of this package."""
    # A file may not choose what code is imported, nor what is called.
    if said is None or not said["module"].startswith(("torch.distributions.", "uncollapse.distributions.")):
        return None
    kind = getattr(importlib.import_module(said["module"]), said["name"])
    if not (isinstance(kind, type) and issubclass(kind, Distribution)):
        return None
    law: Any = kind(**values, validate_args=False)  # pyright: ignore[reportArgumentType]
    return Independent(law, said["independent"], validate_args=False) if said["independent"] else law
