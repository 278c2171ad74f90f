"""Sources of batches: sized and indexable, so that a run can stop anywhere and go on exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, default_collate

from uncollapse import bound
from uncollapse.bound import Batch, Labelled
from uncollapse.data import forms
from uncollapse.errors import InputError


@final
class Groups(Sequence[Tensor]):
    """The item ids of every batch, in one tensor: for millions of items, a tensor a batch would take half a second.

    Arguments:
        order: The ids, with shape (N,), group behind group.
        ends: Where each group ends, with shape (G,).
    """

    def __init__(self, order: Tensor, ends: Tensor) -> None:
        self.order, self.ends = order, ends

    @classmethod
    def of(cls, groups: Sequence[Tensor]) -> Groups:
        """Groups that are at hand."""
        sizes = torch.tensor([len(group) for group in groups], dtype=torch.long)
        return cls(torch.cat([torch.empty(0, dtype=torch.long), *groups]), sizes.cumsum(0))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int | slice) -> Any:
        """One group, or a list of some."""
        if isinstance(i, slice):
            return [self[k] for k in range(len(self))[i]]
        i = range(len(self))[i]
        return self.order[int(self.ends[i - 1]) if i else 0 : int(self.ends[i])]

    def only(self, kept: Tensor) -> Groups:
        """Those of the items that a mask (N,) over ids keeps, in the groups they are in."""
        inside = kept[self.order]
        ends = F.pad(inside.cumsum(0), (1, 0))[self.ends].unique()
        return Groups(self.order[inside], ends[ends > 0])


@final
class Batched:
    """Batches over items: `batches[i]` is made when it is asked for, from the items of group i.

    Evaluation draws its noise by item with `items`, so that no figure depends on the batching.

    Arguments:
        make: From item ids, with shape (B,), to their batch.
        groups: The item ids of every batch.
        measured: The same for what is measured, where `make` draws at random and figures must not.
    """

    def __init__(
        self,
        make: Callable[[Tensor], Batch],
        groups: Sequence[Tensor],
        measured: Callable[[Tensor], Batch] | None = None,
    ) -> None:
        self.make, self.measured = make, measured or make
        self.items = groups if isinstance(groups, Groups) else Groups.of(groups)
        self.count = len(self.items.order)
        if self.count == 0:
            raise InputError("there are no items to make batches of: give a source that holds at least one item.")

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Batch:
        return self.make(self.items[i])


def in_order(n: int, batch_size: int) -> Groups:
    """The ids 0..n-1 in groups of consecutive ones; the last may be smaller."""
    return Groups(torch.arange(n), _cut(torch.tensor([n]), batch_size))


def at_random(n: int, batch_size: int, seed: int) -> Groups:
    """The ids 0..n-1 in groups of random ones: a file may be sorted; the last may be smaller."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return Groups(order, _cut(torch.tensor([n]), batch_size))


def by_length(lengths: Sequence[int] | Tensor | np.ndarray, batch_size: int, mixed: bool, seed: int) -> Groups:
    """Groups of item ids with near lengths, shortest first.

    References:
        | Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He et al., 2019)
        | https://arxiv.org/abs/1901.05534

    Arguments:
        lengths: The length of every item.
        batch_size: The most items of a group.
        mixed: Whether a group may mix lengths (its batch is then padded). If not, a group also ends where
            the length changes, as in the reference.
        seed: Decides which of the items of one length share a group.
    """
    lengths = torch.as_tensor(lengths)
    shuffled = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed))
    order = shuffled[lengths[shuffled].argsort(stable=True)]
    if mixed:
        return Groups(order, _cut(torch.tensor([len(order)]), batch_size))
    return Groups(order, _cut(torch.unique_consecutive(lengths[order], return_counts=True)[1], batch_size))


def _cut(runs: Tensor, batch_size: int) -> Tensor:
    """Where groups end that fill runs of items, each of its own."""
    if batch_size < 1:
        raise InputError(f"a batch of {batch_size} items cannot be made: give a batch size of at least 1.")
    ends, start = [torch.empty(0, dtype=torch.long)], 0
    for run in runs.tolist():
        size = max(1, min(batch_size, run))  # What is asked may be near the largest number there is.
        ends.append(start + torch.arange(size, run + size, size).clamp(max=run))
        start += run
    return torch.cat(ends)


