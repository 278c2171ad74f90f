"""A corpus of token ids, made of texts in memory or on disk, and kept in a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

import numpy as np

from uncollapse.data import numbering
from uncollapse.data.numbering import Numbered
from uncollapse.data.reading import Block, Tell
from uncollapse.data.sequences import Sequences
from uncollapse.data.splits import SPLITS, assigned
from uncollapse.data.vocabulary import Vocabulary
from uncollapse.errors import InputError

#: Grows where a prepared corpus changes its form or its meaning.
FORMAT = 2
_ABOUT, _NUMBERS = "about.json", "numbers"
_LONG = 1000  # tokens; an item beyond is worth a word where an error is about too few items
_END = np.dtype("<i8")

#: From a name to a file that is written and read again.
Opener: TypeAlias = Callable[[str], BinaryIO]


@dataclass(frozen=True)
class Settings:
    """See `text.corpus_from_lines`."""

    tokens: str = "words"
    size: int | None = None
    min_count: int = 1
    max_length: int | None = None
    items: int | None = None
    seed: int = 0


class Given(NamedTuple):
    """A split's text."""

    name: str
    """What an error calls it."""
    unit: str
    """What its items stand in, such as a line."""
    blocks: Iterable[Block] | None
    """None where the split is to be taken from the training items."""


class Prepared(NamedTuple):
    """What a `text.Corpus` is made of; see there."""

    vocabulary: Vocabulary
    train: Sequences
    valid: Sequences
    test: Sequences
    dropped: dict[str, int]
    fingerprint: str
    once: int
    longest: tuple[int, str]


def prepare(given: Sequence[Given], how: Settings, opened: Opener, tell: Tell | None = None) -> Prepared:
    """Numbers the tokens of three texts in their splits.

    Arguments:
        given: The three texts.
        how: What to keep.
        opened: Makes the files to write to.
        tell: Hears how far the work is.

    Raises:
        InputError: for a text that cannot be read, and splits without an item or a known token.
    """
    with ExitStack() as files:
        text = Numbered(files.enter_context(opened(_NUMBERS)), how.tokens, tell)
        counts = _read(text, given, how.items)
        longest = _longest(text, given)
        splits = _assigned(counts, how.seed, longest)
        dropped = numbering.drop_long(splits, text.lengths, how.max_length)
        _refuse_empty(splits, given, how)
        types = numbering.counted(text, splits)
        vocabulary = Vocabulary.counted(types, how.size, how.min_count, how.tokens)
        ids = [files.enter_context(opened(_ids(split))) for split in SPLITS]
        known = numbering.write_ids(text, splits, vocabulary, ids)
        _refuse_strangers(known, given, counts[0] or 0, how.tokens)
        ends = numbering.ends(text, splits)
        train, valid, test = (_sequences(*both, vocabulary) for both in zip(ids, ends, strict=True))
    fingerprint = _fingerprint(vocabulary, (train, valid, test), tell)
    once = sum(count == 1 for count in types.values())
    return Prepared(vocabulary, train, valid, test, dropped, fingerprint, once, longest)


def save(prepared: Prepared, folder: Path) -> None:
    """Adds to the folder that a corpus was prepared in what `load` needs."""
    (folder / _NUMBERS).unlink()
    for split in SPLITS:
        (folder / _ends(split)).write_bytes(getattr(prepared, split).ends.astype(_END).data)
    words = prepared.vocabulary
    about = {"tokens": words.tokens, "words": words.words, "dropped": prepared.dropped, "once": prepared.once}
    about |= {"fingerprint": prepared.fingerprint, "longest": prepared.longest}
    (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")


def load(folder: Path) -> Prepared:
    """What `save` kept, its ids mapped into memory."""
    about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    vocabulary = Vocabulary(tuple(about["words"]), about["tokens"])
    kind = numbering.id_type(vocabulary)
    train, valid, test = (
        Sequences(np.memmap(folder / _ids(split), kind, "r"), np.memmap(folder / _ends(split), _END, "r"))
        for split in SPLITS
    )
    (tokens, where), dropped = about["longest"], about["dropped"]
    return Prepared(vocabulary, train, valid, test, dropped, about["fingerprint"], about["once"], (tokens, where))


def _read(text: Numbered, given: Sequence[Given], items: int | None) -> list[int | None]:
    limits = (items, None, None)
    return [
        None if one.blocks is None else text.add(one.blocks, limit) for one, limit in zip(given, limits, strict=True)
    ]


def _longest(text: Numbered, given: Sequence[Given]) -> tuple[int, str]:
    read = [one for one in given if one.blocks is not None]
    (tokens, at), one = max(zip(text.longest, read, strict=True), key=lambda pair: pair[0][0])
    return tokens, f"`{one.name}`, {one.unit} {at}"


def _assigned(counts: Sequence[int | None], seed: int, longest: tuple[int, str]) -> np.ndarray:
    try:
        return assigned(counts, seed)
    except InputError as error:
        tokens, where = longest
        if tokens <= _LONG:
            raise
        raise InputError(f"{error} The longest, {where}, has {tokens:,} tokens: every item needs a line.") from None


def _refuse_empty(splits: np.ndarray, given: Sequence[Given], how: Settings) -> None:
    for one, kept in zip(given, np.bincount(splits, minlength=len(SPLITS)).tolist(), strict=False):
        if not kept:
            raise InputError(f"`{one.name}` holds no item (`max_length` is {how.max_length}, `items` {how.items}).")


def _refuse_strangers(known: Sequence[bool], given: Sequence[Given], items: int, tokens: str) -> None:
    for one, ok in zip(given[1:], known[1:], strict=True):
        if not ok:
            raise InputError(
                f"`{one.name}` shares no {tokens} with the training split: are both the same language?"
                if one.blocks is not None
                else f"`{given[0].name}` has too few items to split ({items}): a part cut from it shares no {tokens} "
                "with the rest. Give more items, or files for all splits."
            )


def _sequences(file: BinaryIO, ends: np.ndarray, vocabulary: Vocabulary) -> Sequences:
    """What was written to a file; it is mapped where it is on disk."""
    kind = numbering.id_type(vocabulary)
    if isinstance(file, BytesIO):
        return Sequences(np.frombuffer(file.getvalue(), kind), ends)
    file.flush()
    return Sequences(np.memmap(file, kind, "r"), ends)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _fingerprint(vocabulary: Vocabulary, splits: Sequence[Sequences], tell: Tell | None) -> str:
    """The SHA-256 of the vocabulary and the ids as one JSON list, of which only a part is ever held."""
    digest = hashlib.sha256(f"[{json.dumps(vocabulary.to_json())}".encode())
    done, total = 0, sum(map(len, splits))
    for split in splits:
        between = ", ["
        for block in split.blocks():
            digest.update(f"{between}{json.dumps(block)[1:-1]}".encode())
            between, done = ", ", done + len(block)
            if tell:
                tell("taking the fingerprint", done / total)
        digest.update(b"]")
    digest.update(b"]")
    return digest.hexdigest()


def _ids(split: str) -> str:
    return f"{split}.ids"


def _ends(split: str) -> str:
    return f"{split}.ends"
