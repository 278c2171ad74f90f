"""Lines of text as a person reads and writes them, where a model knows token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from uncollapse import decoding
from uncollapse.bound import Source
from uncollapse.data import batches
from uncollapse.data.batches import Batched, in_order
from uncollapse.data.kinds import ITEMS, How
from uncollapse.data.sequences import as_text
from uncollapse.data.text import read_lines
from uncollapse.data.vocabulary import UNK, Vocabulary
from uncollapse.errors import InputError, unknown

MAX_LENGTH = 100  # tokens, where the longest training item is not known
TEMPERATURE, WIDTH = 1.0, 5  # where nobody says them


@dataclass(frozen=True)
class Sentences:
    """Encodes lines with a vocabulary, and decodes what a model makes of its latent variables.

    Arguments:
        vocabulary: Of the training.
        max_length: The most tokens that are written, `</s>` included, where nobody says how many.
    """

    vocabulary: Vocabulary
    max_length: int = MAX_LENGTH

    ways: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "greedy": ("max_length",),
        "sample": ("temperature", "max_length"),
        "beam": ("width", "max_length"),
    }
    reads: ClassVar[tuple[str, ...]] = ("labels",)
    unit: ClassVar[str] = "texts"

    @classmethod
    def restored(cls, about: Any) -> Sentences:
        """From what `Texts.about` says.

        Raises:
            InputError: where it holds no vocabulary.
        """
        match about:
            case {"words": [str(), *_] as words, "tokens": ("words" | "characters") as tokens, **rest}:
                longest = rest.get("longest", MAX_LENGTH - 1)
                if all(isinstance(word, str) for word in words) and type(longest) is int and longest > 0:
                    return cls(Vocabulary(tuple(words), tokens), longest + 1)
        raise InputError("it holds no vocabulary (`words` and `tokens`).")

    @property
    def facts(self) -> dict[str, Any]:
        """The number of types, and the vocabulary."""
        return {"vocabulary": len(self.vocabulary), "words": self.vocabulary}

    def read(self, path: Path, layout: Mapping[str, Any]) -> list[str]:
        """The items of a text file; see `reading.blocks` for the entry `labels` of `layout`."""
        return read_lines(path, **layout)

    def item(self, said: str) -> str:
        """The line itself."""
        return said

    def together(self, first: str, second: str) -> list[str]:
        """Both lines, each of which must hold a known token."""
        for line in (first, second):
            self._check_known([line])
        return [first, second]

    def source(self, items: Any, batch_size: int) -> Source:
        """Lines of text, or whatever `batches.source` takes."""
        if isinstance(items, list | tuple) and items and isinstance(items[0], str):
            ids = self._check_known(items)
            return Batched(lambda which: as_text(ids[i] for i in which.tolist()), in_order(len(ids), batch_size))
        return batches.source(items, batch_size)

    def write(self, decoder: nn.Module, z: Tensor, how: How) -> list[str]:
        """A line for each z (N, d), without `<unk>`."""
        most, never = self.max_length if how.max_length is None else how.max_length, decoding.SPOKEN
        width = how.width or WIDTH
        ways = {
            "greedy": lambda z: decoding.greedy(decoder, z, most, never),
            "sample": lambda z: decoding.sample(decoder, z, most, how.temperature or TEMPERATURE, never),
            "beam": lambda z: decoding.beam(decoder, z, most, width, never),
        }
        way = how.way or next(iter(ways))
        if way not in ways:
            raise unknown("way of decoding", way, ways)
        # A wide beam is many texts.
        size = max(1, WIDTH * ITEMS // max(WIDTH, width)) if way == "beam" else ITEMS
        return [self.vocabulary.decode(ids) for part in z.split(size) for ids in ways[way](part)]

    def lines(self, written: list[str]) -> list[str]:
        """The texts."""
        return written

    def plain(self, written: list[str]) -> list[str]:
        """The texts."""
        return written

    def _check_known(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of some lines; refused where no token of any is known, as what they come to would say nothing."""
        words = self.vocabulary
        ids = [words.encode(line) for line in lines]
        if all(token == UNK for line in ids for token in line[1:-1]):
            known = " ".join(words.words[:8])
            raise InputError(
                f"{_quoted(lines)} holds none of the {len(words.words)} {words.tokens} that the model knows, such as "
                f"`{known}`: give a text with some of them."
            )
        return ids


def _quoted(lines: Sequence[str]) -> str:
    first = f"`{lines[0][:80]}`" if lines[0].strip() else "an empty text"
    return first if len(lines) == 1 else f"a text of {len(lines)} items that begins with {first}"
