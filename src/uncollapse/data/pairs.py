"""Pairs of sequences, the second made from the first and some tags: lines of files, and batches."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from uncollapse.data.reading import lines
from uncollapse.data.sequences import kept_at_random
from uncollapse.distributions.tokens import PAD
from uncollapse.errors import InputError

#: What stands between the tags of a line; UniMorph has semicolons.
_BETWEEN = re.compile(r"[,;]")
FORMS = "SOURCE TAB TAGS TAB TARGET, SOURCE TAB TARGET, or TAGS TAB SOURCE TAB TAGS TAB TARGET"


class Row(NamedTuple):
    """A pair as its file has it."""

    source: str
    tags: tuple[str, ...] = ()
    target: str | None = None
    """None where it is to be told."""
    said: str = ""
    """The tags as they stand in the file."""
    before: str = ""
    """What stands before the source: in files of the shared task's second kind, the tags of the source."""


class Condition(NamedTuple):
    """What a decoder is told of N items beside z."""

    tags: Tensor
    """(N, M), 1 for those that the target is to have and 0 for the others."""
    source: Tensor
    """(N, T') long, with markers, padded on the right; only what is named a bypass reads it."""

    def before(self, tokens: Tensor) -> Before:
        """The same with the tokens (N, T) that were written so far."""
        return Before(tokens, *self)


class Before(NamedTuple):
    """What a decoder may look at: the tokens before each target, and what they are conditioned on."""

    tokens: Tensor
    """(B, T - 1) long."""
    tags: Tensor
    """(B, M)."""
    source: Tensor
    """(B, T') long."""


class Pair(NamedTuple):
    """A batch of pairs: the encoder reads the source, the decoder tells the target from z and the tags."""

    source: Tensor
    """(B, T') long, each `<s> ... </s>`, padded on the right."""
    tags: Tensor
    """(B, M), 1 for those that the target is to have and 0 for the others."""
    sequence: Tensor
    """(B, T) long, the target with its markers."""

    @property
    def tokens(self) -> Tensor:
        """The source, which is what encoders of text read."""
        return self.source

    @property
    def given(self) -> Tensor:
        """The tags, for a conditional prior."""
        return self.tags

    @property
    def seen(self) -> Before:
        """The tokens before each target, and the tags."""
        return Before(self.sequence[:, :-1], self.tags, self.source)

    @property
    def target(self) -> Tensor:
        """(B, T - 1), the tokens to predict."""
        return self.sequence[:, 1:]

    @property
    def symbols(self) -> Tensor:
        """(B,), how many tokens of each target are predicted, `</s>` included."""
        return (self.target != PAD).sum(1)

    def thinned(self, share: float) -> tuple[ThinnedPair, float]:
        """A random share of the targets' tokens left to predict, and how much more each counts; as `Text.thinned`."""
        kept, more = kept_at_random(self.target, share)
        return self.only(kept), more

    def only(self, kept: Tensor) -> ThinnedPair:
        """The batch with some of its targets' tokens (B, T - 1) left to predict."""
        return ThinnedPair(*self, kept)


class ThinnedPair(NamedTuple):
    """A batch of pairs of which some tokens alone are predicted."""

    source: Tensor
    tags: Tensor
    sequence: Tensor
    kept: Tensor
    """(B, T - 1) bool."""

    tokens, given, seen = Pair.tokens, Pair.given, Pair.seen

    @property
    def target(self) -> Tensor:
        """(B, T - 1), the tokens to predict; padding in place of those left out."""
        return self.sequence[:, 1:].where(self.kept, PAD)


def as_pair(source: Iterable[Sequence[int]], tags: Iterable[Sequence[int]], target: Any, count: int) -> Pair:
    """One batch of sequences of ids, which have their markers, with the numbers of each item's tags, of `count`."""
    chosen = list(tags)
    flags = torch.zeros(len(chosen), count)
    for row, numbers in enumerate(chosen):
        flags[row, list(numbers)] = 1
    return Pair(_padded(source), flags, _padded(target))


def _padded(ids: Iterable[Sequence[int]]) -> Tensor:
    return pad_sequence([torch.tensor(one) for one in ids], batch_first=True, padding_value=PAD)


def split_tags(said: str) -> tuple[str, ...]:
    """The tags of a text such as "pos=N,case=GEN", in order, each once."""
    return tuple(sorted({tag.strip() for tag in _BETWEEN.split(said)} - {""}))


def read_pairs(path: str | Path, whole: bool = True, tagged: bool | None = None) -> list[Row]:
    """The pairs of a UTF-8 file, one a line, plain or gzip.

    The columns are a source, the tags of the target, and the target, as in tasks 1 and 3 of SIGMORPHON 2016; a source
    and a target, without tags; or, as in its task 2, the source's tags before these three, which are kept and not read.

    Arguments:
        path: The file.
        whole: Whether every line has its target; else the last column may be missing.
        tagged: Whether there are tags, where it is known; else as many columns as the first line has say it.

    Raises:
        InputError: for a file that cannot be read or holds no pair, and a line that is none, by its number.
    """
    path, found = Path(path), list[Row]()
    width = 0
    for number, line in lines(path):
        cells = [cell.strip() for cell in line.split("\t")]
        width = width or len(cells)
        if len(cells) != width:
            raise InputError(
                f"`{path}`, line {number}: {len(cells)} columns, and the first has {width}: give {FORMS} throughout."
            )
        found.append(_row(path, number, cells, whole, tagged))
    return found


def _row(path: Path, number: int, cells: list[str], whole: bool, tagged: bool | None) -> Row:
    least = 1 + bool(tagged) + whole
    if not least <= len(cells) <= 4 or (tagged is False and len(cells) > 2):
        raise InputError(f"`{path}`, line {number}: {len(cells)} columns. Give {_layout(tagged)}.")
    before = cells.pop(0) if len(cells) == 4 else ""
    tagged = len(cells) == 3 if tagged is None else tagged
    source, said = cells[0], cells[1] if tagged else ""
    target = cells[1 + tagged] if len(cells) > 1 + tagged else None
    if not source or target == "":
        raise InputError(f"`{path}`, line {number}: the {'target' if source else 'source'} is empty: give one.")
    return Row(source, split_tags(said), target, said, before)


def _layout(tagged: bool | None) -> str:
    if tagged is None:
        return FORMS
    return "SOURCE TAB TAGS TAB TARGET" if tagged else "SOURCE TAB TARGET"
