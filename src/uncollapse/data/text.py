"""Text: files with one item a line, and corpora in three splits."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path

from uncollapse.data import cache
from uncollapse.data.batches import Batched, by_length
from uncollapse.data.preparing import FORMAT, Given, Opener, Prepared, Settings, load, prepare, save
from uncollapse.data.reading import Block, Tell, blocks, unreadable
from uncollapse.data.sequences import Sequences, Text, as_text
from uncollapse.data.splits import SPLITS
from uncollapse.data.vocabulary import END, START, UNK, Vocabulary
from uncollapse.distributions.tokens import PAD
from uncollapse.errors import InputError, unknown

__all__ = [
    "END",
    "PAD",
    "START",
    "UNK",
    "Corpus",
    "Text",
    "Vocabulary",
    "as_text",
    "corpus_from_lines",
    "read_lines",
]

#: From as many bytes of text on, a prepared corpus is kept on disk and mapped; gzip files count four times.
LARGE = 2**25
_LINES = 10_000  # lines that are numbered at a time, where they are in memory


def read_lines(path: str | Path, labels: bool = False) -> list[str]:
    """The items of a text file; see `reading.blocks`."""
    return [item for block in blocks(Path(path), labels) for item in block.items]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Items as token ids, with markers, in three splits, and the vocabulary of the first."""

    vocabulary: Vocabulary
    train: Sequences = field(repr=False)
    valid: Sequences = field(repr=False)
    test: Sequences = field(repr=False)
    dropped: dict[str, int]
    """How many items of each split were longer than asked."""
    fingerprint: str = field(repr=False)
    """The SHA-256, in hexadecimal, of the vocabulary and the ids of all splits."""
    once: int = field(repr=False)
    """How many types of the training split appear in it once."""
    longest: tuple[int, str] = field(repr=False)
    """The tokens of the longest item of all, dropped ones included, and where it stands."""

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
        tell: Tell | None = None,
    ) -> Corpus:
        """The corpus in text files; see `reading.blocks` for `labels`, `tell` and `corpus_from_lines` for the rest.

        Of large files, what was made of them is kept in a folder (see `cache.place`) and mapped into memory.
        """
        paths = [None if path is None else Path(path) for path in (train, valid, test)]
        how = Settings(tokens, size, min_count, max_length, items, seed)

        def prepared(opened: Opener) -> Prepared:
            given = [Given(str(p or train), "line", None if p is None else blocks(p, labels, tell)) for p in paths]
            return prepare(given, how, opened, tell)

        if sum(map(_bytes, paths)) < LARGE:
            return cls(*prepared(lambda name: BytesIO()))
        key = _key(paths, labels, how)

        def make(folder: Path) -> None:
            save(prepared(lambda name: (folder / name).open("w+b")), folder)
            if _key(paths, labels, how) != key:
                raise InputError(f"`{train}`, or a file beside it, has changed while it was read: start again.")

        return cls(*load(cache.entry(key, make)))

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
        items: Sequences = getattr(self, split)
        return Batched(items.text, by_length(items.lengths, batch_size, kind == "padded", seed))


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
) -> Corpus:
    """The corpus of lines of text.

    Arguments:
        train: The training items. The vocabulary is made of them alone.
        valid: The validation items; None takes a random tenth of `train`, at least one item and at most 10,000.
        test: The test items; None takes another tenth.
        tokens: "words" or "characters".
        size: See `Vocabulary.of`, as for `min_count`.
        max_length: Longer items, in tokens without markers, are dropped from every split and counted.
        items: How many of the first training items to keep, before any split.
        seed: Of the split.
    """
    how = Settings(tokens, size, min_count, max_length, items, seed)
    lines = zip(SPLITS, (train, valid, test), strict=True)
    given = [Given(name, "item", None if part is None else _blocks(part)) for name, part in lines]
    return Corpus(*prepare(given, how, lambda name: BytesIO()))


def _blocks(lines: Sequence[str]) -> Iterator[Block]:
    for first in range(0, len(lines), _LINES):
        part = lines[first : first + _LINES]
        yield Block(list(part), range(first + 1, first + 1 + len(part)))


def _bytes(path: Path | None) -> int:
    """The size of a text, roughly where it is packed; 0 for what cannot be read, which reading will say."""
    # Not `path.is_file`, which raises for a name that no system takes.
    if path is None or not os.path.isfile(path):
        return 0
    return os.path.getsize(path) * (4 if path.suffix == ".gz" else 1)


def _key(paths: Sequence[Path | None], labels: bool, how: Settings) -> str:
    """What a prepared corpus depends on. A file's change of content or attributes shows in its times."""
    about = [None if path is None else (str(path.resolve()), _state(path)) for path in paths]
    return hashlib.sha256(json.dumps([FORMAT, about, labels, asdict(how)]).encode()).hexdigest()[:32]


def _state(path: Path) -> tuple[int, int, int]:
    try:
        state = path.stat()
    except OSError as error:
        raise unreadable(path, error) from None
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns
