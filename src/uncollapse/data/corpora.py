"""The kinds of data that are text: in files, from the standard library, and synthetic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from uncollapse.data import stdlib, synthetic
from uncollapse.data.batches import Batched
from uncollapse.data.reading import Tell
from uncollapse.data.sentences import Sentences
from uncollapse.data.sequences import Sequences
from uncollapse.data.splits import SPLITS
from uncollapse.data.text import Corpus
from uncollapse.quantities import Count, File, Index

LONG, FAR = 1000, 20  # an item is long beyond so many tokens, and so many times the median
MANY = 100_000  # types
GIGA = 10**9


@dataclass(frozen=True, kw_only=True)
class Corpora(ABC):
    """What kinds of text have in common.

    Arguments:
        batch_size: The most items of a training batch.
        batching: "equal", all items of a batch have one length, as in He et al. (2019); or "padded".
        evaluation_batch_size: The most items of a validation or test batch; the published MI depends on it.
    """

    batch_size: Count = 32
    batching: Literal["equal", "padded"] = "equal"
    evaluation_batch_size: Count = 32

    kept: ClassVar[str] = "vocabulary.json"

    @abstractmethod
    def corpus(self, tell: Tell | None = None) -> Corpus:
        """The text, numbered; `tell` hears how far its reading is."""

    def load(self, tell: Tell | None = None) -> Texts:
        """The text in batches."""
        return Texts(self.corpus(tell), self.batch_size, self.batching, self.evaluation_batch_size)

    @staticmethod
    def restore(about: Any) -> Sentences:
        """What encodes and decodes lines, from what `Texts.about` says."""
        return Sentences.restored(about)


@dataclass(frozen=True, kw_only=True)
class TextFiles(Corpora):
    """A text in files, one item a line; see `data.text.Corpus.load`.

    Arguments:
        train, valid, test: Paths; the last two are split off the first where they are null.
        tokens: "words" or "characters".
        size: The most types of the vocabulary, without markers; null for all.
        min_count: How often a type must appear in the training split.
        max_length: Longer items are dropped; null for none.
        labels: Whether a label and a tab precede every item.
        items: How many of the first training items to keep; null for all.
        split_seed: Of the split; part of the data, so not the seed of a training.
    """

    train: File
    valid: File | None = None
    test: File | None = None
    tokens: Literal["words", "characters"] = "words"
    size: Count | None = None
    min_count: Count = 1
    max_length: Count | None = None
    labels: bool = False
    items: Count | None = None
    split_seed: Index = 0

    def corpus(self, tell: Tell | None = None) -> Corpus:
        return Corpus.load(
            self.train,
            self.valid,
            self.test,
            labels=self.labels,
            tokens=self.tokens,
            size=self.size,
            min_count=self.min_count,
            max_length=self.max_length,
            items=self.items,
            seed=self.split_seed,
            tell=tell,
        )


@dataclass(frozen=True, kw_only=True)
class Stdlib(Corpora):
    """Sentences of the standard library's documentation; see `data.stdlib.corpus`.

    Arguments:
        train, valid, test: How many sentences.
        size: The most types of the vocabulary, without markers.
        split_seed: Of the choice of sentences; part of the data, so not the seed of a training.
    """

    train: Count = 4000
    valid: Count = 500
    test: Count = 500
    size: Count = 1000
    split_seed: Index = 0

    def corpus(self, tell: Tell | None = None) -> Corpus:
        return stdlib.corpus(self.train, self.valid, self.test, self.size, self.split_seed)


@dataclass(frozen=True, kw_only=True)
class Synthetic(Corpora):
    """The synthetic sequences of He et al. (2019); see `data.synthetic.corpus`."""

    def corpus(self, tell: Tell | None = None) -> Corpus:
        return synthetic.corpus()


@dataclass(frozen=True)
class Texts:
    """A corpus and how it becomes batches; see `Corpora`."""

    corpus: Corpus
    batch_size: int = 32
    batching: str = "equal"
    evaluation_batch_size: int = 32

    @property
    def fingerprint(self) -> str:
        """The corpus's."""
        return self.corpus.fingerprint

    @property
    def facts(self) -> dict[str, Any]:
        """The number of types, and the vocabulary."""
        return {"vocabulary": len(self.corpus.vocabulary), "words": self.corpus.vocabulary}

    def batches(self, split: str) -> Batched:
        """A split as batches of `Text`."""
        size = self.batch_size if split == "train" else self.evaluation_batch_size
        return self.corpus.batches(split, size, self.batching, seed=0)

    def about(self) -> dict[str, Any]:
        """The vocabulary, and the tokens of the longest training item, markers not counted."""
        words, longest = self.corpus.vocabulary, int(self.corpus.train.lengths.max()) - 2
        return {"tokens": words.tokens, "words": list(words.words), "longest": longest}

    def remarks(self, parameters: Callable[[Mapping[str, Any]], int]) -> Iterator[str]:
        """Items that were left out or are long, and a vocabulary of which the model gets large."""
        yield from _dropped(self.corpus)
        for split in SPLITS:
            yield from _long(self.corpus, split)
        yield from _many(self.corpus, parameters)

    def distinct(self, split: str, limit: int) -> int:
        """How many different sequences there are, counted up to a limit."""
        items: Sequences = getattr(self.corpus, split)
        found: set[tuple[int, ...]] = set()
        for block in items.blocks():
            found.update(map(tuple, block))
            if len(found) >= limit:
                return limit
        return len(found)


def _dropped(corpus: Corpus) -> Iterator[str]:
    said = [f"{n:,} of {n + len(getattr(corpus, split)):,} in `{split}`" for split, n in corpus.dropped.items() if n]
    if said:
        yield f"left out, being longer than data.max_length: {', '.join(said)}."


def _long(corpus: Corpus, split: str) -> Iterator[str]:
    lengths = torch.from_numpy(getattr(corpus, split).lengths) - 2
    most, median = int(lengths.max()), int(lengths.median())
    if most <= max(LONG, FAR * median):
        return
    tokens, place = corpus.longest
    where = f" ({place})" if tokens == most else ""
    nearly = int(lengths.kthvalue(max(1, len(lengths) * 99 // 100)).values)
    yield (
        f"the longest item of `{split}`{where} has {most:,} tokens, the median {median:,}: a pass over it takes that "
        f"many steps one after the other and keeps all of them in memory. 99 % of the items have at most {nearly:,}: "
        f"leave the others out with --set data.max_length={nearly}."
    )


def _many(corpus: Corpus, parameters: Callable[[Mapping[str, Any]], int]) -> Iterator[str]:
    types = len(corpus.vocabulary)
    if types <= MANY:
        return
    total, rest = (parameters({"vocabulary": size, "words": corpus.vocabulary}) for size in (types, 1))
    yield (
        f"the vocabulary has {types:,} types, {corpus.once:,} of which appear once in `train`, and the model therefore "
        f"{total / 1e6:,.0f} million parameters, {1 - rest / total:.0%} of them for the vocabulary: "
        f"{8 * total / GIGA:.1f} GB of weights and gradients. Keep the most frequent types with --set data.size=20000, "
        "or leave rare ones out with --set data.min_count=2."
    )
