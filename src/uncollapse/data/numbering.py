"""From the items of a text to numbered sequences in three splits, a block at a time.

The text is read once. Every token gets a number by its first appearance; once all items are known, and with them the
splits and the vocabulary, the numbers become the vocabulary's ids. Both are written to files, which may be in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import BinaryIO

import numpy as np

from uncollapse.data.reading import Block, Tell
from uncollapse.data.splits import SPLITS
from uncollapse.data.vocabulary import END, MARKERS, START, UNK, Vocabulary, tokenizer

_TRAIN, _DROPPED = 0, len(SPLITS)
_NUMBER = np.dtype("<u4")


class Numbered:
    """Tokens under provisional numbers, in the order of a text.

    Arguments:
        file: Where they are written.
        tokens: "words" or "characters".
        tell: Hears of every pass over them.
    """

    def __init__(self, file: BinaryIO, tokens: str, tell: Tell | None = None) -> None:
        self.file, self.cut, self.tell = file, tokenizer(tokens), tell
        self.types: defaultdict[str, int] = defaultdict()
        self.types.default_factory = self.types.__len__
        self.written: list[np.ndarray] = []
        """The length of every item in tokens, an array a block."""
        self.longest: list[tuple[int, int]] = []
        """Of every source, the length of its longest item and its line."""

    def add(self, blocks: Iterable[Block], limit: int | None = None) -> int:
        """Takes in a source, or no more than its first items, and answers how many it took."""
        taken, longest = 0, (0, 0)
        for block in blocks:
            items = block.items[: None if limit is None else max(0, limit - taken)]
            if items:
                lengths = self._write(items)
                at = int(lengths.argmax())
                longest = max(longest, (int(lengths[at]), block.numbers[at]), key=lambda one: one[0])
            taken += len(items)
            if limit is not None and taken >= limit:
                break
        self.longest.append(longest)
        return taken

    def _write(self, items: list[str]) -> np.ndarray:
        cut = [self.cut(item) for item in items]
        lengths = np.fromiter(map(len, cut), np.int32, len(cut))
        numbers = map(self.types.__getitem__, chain.from_iterable(cut))
        self.file.write(np.fromiter(numbers, _NUMBER, int(lengths.sum())).data)
        self.written.append(lengths)
        return lengths

    @property
    def lengths(self) -> np.ndarray:
        """The length of every item in tokens."""
        return np.concatenate([np.empty(0, np.int32), *self.written])

    def blocks(self, splits: np.ndarray, what: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The numbers, the lengths and the splits of the items, as they were written; `what` is being done."""
        self.file.seek(0)
        first = 0
        for lengths in self.written:
            numbers = np.frombuffer(self.file.read(_NUMBER.itemsize * int(lengths.sum())), _NUMBER)
            yield numbers, lengths, splits[first : first + len(lengths)]
            first += len(lengths)
            if self.tell:
                self.tell(what, first / len(splits))


def drop_long(splits: np.ndarray, lengths: np.ndarray, max_length: int | None) -> dict[str, int]:
    """Takes the items that are longer out of their splits, and answers how many of each."""
    if max_length is None:
        return dict.fromkeys(SPLITS, 0)
    long = lengths > max_length
    dropped = np.bincount(splits[long], minlength=len(SPLITS)).tolist()
    splits[long] = _DROPPED
    return dict(zip(SPLITS, dropped, strict=True))


def counted(text: Numbered, splits: np.ndarray) -> dict[str, int]:
    """How often each type appears in the training split, in order of appearance."""
    counts, order = np.zeros(len(text.types), np.int64), []
    for numbers, lengths, split in text.blocks(splits, "counting the types"):
        own = numbers[np.repeat(split == _TRAIN, lengths)]
        new, at = np.unique(own[counts[own] == 0], return_index=True)
        order.append(new[at.argsort()])
        counts += np.bincount(own, minlength=len(counts))
    appeared, words = np.concatenate(order), list(text.types)
    return {words[i]: count for i, count in zip(appeared.tolist(), counts[appeared].tolist(), strict=True)}


def id_type(vocabulary: Vocabulary) -> np.dtype:
    """The smallest type that holds a vocabulary's ids."""
    return np.dtype("<u2" if len(vocabulary) <= 2**16 else "<i4")


def write_ids(text: Numbered, splits: np.ndarray, vocabulary: Vocabulary, files: Sequence[BinaryIO]) -> list[bool]:
    """Writes the sequences of every split to its file, with their markers; answers whether each has a known type."""
    table = np.full(len(text.types), UNK, id_type(vocabulary))
    table[[text.types[word] for word in vocabulary.words]] = np.arange(len(MARKERS), len(vocabulary))
    known = [False for _ in files]
    for numbers, lengths, split in text.blocks(splits, "writing the ids"):
        for i, file in enumerate(files):
            own = split == i
            ids = table[numbers[np.repeat(own, lengths)]]
            known[i] = known[i] or bool((ids != UNK).any())
            file.write(_marked(ids, lengths[own]).data)
    return known


def ends(text: Numbered, splits: np.ndarray) -> list[np.ndarray]:
    """Where each sequence ends in the file of its split."""
    lengths = text.lengths
    return [(lengths[splits == i] + 2).cumsum() for i in range(len(SPLITS))]


def _marked(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Every sequence between `<s>` and `</s>`."""
    ends = (lengths + 2).cumsum()
    marked, inside = np.empty(len(ids) + 2 * len(lengths), ids.dtype), np.ones(len(ids) + 2 * len(lengths), bool)
    for places, marker in ((ends - lengths - 2, START), (ends - 1, END)):
        marked[places], inside[places] = marker, False
    marked[inside] = ids
    return marked
