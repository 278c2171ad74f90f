"""Text: vocabularies, files with one item a line, and corpora in three splits."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from uncollapse.data.batches import Batched, by_length
from uncollapse.distributions.tokens import PAD
from uncollapse.errors import InputError, unknown

START, END, UNK = 1, 2, 3
MARKERS = ("<pad>", "<s>", "</s>", "<unk>")
#: Words that never enter a vocabulary: where a text holds them, they are unknown words.
RESERVED = {*MARKERS, "_UNK"}
SPLITS = ("train", "valid", "test")


class Text(NamedTuple):
    """A batch of sequences, each `<s> ... </s>`, padded on the right."""

    tokens: Tensor
    """(B, T) long."""

    @property
    def seen(self) -> Tensor:
        """(B, T - 1), the tokens before each target."""
        return self.tokens[:, :-1]

    @property
    def target(self) -> Tensor:
        """(B, T - 1), the tokens to predict."""
        return self.tokens[:, 1:]

    @property
    def symbols(self) -> Tensor:
        """(B,), how many tokens of each item are predicted: its words and `</s>`."""
        return (self.target != PAD).sum(1)

    def thinned(self, share: float) -> tuple[Thinned, float]:
        """A random share of the batch's tokens left to predict, and how much more each of those counts.

        They are drawn without replacement, so that a weighted sum over them estimates that over all without bias.
        """
        places = (self.target != PAD).flatten().nonzero().squeeze(1)
        order = torch.randperm(len(places), device=places.device)
        kept = places[order[: max(1, round(share * len(places)))]]
        mask = torch.zeros_like(self.target, dtype=torch.bool).flatten().index_fill(0, kept, True)
        return Thinned(self.tokens, mask.view_as(self.target)), len(places) / len(kept)


class Thinned(NamedTuple):
    """A batch of which some tokens alone are predicted; the encoder and the decoder see all."""

    tokens: Tensor
    """(B, T) long."""
    kept: Tensor
    """(B, T - 1) bool."""

    @property
    def seen(self) -> Tensor:
        """(B, T - 1), the tokens before each target."""
        return self.tokens[:, :-1]

    @property
    def target(self) -> Tensor:
        """(B, T - 1), the tokens to predict; padding in place of those left out."""
        return self.tokens[:, 1:].where(self.kept, PAD)


def split_tokens(line: str, tokens: str) -> list[str]:
    """The tokens of a line: "words" between blanks, or "characters"."""
    if tokens not in ("words", "characters"):
        raise unknown("kind of tokens", tokens, ("words", "characters"))
    return line.split() if tokens == "words" else list(line)


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
        counts = Counter(token for line in sentences for token in split_tokens(line, tokens))
        often = [w for w, count in counts.most_common() if count >= min_count and w not in RESERVED]
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
        return [START, *(self._ids.get(token, UNK) for token in split_tokens(line, self.tokens)), END]

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


def read_lines(path: str | Path, labels: bool = False) -> list[str]:
    """The items of a UTF-8 text file, one a line, without empty lines; gzip where its name ends in .gz.

    Arguments:
        path: The file.
        labels: Whether a label and a tab precede every item; they are removed.
    """
    content = _content(Path(path))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"`{path}`, line {line}: not UTF-8. Convert the file to UTF-8.") from None
    # Not splitlines: it also cuts at separators that are characters of a text.
    lines = [(n, line.strip("\r")) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    items = [_unlabelled(path, n, line) for n, line in lines] if labels else [line for _, line in lines]
    items = [item for item in map(str.strip, items) if item]
    if not items:
        raise InputError(f"`{path}` holds no item: it needs one a line.")
    return items


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise InputError(f"`{path}` is not a whole gzip file, as its name says: compress it again.") from None
    except OSError as error:
        raise InputError(f"cannot read the text file `{path}`: {error.strerror}.") from None


def _unlabelled(path: str | Path, n: int, line: str) -> str:
    _, tab, item = line.partition("\t")
    if not tab:
        raise InputError(f"`{path}`, line {n}: no tab after a label. Leave `--labels` out (data.labels).")
    return item


@dataclass(frozen=True)
class Corpus:
    """Items as token ids, with markers, in three splits, and the vocabulary of the first."""

    vocabulary: Vocabulary
    train: list[list[int]] = field(repr=False)
    valid: list[list[int]] = field(repr=False)
    test: list[list[int]] = field(repr=False)
    dropped: dict[str, int] = field(default_factory=dict)
    """How many items of each split were longer than asked."""

    @classmethod
    def load(
        cls,
        train: str | Path,
        valid: str | Path | None = None,
        test: str | Path | None = None,
        *,
        labels: bool = False,
        tokens: str = "words",
        size: int | None = None,
        min_count: int = 1,
        max_length: int | None = None,
        items: int | None = None,
        seed: int = 0,
    ) -> Corpus:
        """The corpus in text files; see `read_lines` for `labels` and `corpus_from_lines` for the rest."""
        paths = [train, valid, test]
        lines = [None if path is None else read_lines(path, labels) for path in paths]
        return corpus_from_lines(
            lines[0] or [],
            *lines[1:],
            tokens=tokens,
            size=size,
            min_count=min_count,
            max_length=max_length,
            items=items,
            seed=seed,
            names=tuple(str(path or train) for path in paths),
        )

    def batches(self, split: str, batch_size: int, kind: str = "equal", seed: int = 0) -> Batched:
        """The split as batches of `Text`, formed once.

        Arguments:
            split: "train", "valid" or "test".
            batch_size: The most items of a batch.
            kind: "equal", all items of a batch have the same length; or "padded", near lengths and padding.
            seed: Decides which of the items of one length share a batch.
        """
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        if kind not in ("equal", "padded"):
            raise unknown("kind of batches", kind, ("equal", "padded"))
        items = [torch.tensor(ids) for ids in getattr(self, split)]
        groups = by_length([len(ids) for ids in items], batch_size, kind == "padded", seed)
        return Batched(partial(_text, items), groups)

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256, in hexadecimal, of the vocabulary and the ids of all splits."""
        content = [self.vocabulary.to_json(), self.train, self.valid, self.test]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def corpus_from_lines(
    train: Sequence[str],
    valid: Sequence[str] | None = None,
    test: Sequence[str] | None = None,
    *,
    tokens: str = "words",
    size: int | None = None,
    min_count: int = 1,
    max_length: int | None = None,
    items: int | None = None,
    seed: int = 0,
    names: Sequence[str] = SPLITS,
) -> Corpus:
    """The corpus of lines of text.

    Arguments:
        train: The training items. The vocabulary is made of them alone.
        valid: The validation items; None takes a random tenth of `train`, at least one item.
        test: The test items; None takes another tenth.
        tokens: "words" or "characters".
        size: See `Vocabulary.of`, as for `min_count`.
        max_length: Longer items, in tokens without markers, are dropped from every split and counted.
        items: How many of the first training items to keep, before any split.
        seed: Of the split.
        names: What an error calls the splits.
    """
    first = list(train if items is None else train[: max(0, items)])
    splits = _split(first, valid, test, seed)
    kept = [[x for x in s if max_length is None or len(split_tokens(x, tokens)) <= max_length] for s in splits]
    for name, lines in zip(names, kept, strict=True):
        if not lines:
            raise InputError(f"`{name}` holds no item (`max_length` is {max_length}, `items` {items}).")
    vocabulary = Vocabulary.of(kept[0], size, min_count, tokens)
    ids = [[vocabulary.encode(line) for line in lines] for lines in kept]
    for name, given, encoded in zip(names[1:], (valid, test), ids[1:], strict=True):
        if all(token == UNK for item in encoded for token in item[1:-1]):
            why = (
                f"`{name}` shares no {tokens} with the training split: are both the same language?"
                if given is not None
                else f"`{names[0]}` has too few items to split ({len(first)}): a part cut from it shares no {tokens} "
                "with the rest. Give more items, or files for all splits."
            )
            raise InputError(why)
    dropped = [len(a) - len(b) for a, b in zip(splits, kept, strict=True)]
    return Corpus(vocabulary, *ids, dropped=dict(zip(SPLITS, dropped, strict=True)))


def _split(train: list[str], valid: Sequence[str] | None, test: Sequence[str] | None, seed: int) -> list[Sequence[str]]:
    tenth = max(1, len(train) // 10)
    missing = (valid is None) + (test is None)
    if missing and len(train) <= missing * tenth:
        raise InputError(f"{len(train)} training items are too few to take {missing} splits from: give more.")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).tolist()
    cuts = [order[k * tenth : (k + 1) * tenth] for k in range(missing)]
    taken = [[train[i] for i in sorted(cut)] for cut in cuts]
    rest = [train[i] for i in sorted(order[missing * tenth :])]
    return [rest, taken.pop(0) if valid is None else valid, taken.pop(0) if test is None else test]


def as_text(ids: Iterable[Sequence[int]]) -> Text:
    """One batch of sequences of ids, which have their markers."""
    return Text(pad_sequence([torch.tensor(sequence) for sequence in ids], batch_first=True, padding_value=PAD))


def _text(items: list[Tensor], ids: Tensor) -> Text:
    return Text(pad_sequence([items[i] for i in ids.tolist()], batch_first=True, padding_value=PAD))
