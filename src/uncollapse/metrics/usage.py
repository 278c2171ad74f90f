"""Whether the decoder uses z: the distortion under each item's own code, and under codes that are not its own.

All of it is of one model on the same items and draws, so that every difference is paired by item. What a batch is
conditioned on, and the tokens that a decoder looks at, stay the item's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from uncollapse.bound import Batch, Bound
from uncollapse.distributions import operations
from uncollapse.distributions.tokens import PAD
from uncollapse.metrics.draws import draw
from uncollapse.metrics.estimate import Unavailable
from uncollapse.metrics.rows import OWN_NOISE, Rows
from uncollapse.metrics.subject import evaluating, placed
from uncollapse.model import ask
from uncollapse.randomness import generator, seeded

#: The most items and units (or channels) whose parts in z are taken one by one.
ITEMS, UNITS = 200, 64
#: Where places in a text are cut: the first token alone, and then twice as far each time.
PLACES = (0, 1, 3, 7, 15, 31, 63)


#: The first token of a stretch, counted from 1, and the last; None for all that follow.
Place: TypeAlias = tuple[int, int | None]


class Usage(NamedTuple):
    """Distortions in nats an item, float64 on the CPU, each the mean over the draws."""

    own: Tensor
    """(N,), with z ~ q(z | x)."""
    shuffled: Tensor
    """(N,), with the z of another item."""
    prior: Tensor | None
    """(N,), with z ~ p(z); None where the prior is not known."""
    average: Tensor | None
    """(N,), with the mean of all codes; None of laws on less than the whole space."""
    units: Tensor | None
    """(M, U), how much another item's value costs in one unit alone, or in one channel where z has a shape; nan where
    none was taken. None of laws whose units are not free of each other."""
    places: dict[Place, Tensor]
    """Of texts, by stretch of tokens: how much another item's z costs a predicted token there, of every item that is so
    long."""
    blocks: Tensor | None = None
    """(M, R), of a z with a shape (C, ...): how much another item's values cost in one position alone, all channels
    together, in the order of rows, or in one block of positions (see `block`). None of other z."""
    conditional: bool = False
    """Whether items have priors of their own. By unit and block it is then a draw of the prior that takes the place of
    another item's value, which would be of what is given there."""

    @property
    def worth(self) -> Tensor:
        """(N,), how much more the distortion is under a z that says nothing of x than under one's own.

        That z is another item's, or the average code where the decoder does better with it: an encoder that is wrong
        does no better than either. Under a conditional prior it is a draw of the prior, which says what is given.
        """
        if self.conditional and self.prior is not None:
            return self.prior - self.own
        without = [self.shuffled] if self.average is None else [self.shuffled, self.average]
        return min(without, key=lambda values: values.mean().item()) - self.own


def usage(
    model: Any, batches: Iterable[tuple[Tensor, Batch]], rows: Rows, passes: int = 4, seed: int = 0
) -> Usage | Unavailable:
    """The distortion under own, shuffled, prior and average z, and by unit and place.

    Arguments:
        model: See `Model`.
        batches: The items that were measured, with their ids.
        rows: What was measured of them, whose posteriors are used.
        passes: How many draws an item.
        seed: Decides draws and partners.
    """
    if rows.law is None or not rows.law.event_shape.numel():
        return Unavailable("there is no law of z given x alone")
    if len(rows.items) < 2:
        return Unavailable("one item has no other to take a code from: give at least 2")
    codes = draw(rows.law, seed, "usage", rows.items.tolist(), passes)
    swap = _partners(len(rows.items), passes, seed)
    task = _Task(model, rows, codes, torch.stack([z[p] for z, p in zip(codes, swap, strict=True)]), seed)
    parts, taken = [], 0
    with torch.no_grad(), evaluating(model):
        for ids, x in batches:
            parts.append(_of_batch(task, ids, x, by_unit=taken < ITEMS))
            taken += len(ids)
    if any(part is None for part in parts):
        return Unavailable(OWN_NOISE)
    return _joined([part for part in parts if part is not None])


class _Task(NamedTuple):
    model: Any
    rows: Rows
    own: Tensor
    """(S, N, ...)."""
    other: Tensor
    """(S, N, ...), those of other items."""
    seed: int


def _partners(n: int, passes: int, seed: int) -> list[Tensor]:
    """Whose code each item gets, never its own."""
    order, found = torch.randperm(n, generator=generator(seed, "partners")), []
    for k in range(passes):
        found.append(torch.empty_like(order).scatter_(0, order, order.roll(1 + k % (n - 1))))
    return found


