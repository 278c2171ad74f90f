"""What a person should hear of a corpus before hours go into it, in sentences that say what to do."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from uncollapse.data.numbering import SPLITS
from uncollapse.data.sequences import Sequences
from uncollapse.data.text import Corpus
from uncollapse.experiment import build
from uncollapse.experiment.spec import Spec

LONG, FAR = 1000, 20  # an item is long beyond so many tokens, and so many times the median
MANY = 100_000  # types
FEW = 30  # different items
GIGA = 10**9


def on_training(spec: Spec, corpus: Corpus) -> Iterator[str]:
    """What to know before a model is trained."""
    yield from _dropped(corpus)
    for split in SPLITS:
        yield from _long(corpus, split)
    yield from _many(spec, corpus)
    yield from on_items(corpus, "train")


def on_items(corpus: Corpus, split: str) -> Iterator[str]:
    """What to know of figures that are measured on a split."""
    count = distinct(getattr(corpus, split), FEW)
    if count == 1:
        yield f"all items of `{split}` are the same, so that z has nothing to tell: KL and MI can only be 0."
    elif count < FEW:
        yield (
            f"`{split}` holds only {count} different items, so that z can tell no more than which: "
            f"an MI of at most log {count} = {torch.tensor(count).log():.2f} nats."
        )


def distinct(items: Sequences, limit: int) -> int:
    """How many different sequences there are, counted up to a limit."""
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


def _many(spec: Spec, corpus: Corpus) -> Iterator[str]:
    types = len(corpus.vocabulary)
    if types <= MANY or spec.model is None:
        return
    with torch.device("meta"):
        total = sum(p.numel() for p in build.model(spec, {"vocabulary": types}).parameters())
        rest = sum(p.numel() for p in build.model(spec, {"vocabulary": len(SPLITS)}).parameters())
    yield (
        f"the vocabulary has {types:,} types, {corpus.once:,} of which appear once in `train`, and the model therefore "
        f"{total / 1e6:,.0f} million parameters, {1 - rest / total:.0%} of them for the vocabulary: "
        f"{8 * total / GIGA:.1f} GB of weights and gradients. Keep the most frequent types with --set data.size=20000, "
        "or leave rare ones out with --set data.min_count=2."
    )
