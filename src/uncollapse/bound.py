r"""The record of one pass: everything it says about the evidence lower bound.

.. math:: \log p(x) \ge \mathbb{E}_{q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x) \| p(z))

Everything else in the library (terms, metrics, reports) is a function of this record.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.distributions import Distribution

from uncollapse.errors import InputError

#: A tensor (B, ...), or a NamedTuple of tensors that share B, with properties `target` and `seen`
#: and, where an item is made of symbols, `symbols` (B,): how many of them are predicted.
Batch: TypeAlias = Any


class Labelled(NamedTuple):
    """Items with a label each, which comes back as the extra `label` of their bound.

    What else it is to a model, the model says (`VAE`, `labels`): by default it is shown the items alone.
    """

    x: Tensor
    """(B, ...)."""
    label: Tensor
    """(B, ...)."""

    @property
    def target(self) -> Tensor:
        return self.x

    @property
    def seen(self) -> Tensor:
        return self.x


class Given(NamedTuple):
    """Labelled items as a model sees them whose label is known beforehand."""

    x: Tensor
    label: Tensor

    @property
    def target(self) -> Tensor:
        return self.x

    @property
    def seen(self) -> Given:
        """Items and labels."""
        return self

    @property
    def given(self) -> Tensor:
        return self.label


class ToTell(NamedTuple):
    """Labelled items as a model sees them that is to tell the label."""

    x: Tensor
    label: Tensor

    @property
    def target(self) -> Tensor:
        return self.label

    @property
    def seen(self) -> Tensor:
        return self.x


class Source(Protocol):
    """A sized, indexable source of batches: what exact resume needs."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Batch: ...


class Bound(NamedTuple):
    """What one pass of a model says about a batch, with S samples, B items and K groups of latent units.

    All quantities are in nats and summed over the item.
    """

    x: Batch
    z: Tensor
    """(S, B, ...), drawn from q."""
    log_likelihood: Tensor
    """(S, B), log p(x | z)."""
    log_q: Tensor
    """(S, B), log q(z | x) at that z."""
    log_p: Tensor
    """(S, B), log p(z); nan where the prior has no density."""
    kl: Tensor
    """(B, K), KL(q || p) by group of units; K = 1 where it does not split, and 0 where the prior has no density."""
    q: Distribution | None
    """The posterior, batch shape (B,); None where it depends on the path."""
    p: Distribution | None
    """The prior, batch shape () or (B,)."""
    extras: dict[str, Tensor] = {}  # noqa: RUF012  (never written to)
    """Per-item quantities, each (B, ...), that a model offers to terms."""

    @property
    def distortion(self) -> Tensor:
        """(B,), the mean of -log p(x | z) over the samples."""
        return -(self.log_likelihood[0] if len(self.log_likelihood) == 1 else self.log_likelihood.mean(0))

    @property
    def rate(self) -> Tensor:
        """(B,), KL(q || p) summed over the groups."""
        return self.kl.sum(-1)

    @property
    def log_weights(self) -> Tensor:
        """(S, B), the log importance weights log p(x | z) + log p(z) - log q(z | x)."""
        return self.log_likelihood + self.log_p - self.log_q


def checked(found: Any, x: Batch, samples: int | None = None) -> Bound:
    """What a model gave for a batch, if it is a bound on it.

    Arguments:
        found: What it gave.
        x: The batch.
        samples: How many it was asked for; None where that was left to the model.

    Raises:
        InputError: where it is none, or not of these items and samples.
    """
    if not isinstance(found, Bound):
        raise InputError(f"the model must return a `Bound`, and returned `{type(found).__name__}`: see `Bound`.")
    first = found.log_likelihood
    drawn = samples or (len(first) if isinstance(first, Tensor) and first.ndim else 1)
    for name in ("log_likelihood", "log_q", "log_p"):
        _check_shape(name, getattr(found, name), (drawn, size(x)))
    groups = found.kl.shape[-1] if isinstance(found.kl, Tensor) and found.kl.ndim else 1
    _check_shape("kl", found.kl, (size(x), groups))
    for name, value in found.extras.items():
        if not isinstance(value, Tensor) or value.shape[:1] != (size(x),):
            has = f"the shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type `{type(value).__name__}`"
            raise InputError(
                f"the model's extra `{name}` has {has}: give a tensor of quantities by item, ({size(x)}, ...)."
            )
    return found


