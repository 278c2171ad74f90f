"""Noise for a share of a batch, as one process with the whole batch would have drawn it, and noise by item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from torch.utils._pytree import tree_map

from uncollapse.randomness import reseed

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
        dim = _place(args, self.count) if _draws(func) else None
        if dim is None:
            return func(*args, **kwargs)
        drawn = func(*(self._widened(value) for value in args), **{k: self._widened(v) for k, v in kwargs.items()})
        return _given(func, args, tree_map(lambda whole: whole.narrow(dim, self.first, self.count), drawn))

    def _widened(self, value: Any) -> Any:
        dim = _dim(value, self.count)
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


class NoiseByItem(TorchDispatchMode):
    """Within it, random numbers for an item are a function of the seed, its id and the number of the draw.

    The items are taken to be the first dimension that is as long as there are items; what has none such is the same
    for all of them. It overwrites the state of torch's generators: keep that outside.

    Arguments:
        seed: Decides the noise.
        items: The ids of the batch's items.
    """

    def __init__(self, seed: int, items: Sequence[int]) -> None:
        super().__init__()
        self.seed, self.items, self.number = seed, items, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not _draws(func):
            return func(*args, **kwargs)
        self.number += 1
        device = next((value.device for value in args if isinstance(value, Tensor)), kwargs.get("device") or "cpu")
        dim = _place(args, len(self.items))
        if dim is None:
            reseed(self.seed, "all items", self.number, device=device)
            return func(*args, **kwargs)
        drawn = []
        for place, item in enumerate(self.items):
            reseed(self.seed, "item", item, self.number, device=device)
            named = {name: self._of_one(value, place) for name, value in kwargs.items()}
            drawn.append(func(*(self._of_one(value, place) for value in args), **named))
        return _given(func, args, tree_map(lambda *each: torch.cat(each, dim), *drawn))

    def _of_one(self, value: Any, place: int) -> Any:
        dim = _dim(value, len(self.items))
        if dim is None:
            return value
        if isinstance(value, Tensor):
            return value.narrow(dim, place, 1).clone()
        return [*value[:dim], 1, *value[dim + 1 :]]


def _draws(func: Any) -> bool:
    seeded = torch.Tag.nondeterministic_seeded in func.tags
    return seeded and not any(part in func.name() for part in _FUSED)


def _dim(value: Any, count: int) -> int | None:
    """Where the items are in a tensor or a size."""
    sizes = value.shape if isinstance(value, Tensor) else value
    return sizes.index(count) if isinstance(sizes, list | tuple) and count in sizes else None


def _place(values: Sequence[Any], count: int) -> int | None:
    """Where the items are in the first that has them."""
    return next((d for value in values if (d := _dim(value, count)) is not None), None)


def _given(func: Any, args: Sequence[Any], drawn: Any) -> Any:
    """What an operation answers that has drawn so, in place or not."""
    writes = func._schema.arguments[0].alias_info
    return args[0].copy_(drawn) if writes is not None and writes.is_write else drawn


class Replay:
    """Draws the random numbers again that are drawn after this was made, as often as it is entered.

    Arguments:
        device: Where they are drawn, beside the processor.
    """

    def __init__(self, device: torch.device) -> None:
        self.devices = [device] if device.type == "cuda" else []
        self.state = torch.get_rng_state(), *(torch.cuda.get_rng_state(one) for one in self.devices)
        self.modes = _get_current_dispatch_mode_stack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with torch.random.fork_rng(devices=self.devices), ExitStack() as around:
            here = len(_get_current_dispatch_mode_stack())
            for mode in self.modes[here:]:
                around.enter_context(mode)
            torch.set_rng_state(self.state[0])
            for device, state in zip(self.devices, self.state[1:], strict=True):
                torch.cuda.set_rng_state(state, device)
            yield
