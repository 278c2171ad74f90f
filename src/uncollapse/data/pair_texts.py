"""Pairs of sequences as a person reads and writes them, where a model knows ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from uncollapse.bound import Source
from uncollapse.data import batches
from uncollapse.data.batches import Batched, in_order
from uncollapse.data.kinds import ITEMS, How
from uncollapse.data.pairs import Condition, Pair, Row, as_pair, read_pairs, split_tags
from uncollapse.data.sentences import MAX_LENGTH, WIDTH, Sentences
from uncollapse.data.vocabulary import UNK, Vocabulary
from uncollapse.decoding import SPOKEN, Conditioned, ranked
from uncollapse.errors import InputError, quoted, unknown

Tags = tuple[str, ...]


@dataclass(frozen=True)
class PairTexts:
    """Encodes sources, tags and targets, and decodes what a model makes of its latent variables under tags.

    Arguments:
        vocabulary: Of sources and targets.
        tags: The names of the tags, in the order of their numbers.
        longest: The tokens of the longest training target, without markers.
        sets: The sets of tags of the training pairs, each with how many have it.
    """

    vocabulary: Vocabulary
    tags: Tags
    longest: int = MAX_LENGTH
    sets: tuple[tuple[Tags, int], ...] = (((), 1),)

    ways: ClassVar[Mapping[str, tuple[str, ...]]] = Sentences.ways
    reads: ClassVar[tuple[str, ...]] = ()
    unit: ClassVar[str] = "texts"

    @classmethod
    def restored(cls, about: Any) -> PairTexts:
        """From what `about` says.

        Raises:
            InputError: where it is something else.
        """
        match about:
            case {"words": [str(), *_], "tags": [*tags], "sets": [_, *_] as sets, "longest": int() as longest}:
                known = all(isinstance(tag, str) for tag in tags) and longest > 0
                if known and all(_is_set(one, len(tags)) for one in sets):
                    named = tuple((tuple(tags[i] for i in numbers), count) for numbers, count in sets)
                    return cls(Sentences.restored(about).vocabulary, tuple(tags), longest, named)
        raise InputError("it does not say what the pairs are (`words`, `tokens`, `tags`, `sets`, `longest`).")

    def about(self) -> dict[str, Any]:
        """What a run keeps of it, as JSON."""
        said = {"tokens": self.vocabulary.tokens, "words": list(self.vocabulary.words), "longest": self.longest}
        return {**said, "tags": list(self.tags), "sets": [[self.numbers(tags), count] for tags, count in self.sets]}

    @property
    def facts(self) -> dict[str, Any]:
        """The number of types, the vocabulary, and the number of tags."""
        return {"vocabulary": len(self.vocabulary), "words": self.vocabulary, "tags": len(self.tags)}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {tag: place for place, tag in enumerate(self.tags)}

    def numbers(self, tags: Tags) -> list[int]:
        """The numbers of some tags; those that are not known have none."""
        return [self._places[tag] for tag in tags if tag in self._places]

    def batch(self, sources: Sequence[list[int]], tags: Sequence[list[int]], targets: Sequence[list[int]]) -> Pair:
        """A batch of ids with their markers, and the numbers of tags."""
        return as_pair(sources, tags, targets, len(self.tags))

    # What an `Interface` does.

    def read(self, path: Path, layout: Mapping[str, Any]) -> list[Row]:
        """The pairs of a file, whose targets may be missing; see `pairs.read_pairs`."""
        return read_pairs(path, whole=False, tagged=bool(self.tags))

    def item(self, said: str) -> Row | str:
        """A source with its tags, which are behind a tab; the source alone where there are none.

        Raises:
            InputError: for what has no known token, and a tag that there is not.
        """
        source, _, tags = said.partition("\t")
        self._check_known([source.strip()])
        return Row(source.strip(), self.told(tags)) if tags else source.strip()

    def told(self, said: str) -> Tags:
        """The tags that a person says, such as "pos=N,case=GEN".

        Raises:
            InputError: where there are none, or not these.
        """
        if not self.tags:
            raise InputError(f"this model was trained on pairs without tags, and is told {quoted(said)}: leave it out.")
        tags = split_tags(said)
        for tag in tags:
            if tag not in self._places:
                raise unknown("tag", tag, self.tags)
        return tags

    def together(self, first: Row | str, second: Row | str) -> list[Row | str]:
        """Both pairs, or sources."""
        return [one if isinstance(one, Row) else self.item(one) for one in (first, second)]

    def source(self, items: Any, batch_size: int) -> Source:
        """Pairs, sources alone, or whatever `batches.source` takes."""
        if not _are_rows(items):
            return batches.source(items, batch_size)
        rows = [row if isinstance(row, Row) else Row(row) for row in items]
        self._check_known([row.source for row in rows])
        encode = self.vocabulary.encode

        def make(which: Tensor) -> Pair:
            some = [rows[i] for i in which.tolist()]
            tags = [self.numbers(row.tags) for row in some]
            # Where the target is to be told there is none to read.
            return self.batch([encode(row.source) for row in some], tags, [encode(row.target or "") for row in some])

        return Batched(make, in_order(len(rows), batch_size))

    def conditioned(self, decoder: nn.Module, count: int, items: Any = None, tags: Tags | None = None) -> Conditioned:
        """A decoder that writes from z alone, told the tags and the sources of so many items.

        Arguments:
            decoder: The decoder.
            count: How many are to be written.
            items: What they are made of, one for each, or some of which the first is meant; None for nothing.
            tags: Of all of them; of each pair its own where they are not given, and of a source alone, or of nothing,
                those of a training pair at random.
        """
        rows: list[Row | str] = [""] * count
        if _are_rows(items):
            rows = [*items] if len(items) == count else [items[0]] * count
        each = [
            row if isinstance(row, Row) else Row(row, drawn)
            for row, drawn in zip(rows, self._draws(count), strict=True)
        ]
        chosen = [self.numbers(row.tags if tags is None else tags) for row in each]
        found = self.batch([self.vocabulary.encode(row.source) for row in each], chosen, [[0]] * count)
        place = next(decoder.parameters()).device
        return Conditioned(decoder, Condition(found.tags.to(place), found.source.to(place)))

    def _draws(self, count: int) -> list[Tags]:
        weights = torch.tensor([float(often) for _, often in self.sets])
        return [self.sets[i][0] for i in weights.multinomial(count, replacement=True).tolist()]

    def write(self, decoder: Conditioned, z: Tensor, how: How) -> list[str]:
        """A text for each z (N, d)."""
        sentences = Sentences(self.vocabulary, self.longest + 1)
        parts = enumerate(z.split(ITEMS))
        return [
            text
            for k, part in parts
            for text in sentences.write(decoder.only(_part(k, part)), part, how)  # pyright: ignore[reportArgumentType]
        ]

    def ranked(self, decoder: Conditioned, z: Tensor, width: int = WIDTH) -> list[list[str]]:
        """The texts that beam search finds for each z (N, d), the most probable first, each once; none is empty."""
        found: list[list[str]] = []
        step = max(1, WIDTH * ITEMS // max(WIDTH, width))
        for k, part in enumerate(z.split(step)):
            some = ranked(decoder.only(_part(k, part, step)), part, self.longest + 1, width, SPOKEN)
            written = ([self.vocabulary.decode(one.tokens) for one in beam] for beam in some)
            found += [list(dict.fromkeys(filter(None, texts))) for texts in written]
        return found

    def lines(self, written: list[str]) -> list[str]:
        """The texts."""
        return written

    def plain(self, written: list[str]) -> list[str]:
        """The texts."""
        return written

    def _check_known(self, sources: Sequence[str]) -> None:
        encode = self.vocabulary.encode
        for source in sources:
            if all(token == UNK for token in encode(source)[1:-1]):
                raise InputError(
                    f"{quoted(source)} holds none of the {len(self.vocabulary.words)} {self.vocabulary.tokens} that "
                    "the model knows: give another source."
                )


def _part(k: int, part: Tensor, step: int = ITEMS) -> slice:
    return slice(k * step, k * step + len(part))


def _are_rows(items: Any) -> bool:
    return isinstance(items, list | tuple) and bool(items) and isinstance(items[0], Row | str)


def _is_set(one: Any, tags: int) -> bool:
    match one:
        case [[*numbers], int() as count]:
            return count > 0 and all(isinstance(i, int) and 0 <= i < tags for i in numbers)
    return False