def _check_shape(name: str, value: Any, shape: tuple[int, int]) -> None:
    there = f"has the shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"is a `{type(value).__name__}`"
    if not isinstance(value, Tensor) or value.shape != shape:
        raise InputError(
            f"the model's `{name}` {there}, and should have the shape {shape}: a law over the units of an item is one "
            "event (`torch.distributions.Independent(law, 1)`), and z has (samples, items) first."
        )


def is_namedtuple(x: Any) -> bool:
    return isinstance(x, tuple) and "_fields" in dir(x)


def checked_batch(x: Any) -> Any:
    """A batch, if it is one: a tensor, or a NamedTuple of tensors, with the items first.

    Raises:
        InputError: where it is something else, or has no items, or parts with different numbers of them.
    """
    parts = [x] if isinstance(x, Tensor) else list(x) if is_namedtuple(x) else []
    if not parts or not all(isinstance(part, Tensor) and part.ndim for part in parts):
        names = f" with `{'`, `'.join(map(str, x))}`" if isinstance(x, dict) else ""
        raise InputError(
            f"a batch must be a tensor (B, ...) or a NamedTuple of tensors, and is a `{type(x).__name__}`{names}: make "
            "it one, for a dictionary as in `Batch(**x)` with a `typing.NamedTuple` of its names, for items and their "
            "labels as in `uncollapse.Labelled(x, y)`."
        )
    if len({len(part) for part in parts}) > 1 or not len(parts[0]):
        sizes = ", ".join(str(tuple(part.shape)) for part in parts)
        raise InputError(f"a batch has no items, or its tensors not the same number of them: {sizes}.")
    return x


def given(x: Batch) -> Any:
    """What a batch is conditioned on, such as classes.

    Raises:
        InputError: where it names nothing as `given`.
    """
    if "given" not in dir(x):
        raise InputError(
            f"a batch of type `{type(x).__name__}` says nothing that is `given`, which a conditional prior asks for: "
            "give a NamedTuple of tensors with it as a field or a property, beside `target` and `seen`."
        )
    return x.given


def _part(x: Batch, name: str) -> Any:
    if isinstance(x, Tensor):
        return x
    if name not in dir(x):
        raise InputError(
            f"a batch of type `{type(x).__name__}` has no `{name}`: give a tensor, or a NamedTuple of tensors "
            "with the properties `target` (what is scored) and `seen` (what the decoder may look at)."
        )
    return getattr(x, name)


def target(x: Batch) -> Any:
    """What the decoder's law scores: the batch itself where it is a tensor."""
    return _part(x, "target")


def seen(x: Batch) -> Any:
    """What the decoder may look at (teacher forcing): the batch itself where it is a tensor."""
    return _part(x, "seen")


def symbols(x: Batch) -> Tensor | None:
    """How many symbols each item predicts, with shape (B,), or None where an item is not made of symbols."""
    # A tensor has none, and its names take long to list.
    return x.symbols if not isinstance(x, Tensor) and "symbols" in dir(x) else None


def thinned(x: Batch, share: float) -> tuple[Batch, float]:
    """The batch with a random share of its symbols left to predict, and how much more each of those counts.

    Raises:
        InputError: where the batch cannot be thinned.
    """
    if "thinned" not in dir(x):
        raise InputError(
            f"a batch of type `{type(x).__name__}` cannot leave symbols out of its target: score all of them "
            "(`share` 1), or give it a method `thinned(share)`, as `data.text.Text` has."
        )
    return x.thinned(share)


def move(x: Batch, device: torch.device, dtype: torch.dtype | None = None) -> Batch:
    """A batch on a device; its floating numbers of another type, where one is given."""
    if isinstance(x, Tensor):
        return x.to(device, dtype if x.is_floating_point() else None)
    return type(x)(*(move(part, device, dtype) for part in x))


def items(x: Batch, kept: slice | Tensor) -> Batch:
    """Some items of a batch."""
    return x[kept] if isinstance(x, Tensor) else type(x)(*(part[kept] for part in x))


def size(x: Batch) -> int:
    """How many items a batch holds."""
    return len(x) if isinstance(x, Tensor) else len(x[0])


def device(x: Batch) -> torch.device:
    """Where a batch is."""
    return (x if isinstance(x, Tensor) else x[0]).device
