"""The forms that people have their items in, of which each has one meaning."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from uncollapse.bound import Labelled, is_namedtuple
from uncollapse.errors import InputError

#: What a single item or label of a list may be.
_Numbers: TypeAlias = Tensor | np.ndarray | np.number | int | float | list


def items_of(data: Any) -> Any:
    """All items as one tensor or NamedTuple of tensors; batches and Datasets as they are.

    Arguments:
        data: A tensor or a NamedTuple of tensors; an array, or what numpy can make one of (a frame of numbers); a list
            of rows that are lists of numbers; a pair (X, y) of such, or a list of pairs (x, y) (see `Labelled`); a
            list of batches that are arrays or pairs (X, y); anything else.

    Raises:
        InputError: for numbers that no tensor has, and where a pair could be two batches.
    """
    if isinstance(data, Tensor) and data.layout is not torch.strided:
        raise InputError(f"the tensor is `{data.layout}`, of which no items can be picked: give `x.to_dense()`.")
    if isinstance(data, Tensor) or is_namedtuple(data):
        return data
    if _is_array(data):
        return as_tensor(data)
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(p, Tensor) or _is_array(p) for p in data):
        return _pair(data)
    if isinstance(data, list) and data:
        return _listed(data)
    return data


def as_tensor(data: Any) -> Tensor:
    """An array as a tensor, floating numbers in torch's default type.

    Raises:
        InputError: where it holds anything but numbers.
    """
    array = data if isinstance(data, np.ndarray) else np.array(data)  # A copy, as some are read-only.
    if isinstance(array, np.ma.MaskedArray) or array.dtype.kind not in "biufc":
        kind = "a mask" if isinstance(array, np.ma.MaskedArray) else f"the type `{array.dtype}`"
        columns = (
            ", of a frame its columns of numbers (`frame.select_dtypes('number')`)" if "columns" in dir(data) else ""
        )
        raise InputError(f"the array has {kind}, which no tensor has: give an array of numbers{columns}.")
    # Numpy may go through memory backwards, or keep a number's bytes in the other order; what is mapped stays so.
    if min(array.strides, default=0) < 0 or not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="), order="C")
    try:
        tensor = torch.from_numpy(array)
    except TypeError as error:  # A number of more digits than torch has.
        raise InputError(f"the array cannot be a tensor: {error}") from None
    # Numpy makes float64 of everything, which no network of torch's default type can read.
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def refuse_rows(batches: list[Any] | tuple[Any, ...]) -> None:
    """Stops a list whose elements are no batches.

    Raises:
        InputError: with what to write instead.
    """
    first, second = batches[0], batches[min(1, len(batches) - 1)]
    if is_namedtuple(first) or (isinstance(first, Tensor) and first.ndim > 1):
        if isinstance(first, Tensor) and isinstance(second, Tensor) and first.ndim != second.ndim:
            raise InputError(
                f"a {type(batches).__name__} is taken for batches, but the first has the shape {tuple(first.shape)} "
                f"and the second {tuple(second.shape)}: write items with their labels as `(X, y)`, of one length."
            )
        return
    shape = f" with shape {tuple(first.shape)}" if isinstance(first, Tensor | np.ndarray) else ""
    how = "torch.stack(rows)" if isinstance(first, Tensor) else "torch.tensor(rows)"
    if isinstance(first, np.ndarray):
        how = "torch.from_numpy(numpy.stack(rows))"
    raise InputError(
        f"a list is taken for batches, each a tensor (B, ...) or a NamedTuple of tensors, but its first element is a "
        f"`{type(first).__name__}`{shape}: put all rows into one tensor, as in `{how}`."
    )


def _is_array(data: Any) -> bool:
    return not isinstance(data, Tensor | np.generic) and "__array__" in dir(data)


def _tensor(part: Any) -> Tensor:
    return part if isinstance(part, Tensor) else as_tensor(part)


def _pair(data: tuple[Any, Any]) -> Any:
    """The items X with their labels y; two batches where they could be no such pair."""
    x, y = map(_tensor, data)
    alike = x.ndim == y.ndim and x.dtype == y.dtype
    if alike and x.shape[1:] == y.shape[1:]:
        return x, y
    if alike:
        raise InputError(
            f"two tensors with the shapes {tuple(x.shape)} and {tuple(y.shape)} may be two batches, or items and their "
            "labels: write `[a, b]` for batches, `uncollapse.Labelled(x, y)` for items and labels."
        )
    if not x.ndim or not y.ndim or len(x) != len(y):
        raise InputError(
            f"the items and labels of a pair (X, y) must be as many, and have the shapes {tuple(x.shape)} and "
            f"{tuple(y.shape)}: leave the labels out, or give one an item."
        )
    return Labelled(x, y)


def _listed(data: list[Any]) -> Any:
    """What a list holds: rows of numbers, pairs, arrays that are batches; or the list, for others to judge."""
    first = data[0]
    if isinstance(first, np.ndarray) and first.ndim > 1:
        return [as_tensor(batch) for batch in data]
    if isinstance(first, tuple | list) and not is_namedtuple(first) and first:
        if len(first) == 2 and (isinstance(first, tuple) or isinstance(first[0], Tensor | np.ndarray)):
            return _pairs(data)
        if isinstance(first[0], list | int | float | np.number):
            return _stacked(data)
    return data


def _pairs(data: list[Any]) -> Any:
    """A list of pairs: of batches with their labels where both have several items, else of items."""
    x, y = data[0]
    if not isinstance(x, _Numbers) or not isinstance(y, _Numbers):
        return data
    if isinstance(x, int | float | np.number):
        return _stacked(data)  # Points in the plane.
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim > 1 and y.ndim and len(x) == len(y):
        return [Labelled(_tensor(x), _tensor(y)) for x, y in data]
    return Labelled(*(_stacked([pair[i] for pair in data]) for i in (0, 1)))


def _stacked(rows: list[Any]) -> Tensor:
    try:
        return torch.stack(rows) if isinstance(rows[0], Tensor) else as_tensor(np.asarray(rows))
    except (ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"the rows are not all of one shape, or hold no numbers: {str(error).splitlines()[0]}"
        ) from None
