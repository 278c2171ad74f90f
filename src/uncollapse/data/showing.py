"""Pictures as a person reads and writes them, where a model knows numbers from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor, nn

from uncollapse.bound import Source
from uncollapse.data import batches, png
from uncollapse.data.batches import Batched, in_order
from uncollapse.data.kinds import How
from uncollapse.data.pictures import as_pictures, read_pictures
from uncollapse.data.tensors import WAYS, written
from uncollapse.errors import InputError
from uncollapse.randomness import generator

Binarise: TypeAlias = Literal["dynamic", "fixed", "threshold"]
#: Pictures whose pixels are drawn at a time.
_BLOCK = 1000


@dataclass(frozen=True)
class Pictures:
    """What the pixels of a model's pictures are.

    Arguments:
        shape: (C, H, W).
        binarise: How intensities become zeros and ones; see `data.images.Images`.
        seed: Of what is drawn once.
        top: The largest of the whole numbers that intensities are.
        own: The pictures that go by a number alone, as the digits of scikit-learn do.
        classes: The names of the classes that labels are of; none without labels.
    """

    shape: tuple[int, int, int]
    binarise: Binarise | None
    seed: int = 0
    top: int = 255
    own: Callable[[], np.ndarray] | None = None
    classes: tuple[str, ...] = ()

    ways: ClassVar[Mapping[str, tuple[str, ...]]] = WAYS
    reads: ClassVar[tuple[str, ...]] = ()
    unit: ClassVar[str] = "images"

    @classmethod
    def restored(cls, about: Any, own: Callable[[], np.ndarray] | None = None) -> Pictures:
        """From what `about` says.

        Raises:
            InputError: where it is something else.
        """
        match about:
            case {"shape": [int(), int(), int()] as shape, "binarise": how, "seed": int() as seed, "top": int() as top}:
                classes = about.get("classes", [])
                named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
                if min(shape) > 0 and top > 0 and how in (None, *get_args(Binarise)) and named:
                    return cls((shape[0], shape[1], shape[2]), how, seed, top, own, tuple(classes))
        raise InputError("it does not say what the pictures are (`shape`, `binarise`, `seed`, `top`).")

    def about(self) -> dict[str, Any]:
        """What a run keeps of it, as JSON."""
        said = {"shape": list(self.shape), "binarise": self.binarise, "seed": self.seed, "top": self.top}
        return said | ({"classes": list(self.classes)} if self.classes else {})

    @property
    def facts(self) -> dict[str, Any]:
        """The shape of an item, how many values a pixel can have, and, where there are labels, of how many classes."""
        found = {"shape": self.shape, "levels": self.top + 1 if self.binarise is None else 2}
        return found | ({"label_classes": len(self.classes)} if self.classes else {})

    # From pictures (N, C, H, W) to what a model reads.

    def settled(self, pictures: np.ndarray) -> np.ndarray:
        """The levels of all pixels as they are measured, uint8; zeros and ones where they are binarised.

        What is drawn depends on the seed and on a picture's place among them.
        """
        if self.binarise is None:
            return pictures if pictures.dtype == np.uint8 else np.rint(pictures * self.top).astype(np.uint8)
        draws, found = generator(self.seed, "binarise"), np.empty(pictures.shape, np.uint8)
        for start in range(0, len(pictures), _BLOCK):
            one = self.intensities(pictures[start : start + _BLOCK])
            cut = 0.5 if self.binarise == "threshold" else torch.rand(one.shape, generator=draws)
            found[start : start + _BLOCK] = (one > cut).numpy()
        return found

    def intensities(self, pictures: np.ndarray) -> Tensor:
        """Numbers from 0 to 1 of the same shape."""
        found = torch.from_numpy(np.ascontiguousarray(pictures)).to(torch.get_default_dtype())
        return found / self.top if pictures.dtype == np.uint8 else found

    def values(self, settled: np.ndarray) -> Tensor:
        """What a model reads of pixels that `settled` gave."""
        found = torch.from_numpy(np.ascontiguousarray(settled)).to(torch.get_default_dtype())
        return found if self.binarise else found / self.top

    # What an `Interface` does.

    def read(self, path: Path, layout: Mapping[str, Any]) -> np.ndarray:
        """The pictures of a file; see `pictures.read_pictures`."""
        return self._checked(read_pictures(path, self.top), f"`{path}`")

    def item(self, said: str) -> np.ndarray:
        """One picture: an image file; a place in a file of several, as "test.npy:3"; or a data URI of `lines`.

        Of the digits of scikit-learn a number alone is the place of one.
        """
        if said.startswith(png.URI):
            return self._from_line(said)
        if not said.strip():
            raise InputError(
                "an empty name is of no picture: give an image file, or a place in a file of several, FILE:0."
            )
        file, colon, place = said.rpartition(":")
        if not place.isdecimal() or len(place) > 9:
            file, place = said, "0"
        elif not colon and self.own is None:
            raise InputError(f"`{said}` is a number, and no picture goes by one alone: give FILE:{said}.")
        there = self.read(Path(file), {}) if file or self.own is None else self.own()
        if int(place) >= len(there):
            raise InputError(f"`{said[:80]}` is not there: there are {len(there)} pictures, counted from 0.")
        return there[int(place)]

    def together(self, first: Any, second: Any) -> np.ndarray:
        """Both pictures in one array."""
        both = [as_pictures(np.asarray(one)[None], "a picture", self.top) for one in (first, second)]
        return np.stack([self._checked(one, "a picture")[0] for one in both])

    def source(self, items: Any, batch_size: int) -> Source:
        """Pictures as an array or a tensor, in batches, binarised as those of validation; or batches already made."""
        if not isinstance(items, Tensor | np.ndarray):
            return batches.source(items, batch_size)
        array = items.detach().cpu().numpy() if isinstance(items, Tensor) else items
        where = f"an array of shape {array.shape}"
        pixels = self.settled(self._checked(as_pictures(array, where, self.top), where))
        return Batched(lambda ids: self.values(pixels[ids.numpy()]), in_order(len(pixels), batch_size))

    def write(self, decoder: nn.Module, z: Tensor, how: How) -> Tensor:
        """Means or draws with shape (N, C, H, W), from 0 to 1."""
        return written(decoder, z, how)

    def lines(self, written: Tensor) -> list[str]:
        """A data URI each, which browsers show."""
        return [png.in_a_line(pixels) for pixels in self.pixels(written)]

    def plain(self, written: Tensor) -> list[Any]:
        """The numbers from 0 to 1, channel by channel and row by row."""
        return written.tolist()

    def drawn(self, written: Tensor, columns: int | None = None) -> bytes:
        """A PNG file of all pictures in a grid; about as many rows as columns where nobody says how many."""
        pixels = self.pixels(written)
        return png.encoded(png.grid(pixels, columns or math.ceil(len(pixels) ** 0.5)))

    def pixels(self, written: Tensor) -> np.ndarray:
        """Numbers from 0 to 1 as bytes, with shape (N, H, W, C)."""
        levels = (written.float().clamp(0, 1) * 255).round().to(torch.uint8)
        return levels.movedim(1, -1).cpu().numpy()

    def beside(self, items: np.ndarray, written: Tensor) -> tuple[Tensor, int]:
        """Each item, as a model reads it, before what was written of it, and how many columns they need."""
        read = self.values(self.settled(items)).to(written)
        return torch.stack([read, written], 1).flatten(0, 1), 2 * math.ceil((len(read) / 2) ** 0.5)

    def _from_line(self, said: str) -> np.ndarray:
        try:
            pixels = png.from_a_line(said)
        except ValueError:
            raise InputError(f"`{said[:40]}...` is no data URI as `generate` writes it: give a file.") from None
        scaled = pixels.transpose(2, 0, 1) / np.float32(255)
        return self._checked(scaled[None].astype(np.float32), "the picture of a data URI")[0]

    def _checked(self, pictures: np.ndarray, what: str) -> np.ndarray:
        if pictures.shape[1:] != self.shape:
            here, there = (f"{h} x {w} in {c} channel{'s' * (c > 1)}" for c, h, w in (pictures.shape[1:], self.shape))
            raise InputError(f"{what} has pictures of {here}, and the model was trained on {there}: give such.")
        return pictures
