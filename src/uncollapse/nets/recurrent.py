"""Recurrent encoders of text: of several cells, in one direction or both, with several ways to sum a text up."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from uncollapse.data.text import Text
from uncollapse.data.vocabulary import UNK
from uncollapse.distributions.tokens import PAD
from uncollapse.nets.pooling import pooled
from uncollapse.quantities import Count

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


class RecurrentEncoder(nn.Module):
    r"""Reads a whole text with its markers, once or in both directions, and pools the states into the outputs.

    .. math:: u = W \, \text{pool}_t \, h_t + U n

    Pooled states differ more between texts than last states do, which forget; two directions are pooled one by one. n
    is how often each word is in the text.

    References:
        | Preventing Posterior Collapse in Sequence VAEs with Pooling (Long et al., 2019)
        | https://arxiv.org/abs/1911.03976
        | Variational Autoencoders for Text Modeling without Weakening the Decoder (Kamoi & Fukutomi, 2018): `bag`
        | https://openreview.net/forum?id=H1eZ6sRcFm

    Arguments:
        vocabulary: V, the number of types with markers.
        embedding: The size of a token's embedding.
        hidden: The size of a state of each direction.
        outputs: The size of the result, as 2 d for the mean and log-variance of d units.
        cell: "lstm" or "gru".
        bidirectional: Whether another network reads the text from its end.
        pooling: "last" for the state that the last token read leaves behind, "max" for the largest number of each unit
            over the text, "mean" for their mean.
        bag: Whether the outputs also depend on the text's bag of words directly (U above; without it U = 0).
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: Count,
        hidden: Count,
        outputs: int,
        cell: Literal["lstm", "gru"] = "lstm",
        bidirectional: bool = False,
        pooling: Literal["last", "max", "mean"] = "last",
        bag: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        readers = [CELLS[cell](embedding, hidden, batch_first=True) for _ in range(1 + bidirectional)]
        self.readers = nn.ModuleList(readers)
        self.output = nn.Linear(hidden * len(readers), outputs, bias=False)
        self.words = nn.Embedding(vocabulary, outputs, padding_idx=PAD) if bag else None
        self.pooling = pooling

    def forward(self, x: Text) -> Tensor:
        """The outputs of every text, with shape (B, outputs)."""
        real = x.tokens != PAD
        ways = [x.tokens, reversed_steps(x.tokens, real.sum(1))][: len(self.readers)]
        # Padding is on the right of either, and no reader looks ahead: it cannot reach the states of tokens.
        read = [reader(self.embedding(way))[0] for reader, way in zip(self.readers, ways, strict=True)]
        found = self.output(torch.cat([pooled(states, real, self.pooling) for states in read], -1))
        return found if self.words is None else found + self._bag(x.tokens, self.words)

    def _bag(self, tokens: Tensor, words: nn.Embedding) -> Tensor:
        """U n: the rows of the words of each text, added up; every text has the other markers."""
        return words(tokens).masked_fill((tokens < UNK).unsqueeze(2), 0).sum(1)


def reversed_steps(values: Tensor, lengths: Tensor) -> Tensor:
    """The steps (B, T, ...) of each text from its last to its first, then zeros, which are padding."""
    places = lengths.unsqueeze(1) - 1 - torch.arange(values.shape[1], device=values.device)
    places = places.view(*places.shape, *(1,) * (values.ndim - 2))
    return values.take_along_dim(places.clamp(min=0), 1).masked_fill(places < 0, PAD)