def source(data: Any, batch_size: int) -> Any:
    """What has `len` and `[i] -> Batch`, from what a person has.

    Arguments:
        data: All items in one of the forms that `forms.items_of` knows, such as a tensor, an array, or a pair (X, y)
            of them; a map-style `Dataset` of items or of pairs (x, y); a `DataLoader` of torch's own making over
            one, which brings its batch size; or batches already made: a list, a `Batched`, or anything else with
            `len` and `[i]`.
        batch_size: The items of a batch, where `data` is not batches already.

    Raises:
        InputError: for what is empty, or has no length and index, and for a list of anything but batches.
    """
    if isinstance(data, DataLoader):
        data, batch_size = _of_loader(data)
    data = forms.items_of(data)
    if isinstance(data, Tensor) or bound.is_namedtuple(data):
        bound.checked_batch(data)
        return Batched(partial(_rows, data), in_order(bound.size(data), batch_size))
    if _is_one_shot(data):
        raise _one_shot(data)
    if isinstance(data, Dataset):
        return Batched(partial(_collate, data), in_order(len(data), batch_size))  # pyright: ignore[reportArgumentType]
    if len(data) == 0:
        raise InputError("the source of batches is empty: give at least one batch.")
    if isinstance(data, list | tuple):
        forms.refuse_rows(data)
    return data


def numbered(batches: Any) -> Iterator[tuple[Tensor, Batch]]:
    """Every batch of a source with the ids of its items: those that it names (`batches.items`), or running numbers."""
    named, first = (batches.items if "items" in dir(batches) else None), 0
    for i in range(len(batches)):
        x = bound.checked_batch(batches[i])
        yield (torch.arange(first, first + bound.size(x)) if named is None else torch.as_tensor(named[i])), x
        first += bound.size(x)


def _rows(data: Any, items: Tensor) -> Batch:
    return data[items] if isinstance(data, Tensor) else type(data)(*(part[items] for part in data))


def _collate(data: Any, items: Tensor) -> Batch:
    picked = [data[i] for i in items.tolist()]
    first, labels = picked[0], None
    try:
        if isinstance(first, tuple | list) and not bound.is_namedtuple(first):
            if len(first) > 1 and isinstance(first[1], Tensor | np.ndarray | np.number | int | float):
                labels = default_collate([item[1] for item in picked])
            picked = [item[0] for item in picked]
        x = default_collate(picked)
    except (TypeError, RuntimeError) as error:  # A picture, or items of several shapes.
        raise InputError(
            f"the Dataset's items make no batch: {str(error).splitlines()[0]}. Let each be a tensor of the same shape, "
            "as by `transform=ToTensor()`, or a pair of one and its label."
        ) from error
    return x if labels is None else Labelled(x, labels)


def _of_loader(loader: DataLoader[Any]) -> tuple[Any, int]:
    """The Dataset and the batch size of a loader that says no more than these and whether to shuffle."""
    size, sampler = loader.batch_size, loader.sampler
    shuffles = (
        isinstance(sampler, RandomSampler) and not sampler.replacement and len(sampler) == len(sampler.data_source)
    )
    ordinary = (shuffles or type(sampler) is SequentialSampler) and loader.collate_fn is default_collate
    if size is None or not ordinary or loader.drop_last:
        raise _one_shot(loader)
    return loader.dataset, size


def _is_one_shot(data: Any) -> bool:
    names = dir(data)
    # `Dataset` declares no __len__ and an `IterableDataset` inherits a __getitem__ that only raises.
    indexable = "__len__" in names and "__getitem__" in names and not isinstance(data, IterableDataset)
    return not indexable or isinstance(data, Mapping | str) or "toarray" in names


def _one_shot(data: Any) -> InputError:
    do = "give a tensor, an array, a map-style Dataset, or a list of batches"
    if isinstance(data, DataLoader):
        do = "give its dataset (`loader.dataset`) and the batch size"
    elif "toarray" in dir(data):
        do = "give all of its numbers (`x.toarray()`)"
    return InputError(
        f"a `{type(data).__name__}` is no source of batches: a run resumes exactly only from a source with a length "
        f"and an index, and evaluation draws its noise by an item's place in it. Instead, {do}."
    )
