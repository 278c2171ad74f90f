"""The bound on a whole batch, from each process's on its share of the items."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.utils._pytree import tree_map

from uncollapse.bound import Bound, is_namedtuple
from uncollapse.distributions import operations
from uncollapse.processes import Processes, Share


def whole_bound(bound: Bound, share: Share, processes: Processes) -> Bound:
    """The same bound in every process, to be read without gradient.

    Arguments:
        bound: On the items of this process.
        share: Which they are.
        processes: Who have the others.
    """
    if processes.size == 1:
        return bound
    device = bound.log_likelihood.device
    # Who has no items of its own computes another's, at no weight.
    given = processes.gather((tree_map(lambda value: _moved(value, torch.device("cpu")), bound), share.weight))
    joined = _joined([part for part, weight in given if weight > 0])
    return tree_map(lambda value: _moved(value, device), joined)


def _joined(parts: list[Bound]) -> Bound:
    columns: dict[str, Any] = {name: [getattr(part, name) for part in parts] for name in Bound._fields}
    first = parts[0]
    return Bound(
        x=_cat(columns["x"]),
        **{name: torch.cat(columns[name], 1) for name in ("z", "log_likelihood", "log_q", "log_p")},
        kl=torch.cat(columns["kl"]),
        q=None if first.q is None else operations.cat(columns["q"]),
        p=operations.cat(columns["p"]) if first.p is not None and first.p.batch_shape else first.p,
        extras={name: torch.cat([part.extras[name] for part in parts]) for name in first.extras},
    )


def _cat(batches: list[Any]) -> Any:
    first = batches[0]
    return type(first)(*map(torch.cat, zip(*batches, strict=True))) if is_namedtuple(first) else torch.cat(batches)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Distribution):
        return operations.rebuild(value, {k: v.detach().to(device) for k, v in operations.parameters(value).items()})
    return value.detach().to(device) if isinstance(value, Tensor) else value
