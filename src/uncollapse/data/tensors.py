"""Items that are tensors, for models that read nothing else: people's own, and those of vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.bound import Source
from uncollapse.data import batches
from uncollapse.data.kinds import ITEMS, How
from uncollapse.errors import InputError, unknown

WAYS: Mapping[str, tuple[str, ...]] = {"mean": (), "sample": ()}


def written(decoder: nn.Module, z: Tensor, how: How) -> Tensor:
    """The means of p(x | z) for z (N, ...), or draws from it, with shape (N, ...).

    A decoder that draws pixel by pixel does so where nobody says how: its "mean", the more probable value of each pixel
    in turn, hardly ever leaves the ground of a drawing.

    Raises:
        InputError: for another way, a law without means, and a decoder that looks at what it is to write.
    """
    paints = "paint" in dir(decoder)
    way = how.way or ("sample" if paints else next(iter(WAYS)))
    if way not in WAYS:
        raise unknown("way of writing tensors", way, WAYS)
    if paints:
        return torch.cat([_painted(decoder, part, way) for part in z.split(ITEMS)])
    laws = (_law(decoder, part.unsqueeze(0)) for part in z.split(ITEMS))
    return torch.cat([(law.sample() if way == "sample" else _mean(law)).squeeze(0) for law in laws])


def _painted(decoder: Any, z: Tensor, way: str) -> Tensor:
    even = None if way == "sample" else z.new_full((len(z), *decoder.shape), 0.5)
    return decoder.paint(z, even)


def _law(decoder: nn.Module, z: Tensor) -> Distribution:
    try:
        return decoder(z, None)
    except (TypeError, AttributeError) as error:
        raise InputError(
            f"`{type(decoder).__name__}` cannot write from z alone: {error}. A decoder that looks at the elements "
            "before each one writes them one at a time: see `uncollapse.decoding` for tokens."
        ) from error


def _mean(law: Distribution) -> Tensor:
    try:
        mean = law.mean
    except NotImplementedError:
        mean = torch.tensor(torch.nan)
    if mean.isnan().any():
        raise InputError(f"the law `{type(law).__name__}` of this decoder has no mean: ask for `sample`.")
    return mean


@dataclass(frozen=True)
class Tensors:
    """Takes what `batches.source` takes, and writes tensors; it has no file to read."""

    ways: ClassVar[Mapping[str, tuple[str, ...]]] = WAYS
    reads: ClassVar[tuple[str, ...]] = ()
    unit: ClassVar[str] = "tensors"

    @property
    def facts(self) -> dict[str, Any]:
        """None: only its owner knows what such a model reads."""
        return {}

    def read(self, path: Path, layout: Mapping[str, Any]) -> Tensor:
        """Refused, as no file says how such a model reads it."""
        raise InputError(f"`{path}` cannot be read for a network of your own: give tensors.")

    def item(self, said: str) -> Tensor:
        """Refused, as `read`."""
        raise InputError(f"`{said}` cannot be read for a network of your own: give tensors.")

    def together(self, first: Any, second: Any) -> Tensor:
        """Both items in one tensor."""
        try:
            return torch.stack([torch.as_tensor(one, dtype=torch.get_default_dtype()) for one in (first, second)])
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"two items make no tensor: {error}. Give two tensors of one shape.") from None

    def source(self, items: Any, batch_size: int) -> Source:
        """Items as batches."""
        return batches.source(items, batch_size)

    def write(self, decoder: nn.Module, z: Tensor, how: How) -> Tensor:
        """Means or draws."""
        return written(decoder, z, how)

    def lines(self, written: Tensor) -> list[str]:
        """The numbers of each item, with commas between them."""
        return [",".join(f"{number:.9g}" for number in row) for row in written.flatten(1).tolist()]

    def plain(self, written: Tensor) -> list[Any]:
        """The numbers."""
        return written.tolist()
