"""The kind of data of pairs: morphological inflection, and whatever else makes a sequence from another one and tags."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from uncollapse.data.batches import Batched, by_length
from uncollapse.data.families import families
from uncollapse.data.pair_texts import PairTexts
from uncollapse.data.pairs import Pair, Row, read_pairs
from uncollapse.data.reading import Tell
from uncollapse.data.splits import SPLITS, assigned
from uncollapse.data.vocabulary import UNK, Vocabulary
from uncollapse.errors import InputError
from uncollapse.quantities import Count, File, Index


@dataclass(frozen=True, kw_only=True)
class Inflection:
    """Pairs of a source and a target with the target's tags, in files with one a line; see `pairs.read_pairs`.

    Arguments:
        train, valid, test: Paths; the last two are split off the first where they are null.
        forms: A file of further training pairs, of each of whose targets, with its tags, a pair of the target with
            itself is made; null for none. Their own sources, such as lemmas, are not used.
        tokens: What a sequence is made of.
        size: The most types of the vocabulary, which sources and targets share, without markers; null for all.
        min_count: How often a type must appear in the training split.
        max_length: Pairs with a longer source or target, in tokens, are dropped; null for none.
        items: How many of the first training pairs to keep; null for all.
        split_seed: Of the split; part of the data, so not the seed of a training.
        batch_size: The most pairs of a training batch; those of a batch have targets of near lengths.
        evaluation_batch_size: The most pairs of a validation or test batch.
    """

    train: File
    valid: File | None = None
    test: File | None = None
    forms: File | None = None
    tokens: Literal["characters", "words"] = "characters"
    size: Count | None = None
    min_count: Count = 1
    max_length: Count | None = None
    items: Count | None = None
    split_seed: Index = 0
    batch_size: Count = 64
    evaluation_batch_size: Count = 64

    kept: ClassVar[str] = "pairs.json"

    def load(self, tell: Tell | None = None) -> Pairs:
        """The pairs of every split, numbered.

        Raises:
            InputError: for a file that holds no pairs, and too few pairs to split.
        """
        splits, dropped = self._splits()
        if self.forms is not None:
            whole = (self._same(row) for row in read_pairs(self.forms))
            splits["train"] = [*splits["train"], *(row for row in whole if self._fits(row))]
        read = Vocabulary.of(_sequences(splits["train"]), self.size, self.min_count, self.tokens)
        tags = tuple(sorted({tag for row in splits["train"] for tag in row.tags}))
        longest = max(len(read.encode(str(row.target))) - 2 for row in splits["train"])
        sets = Counter(row.tags for row in splits["train"]).most_common()
        texts = PairTexts(read, tags, longest, tuple(sets))
        return Pairs(splits, texts, dropped, self.batch_size, self.evaluation_batch_size)

    @staticmethod
    def restore(about: Any) -> PairTexts:
        """What encodes and decodes pairs, from what `Pairs.about` says."""
        return PairTexts.restored(about)

    def _splits(self) -> tuple[dict[str, list[Row]], dict[str, int]]:
        paths = (self.train, self.valid, self.test)
        read = [None if path is None else read_pairs(path) for path in paths]
        _refuse_mixed(paths, read)
        read[0] = (read[0] or [])[: self.items]
        which = assigned([None if rows is None else len(rows) for rows in read], self.split_seed).tolist()
        each = zip((row for rows in read if rows for row in rows), which, strict=True)
        found: dict[str, list[Row]] = {split: [] for split in SPLITS}
        dropped: dict[str, int] = dict.fromkeys(SPLITS, 0)
        for row, split in ((row, SPLITS[number]) for row, number in each):
            if self._fits(row):
                found[split].append(row)
            else:
                dropped[split] += 1
        for path, split in zip(paths, SPLITS, strict=True):
            if not found[split]:
                raise InputError(
                    f"`{path or self.train}` holds no pair for `{split}` (`max_length` is {self.max_length})."
                )
        return found, dropped

    def _fits(self, row: Row) -> bool:
        cut = list if self.tokens == "characters" else str.split
        return self.max_length is None or max(len(cut(row.source)), len(cut(str(row.target)))) <= self.max_length

    @staticmethod
    def _same(row: Row) -> Row:
        return row._replace(source=str(row.target), before="")


def _refuse_mixed(paths: Sequence[str | None], read: Sequence[list[Row] | None]) -> None:
    """Refuses files of which some have tags and others have none."""
    tagged = {str(path): any(row.tags for row in rows) for path, rows in zip(paths, read, strict=True) if rows}
    if len(set(tagged.values())) > 1:
        having, lacking = (next(path for path, has in tagged.items() if has is want) for want in (True, False))
        raise InputError(f"`{having}` has tags and `{lacking}` has none: give files of the same columns.")


def _sequences(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        yield row.source
        yield str(row.target)


@dataclass(frozen=True, eq=False)
class Pairs:
    """The pairs of every split and how they become batches; see `Inflection`."""

    splits: Mapping[str, Sequence[Row]]
    texts: PairTexts
    dropped: Mapping[str, int]
    batch_size: int
    evaluation_batch_size: int

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256, in hexadecimal, of the vocabulary, the tags and all pairs."""
        digest = hashlib.sha256(json.dumps([self.texts.vocabulary.to_json(), self.texts.tags]).encode())
        for rows in self.splits.values():
            digest.update(json.dumps([(row.source, row.tags, row.target) for row in rows]).encode())
        return digest.hexdigest()

    @property
    def facts(self) -> dict[str, Any]:
        """The number of types and that of tags."""
        return self.texts.facts

    @cached_property
    def families(self) -> dict[str, torch.Tensor]:
        """Of every split the family (N,) of each source: what is linked by pairs, such as the forms of one word."""
        found = families([[row.source, str(row.target)] for split in SPLITS for row in self.splits[split]])
        counts = np.cumsum([len(self.splits[split]) for split in SPLITS])
        return dict(zip(SPLITS, torch.tensor(found).tensor_split(counts[:-1].tolist()), strict=True))

    def batches(self, split: str) -> Batched:
        """A split in batches of `Pair`, of targets of near lengths."""
        rows = self.splits[split]
        size = self.batch_size if split == "train" else self.evaluation_batch_size
        sources, targets = (self._ids(split)[name] for name in ("source", "target"))
        lengths = [1000 * len(target) + min(999, len(source)) for source, target in zip(sources, targets, strict=True)]
        tags = [self.texts.numbers(row.tags) for row in rows]

        def make(items: torch.Tensor) -> Pair:
            some = items.tolist()
            return self.texts.batch([sources[i] for i in some], [tags[i] for i in some], [targets[i] for i in some])

        return Batched(make, by_length(lengths, size, mixed=True, seed=0))

    def _ids(self, split: str) -> dict[str, list[list[int]]]:
        encode = self.texts.vocabulary.encode
        rows = self.splits[split]
        return {"source": [encode(row.source) for row in rows], "target": [encode(str(row.target)) for row in rows]}

    def about(self) -> dict[str, Any]:
        """What `PairTexts` holds."""
        return self.texts.about()

    def remarks(self, parameters: Callable[[Mapping[str, Any]], int]) -> Iterator[str]:
        """Pairs that were left out, and characters and tags of the other splits that the training split lacks."""
        said = [f"{n:,} in `{split}`" for split, n in self.dropped.items() if n]
        if said:
            yield f"left out, being longer than data.max_length: {', '.join(said)}."
        for split in SPLITS[1:]:
            if lost := {tag for row in self.splits[split] for tag in row.tags} - set(self.texts.tags):
                yield f"{len(lost)} tags of `{split}` are not in `train`, such as `{min(lost)}`, and are not read."
            targets = self._ids(split)["target"]
            if unknown := sum(UNK in ids for ids in targets):
                unit = self.texts.vocabulary.tokens
                yield f"{unknown:,} targets of `{split}` have {unit} that are not in `train`: no guess is right."

    def distinct(self, split: str, limit: int) -> int:
        """How many different sources there are, counted up to a limit."""
        return min(limit, len({row.source for row in self.splits[split]}))