def _of_batch(task: _Task, ids: Tensor, x: Batch, by_unit: bool) -> Usage | None:
    x, at = placed(task.model, x), torch.searchsorted(task.rows.items, ids)
    q = law_of(task.rows, at, x)
    own, other = task.own[:, at], task.other[:, at]
    first = _asked(task, x, q, own[:1])
    if not bool(first.z.cpu().isclose(own[:1].cpu(), equal_nan=True).all()):
        return None
    base, shuffled = _distortion(task, x, q, own), _distortion(task, x, q, other)
    gaussian, average = euclidean(q), task.own.mean((0, 1)).expand_as(own)
    prior = None if first.p is None else _of_prior(task, first.p, at, own, first.z.device)
    if conditional(first.p):
        other = prior.cpu()  # pyright: ignore[reportOptionalMemberAccess]
    return Usage(
        own=base,
        shuffled=shuffled,
        prior=None if prior is None else _distortion(task, x, q, prior),
        average=_distortion(task, x, q, average[:1]) if gaussian else None,
        units=_by_unit(task, x, q, own, other, base) if gaussian and by_unit else None,
        places=dict(_by_place(task, x, q, own, other)),
        blocks=_by_block(task, x, q, own, other, base) if gaussian and by_unit and own.ndim > 3 else None,
        conditional=conditional(first.p),
    )


def law_of(rows: Rows, at: Tensor, x: Batch) -> Distribution:
    """The posteriors of some of the items, where their batch is."""
    device = (x if isinstance(x, Tensor) else x[0]).device
    law = operations.take(rows.law, at)
    return operations.rebuild(law, {name: value.to(device) for name, value in operations.parameters(law).items()})


def conditional(prior: Distribution | None) -> bool:
    """Whether items have priors of their own."""
    return prior is not None and bool(prior.batch_shape)


def euclidean(law: Any) -> bool:
    """Whether units of z can be averaged and exchanged one by one."""
    return isinstance(law, Independent) and isinstance(law.base_dist, Normal)


def _asked(task: _Task, x: Batch, q: Any, z: Tensor) -> Bound:
    like = next(iter(operations.parameters(q).values()))
    with seeded(task.seed, "usage", device=like.device):
        return ask(task.model, x, operations.fixed(q, z.to(like.device)), len(z))


def _distortion(task: _Task, x: Batch, q: Any, z: Tensor) -> Tensor:
    """The mean over the draws, a draw at a time, as a decoder's memory may not hold all."""
    return torch.stack([_asked(task, x, q, one.unsqueeze(0)).distortion.cpu().double() for one in z]).mean(0)


def _of_prior(task: _Task, p: Distribution, at: Tensor, own: Tensor, device: torch.device) -> Tensor:
    shape = (len(own),) if p.batch_shape else own.shape[:2]
    with seeded(task.seed, "prior", int(at[0]), device=device):
        return p.sample(torch.Size(shape))


def _by_unit(task: _Task, x: Batch, q: Any, own: Tensor, other: Tensor, base: Tensor) -> Tensor:
    found = base.new_full((len(base), own.shape[2]), torch.nan)
    for unit in _largest(task.rows, own.shape[2:]):
        mixed = own.clone()
        mixed[:, :, unit] = other[:, :, unit]
        found[:, unit] = _distortion(task, x, q, mixed) - base
    return found


def _by_block(task: _Task, x: Batch, q: Any, own: Tensor, other: Tensor, base: Tensor) -> Tensor:
    found = []
    for within in blocks(own.shape[3:]):
        mixed = own.clone()
        mixed[:, :, :, *within] = other[:, :, :, *within]
        found.append(_distortion(task, x, q, mixed) - base)
    return torch.stack(found, 1)


def block(positions: Sequence[int]) -> int:
    """How many positions a block is long in each dimension: 1, or the power of 2 that makes at most 64 blocks."""
    side = 1
    while math.prod(-(-length // side) for length in positions) > UNITS:
        side *= 2
    return side


def blocks(positions: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Where each block of positions is, in the order of rows."""
    side = block(positions)
    return product(*([slice(first, first + side) for first in range(0, length, side)] for length in positions))


def _largest(rows: Rows, shape: Sequence[int]) -> list[int]:
    """The units, or channels, of the largest rates."""
    rates = rows.kl.mean(0)
    if len(rates) != torch.Size(shape).numel():
        return list(range(min(shape[0], UNITS)))
    return rates.view(shape[0], -1).sum(1).argsort(descending=True)[:UNITS].tolist()


def _by_place(task: _Task, x: Batch, q: Any, own: Tensor, other: Tensor) -> Iterator[tuple[Place, Tensor]]:
    if "only" not in dir(x):
        return
    for first, end in zip(PLACES, (*PLACES[1:], None), strict=True):
        kept = torch.zeros_like(x.target, dtype=torch.bool)
        kept[:, first:end] = x.target[:, first:end] != PAD
        counts = kept.sum(1).cpu()
        if bool(counts.any()):
            part = x.only(kept)
            more = _distortion(task, part, q, other[:1]) - _distortion(task, part, q, own[:1])
            yield (first + 1, end), (more / counts)[counts > 0]


def _joined(parts: list[Usage]) -> Usage:
    columns: dict[str, Any] = {}
    for name in ("own", "shuffled", "prior", "average", "units", "blocks"):
        values = [value for part in parts if (value := getattr(part, name)) is not None]
        columns[name] = torch.cat(values) if values else None
    places: dict[Place, list[Tensor]] = {}
    for part in parts:
        for place, values in part.places.items():
            places.setdefault(place, []).append(values)
    joined = {place: torch.cat(values) for place, values in places.items()}
    return Usage(**columns, places=joined, conditional=any(part.conditional for part in parts))
