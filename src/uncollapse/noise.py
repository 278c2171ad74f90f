"""Noise for a share of a batch: what one process with the whole batch would have drawn for those items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

#: In the names of operations that compute, and of which torch says that they may draw too.
_FUSED = ("attention", "_rnn", "lstm", "_sdp_")


class WholeBatchNoise(TorchDispatchMode):
    """Within it, random numbers are drawn for the whole batch and those of some of its items are kept.

    So several processes, all seeded alike, see the dropout masks and latent draws that one process sees, whatever
    the network. The items are taken to be the first dimension that is as long as the share; what has none such (a
    mask that all items share) is drawn as it is, the same in all processes. Where another dimension comes first and
    happens to be as long, the numbers are as random, but not those of one process. Nor are those that a fused kernel
    (attention, a recurrent layer on a GPU) draws by itself: it computes on its items as if they were alone.

    Arguments:
        items: Which of the batch's items are here.
        total: How many items the batch has.
    """

    def __init__(self, items: slice, total: int) -> None:
        super().__init__()
        self.first, self.count, self.total = items.start, items.stop - items.start, total

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or any(part in func.name() for part in _FUSED):
            return func(*args, **kwargs)
        dim = next((d for value in args if (d := self._dim(value)) is not None), None)
        if dim is None:
            return func(*args, **kwargs)
        drawn = func(*(self._widened(value) for value in args), **{k: self._widened(v) for k, v in kwargs.items()})
        kept = tree_map(lambda whole: whole.narrow(dim, self.first, self.count), drawn)
        writes = func._schema.arguments[0].alias_info
        return args[0].copy_(kept) if writes is not None and writes.is_write else kept

    def _dim(self, value: Any) -> int | None:
        """Where the items are in a tensor or a size."""
        sizes = value.shape if isinstance(value, Tensor) else value
        return sizes.index(self.count) if isinstance(sizes, list | tuple) and self.count in sizes else None

    def _widened(self, value: Any) -> Any:
        dim = self._dim(value)
        if dim is None:
            return value
        sizes = list(value.shape if isinstance(value, Tensor) else value)
        sizes[dim] = self.total
        if not isinstance(value, Tensor):
            return sizes
        # Numbers fill a tensor in the order of its memory, so this must be the order that the whole batch has.
        order = sorted(range(len(sizes)), key=lambda d: (value.stride(d), value.shape[d]), reverse=True)
        wide = torch.empty_permuted(sizes, order, dtype=value.dtype, device=value.device)
        # What a law's other items have here is anything that is allowed: copies of those that are present.
        places = (torch.arange(self.total, device=value.device) - self.first).clamp(0, self.count - 1)
        return wide.copy_(value.index_select(dim, places))
