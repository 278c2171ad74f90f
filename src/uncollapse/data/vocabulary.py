"""Vocabularies: the types of a text and their numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from uncollapse.distributions.tokens import PAD
from uncollapse.errors import InputError, unknown

START, END, UNK = 1, 2, 3
MARKERS = ("<pad>", "<s>", "</s>", "<unk>")
#: Words that never enter a vocabulary: where a text holds them, they are unknown words.
RESERVED = {*MARKERS, "_UNK"}


def tokenizer(tokens: str) -> Callable[[str], list[str]]:
    """What cuts a line into its tokens: "words" between blanks, or "characters"."""
    if tokens not in ("words", "characters"):
        raise unknown("kind of tokens", tokens, ("words", "characters"))
    return str.split if tokens == "words" else list


@dataclass(frozen=True)
class Vocabulary:
    """The types of a text, numbered from 4 after `<pad>` 0, `<s>` 1, `</s>` 2 and `<unk>` 3.

    Arguments:
        words: The types besides those four, in the order of their ids.
        tokens: What a type is: "words" or "characters".
    """

    words: tuple[str, ...] = field(repr=False)
    tokens: str = "words"

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))
        if len(self._ids) != len(self.words) or RESERVED & self._ids.keys():
            raise InputError(f"a vocabulary names every type once, and none of {', '.join(sorted(RESERVED))}.")

    @classmethod
    def of(
        cls, sentences: Iterable[str], size: int | None = None, min_count: int = 1, tokens: str = "words"
    ) -> Vocabulary:
        """The types of the sentences in order of appearance.

        Arguments:
            sentences: The training split, and no other.
            size: How many of the most frequent types to keep, of equal ones the first; None keeps all.
            min_count: How often a type must appear.
        """
        return cls.counted(Counter(chain.from_iterable(map(tokenizer(tokens), sentences))), size, min_count, tokens)

    @classmethod
    def counted(cls, counts: Mapping[str, int], size: int | None, min_count: int, tokens: str) -> Vocabulary:
        """The types that `of` keeps, from how often each appears, in order of appearance."""
        often = [w for w, count in Counter(counts).most_common() if count >= min_count and w not in RESERVED]
        kept = set(often if size is None else often[: max(0, size)])
        if not kept:
            raise InputError(
                f"no type of the training split is left (`min_count` is {min_count}, `size` {size}): "
                "lower `min_count` or raise `size`."
            )
        return cls(tuple(word for word in counts if word in kept), tokens)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words, len(MARKERS))}

    def __len__(self) -> int:
        return len(MARKERS) + len(self.words)

    def encode(self, line: str) -> list[int]:
        """The ids of `<s>`, the line's tokens and `</s>`."""
        return [START, *(self._ids.get(token, UNK) for token in tokenizer(self.tokens)(line)), END]

    def decode(self, ids: Iterable[int]) -> str:
        """The text before `</s>`, without markers."""
        names = []
        for i in map(int, ids):
            if i == END:
                break
            if i not in (PAD, START):
                names.append(MARKERS[UNK] if i == UNK else self.words[i - len(MARKERS)])
        return (" " if self.tokens == "words" else "").join(names)

    def to_json(self) -> str:
        """The vocabulary as one JSON object."""
        return json.dumps({"tokens": self.tokens, "words": self.words}, ensure_ascii=False)
