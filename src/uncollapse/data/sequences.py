"""Sequences of ids: many of them in two flat arrays, some of them as a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from uncollapse.data.vocabulary import UNK
from uncollapse.distributions.tokens import PAD

_BLOCK = 2**14  # ids that are read at a time, where all of them are


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
        """A random share of the batch's tokens left to predict, and how much more each of those counts."""
        kept, more = kept_at_random(self.target, share)
        return self.only(kept), more

    def only(self, kept: Tensor) -> Thinned:
        """The batch with some of its tokens (B, T - 1) left to predict."""
        return Thinned(self.tokens, kept)


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


def tokens_of(seen: Any) -> Tensor:
    """The tokens that a decoder may look at: all of it, or a field of that name."""
    return seen if isinstance(seen, Tensor) else seen.tokens


def kept_at_random(target: Tensor, share: float) -> tuple[Tensor, float]:
    """Which tokens of a target (B, T) are kept, drawn without replacement, and how much more each of those counts.

    A sum over them, weighted so, estimates that over all without bias.
    """
    real = (target != PAD).flatten()
    # A number for each place, padding too: how many are drawn must not depend on whose items these are.
    order = torch.rand(target.shape, device=real.device).flatten().masked_fill(~real, 2.0)
    places = int(real.sum())
    kept = max(1, round(share * places))
    mask = torch.zeros_like(real).index_fill(0, order.topk(kept, largest=False).indices, True)
    return mask.view_as(target), places / kept


def as_text(ids: Iterable[Sequence[int]]) -> Text:
    """One batch of sequences of ids, which have their markers."""
    return Text(pad_sequence([torch.tensor(sequence) for sequence in ids], batch_first=True, padding_value=PAD))


def bag(tokens: Tensor, vocabulary: int) -> Tensor:
    """How often each word, `<unk>` the first, is in each text of the tokens (B, T), with shape (B, V - 3)."""
    counts = torch.zeros(len(tokens), vocabulary, device=tokens.device)
    return counts.scatter_add_(1, tokens, counts.new_ones(tokens.shape))[:, UNK:]


@final
class Sequences(Sequence[list[int]]):
    """N sequences of ids, in memory or mapped from a file: two bytes an id, or four, where a list asks eight.

    Arguments:
        ids: All sequences, one behind the other.
        ends: (N,), where each ends in `ids`.
    """

    def __init__(self, ids: np.ndarray, ends: np.ndarray) -> None:
        # Plain views of the same memory: indexing a `np.memmap` itself makes another one every time.
        self.ids, self.ends = np.asarray(ids), np.asarray(ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int | slice) -> Any:
        """One sequence as a list, or a list of some."""
        if isinstance(i, slice):
            return [self[k] for k in range(len(self))[i]]
        i = range(len(self))[i]
        return self.ids[self.ends[i - 1] if i else 0 : self.ends[i]].tolist()

    def __iter__(self) -> Iterator[list[int]]:
        for block in self.blocks():
            yield from block

    def blocks(self) -> Iterator[list[list[int]]]:
        """The sequences in order, a block of ids at a time, or one where it is longer."""
        first, start = 0, 0
        while first < len(self):
            last = max(first + 1, int(self.ends.searchsorted(start + _BLOCK, "right")))
            cuts = (self.ends[first:last] - start).tolist()
            flat = self.ids[start : start + cuts[-1]].tolist()
            yield [flat[a:b] for a, b in zip([0, *cuts[:-1]], cuts, strict=True)]
            first, start = last, start + cuts[-1]

    @property
    def lengths(self) -> np.ndarray:
        """(N,), int64."""
        return np.diff(self.ends, prepend=0)

    def text(self, items: Tensor) -> Text:
        """Some of the sequences, in the order asked, as one batch."""
        which = items.numpy()
        ends = self.ends[which]
        starts = np.where(which == 0, 0, self.ends[which - 1])
        places = starts[:, None] + np.arange((ends - starts).max())
        inside = places < ends[:, None]
        tokens = np.full(places.shape, PAD, np.int64)
        tokens[inside] = self.ids[places[inside]]
        return Text(torch.from_numpy(tokens))
