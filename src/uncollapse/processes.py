"""Several processes that train one model: each takes its share of every batch, and all decide alike.

Every process has the whole model and makes every batch. It computes its share of the items; sums over the
processes then give all of them the loss and the gradient of the whole batch, bit for bit the same, so that what
they decide is the same too. One process alone (`ALONE`) takes everything and asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from uncollapse.errors import InputError, TrainingError

T = TypeVar("T")
N = TypeVar("N", int, bool)

ENDED = (
    "another process of this training has ended or does not answer: look for what it said. The same command goes on "
    "from the last checkpoint."
)


class Share(NamedTuple):
    """The items of a batch that one process computes."""

    items: slice
    total: int
    """The items of the whole batch."""
    weight: float
    """Of the mean over these items in the mean over all."""


@dataclass(frozen=True)
class Processes:
    """The processes of one training, seen from one of them.

    Arguments:
        rank: The number of this one.
        size: How many there are.
        hosts: The group in which they exchange what is not on a device; None for the only group there is.
    """

    rank: int = 0
    size: int = 1
    hosts: Any = None

    @classmethod
    def joined(cls) -> Processes:
        """The processes of torch's process group, which must be there."""
        hosts = None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
        return cls(dist.get_rank(), dist.get_world_size(), hosts)

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes and speaks for all."""
        return self.rank == 0

    def share(self, total: int) -> Share:
        """This process's items of a batch of `total`, near the same number for each.

        Where there are fewer items than processes, some compute an item that is another's and give it no weight:
        then the same parameters have a gradient in all.
        """
        first, last = total * self.rank // self.size, total * (self.rank + 1) // self.size
        if first == last:
            first = min(first, total - 1)
            return Share(slice(first, first + 1), total, 0.0)
        return Share(slice(first, last), total, (last - first) / total)

    def mine(self, number: int) -> bool:
        """Whether a piece of work that needs no other is for this process."""
        return number % self.size == self.rank

    def total(self, part: Tensor) -> Tensor:
        """The sum of all processes' parts, the same in all; its gradient is that of one's own part alone."""
        return part if self.size == 1 else _Total.apply(part)  # pyright: ignore[reportReturnType]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replaces the gradients of some parameters by their sums over all processes.

        In one message and for all of the parameters, also those without a gradient here, so that no process waits
        for another that has one. A parameter that has none in any has none afterwards.
        """
        if self.size == 1:
            return
        mine = [p for p in parameters if p.requires_grad]
        present = mine[0].new_tensor([p.grad is not None for p in mine])
        with _heard():
            flat = torch.cat([present, *((torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in mine)])
            dist.all_reduce(flat)
        present, *sums = flat.split([len(mine), *(p.numel() for p in mine)])
        for i, (parameter, summed) in enumerate(zip(mine, sums, strict=True)):
            # Who has a gradient need not wait for the device to say that somebody has one.
            if parameter.grad is not None or present[i] > 0:
                parameter.grad = summed.view_as(parameter)

    def align(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites tensors with those of the first process."""
        if self.size == 1:
            return
        with _heard(), torch.no_grad():
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def agreed(self, number: N) -> N:
        """The first process's number."""
        if self.size == 1:
            return number
        value = torch.tensor(int(number))
        with _heard():
            dist.broadcast(value, 0, group=self.hosts)
        return type(number)(value.item())

    def gather(self, found: T) -> list[T]:
        """What every process has found, by rank, given to all."""
        if self.size == 1:
            return [found]
        everything: list[Any] = [None] * self.size
        with _heard():
            dist.all_gather_object(everything, found, group=self.hosts)
        return everything

    def first(self, do: Callable[[], T]) -> T:
        """What `do` gives in the first process, which alone runs it, given to all; where it raises, all raise."""
        if self.size == 1:
            return do()
        outcome: list[Any] = list(_tried(do)) if self.leads else [None, None]
        with _heard():
            dist.broadcast_object_list(outcome, 0, group=self.hosts)
        result, error = outcome
        if error is not None:
            raise error
        return result


#: The only process there is.
ALONE = Processes()


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        with _heard():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient


def _tried(do: Callable[[], Any]) -> Sequence[Any]:
    try:
        return do(), None
    except (InputError, TrainingError, OSError) as error:
        return None, error


@contextmanager
def _heard() -> Iterator[None]:
    """Says in words that another process is gone, which torch reports as a broken connection."""
    try:
        yield
    except RuntimeError as error:
        raise _gone(error) from error


def gone(error: Exception) -> TrainingError | None:
    """What to say of an error that came from exchanging something with a process that is gone; None for others."""
    of_torch = isinstance(error, dist.DistError) or (type(error) is RuntimeError and "/gloo/" in str(error))
    return _gone(error) if of_torch else None


def _gone(error: Exception) -> TrainingError:
    return TrainingError(f"{ENDED} ({str(error).splitlines()[0]})")
