"""Decoders of pairs: what writes a target from z and the tags that the target is to have."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncollapse.data.pairs import Before, Condition
from uncollapse.decoding import stepwise
from uncollapse.distributions.tokens import PAD, Tokens
from uncollapse.nets.recurrent import reversed_steps
from uncollapse.nets.skip import beside
from uncollapse.quantities import Count, Dropout

#: What reaches the decoder beside z: nothing, the last state of a reader of the source, or all of its states.
Bypass = Literal["none", "state", "attention"]


class Rows(NamedTuple):
    """What an attention chooses from, for N items."""

    values: Tensor
    """(N, M, E)."""
    keys: Tensor
    """(N, M, A)."""
    there: Tensor
    """(N, M) bool: which of them can be chosen."""


class AdditiveAttention(nn.Module):
    r"""A mean of rows by weights that a query gives them.

    .. math:: a = \sum_m \alpha_m r_m, \quad \alpha = \text{softmax}_m(v^\top \tanh(W h + U r_m))

    References:
        | Neural Machine Translation by Jointly Learning to Align and Translate (Bahdanau et al., 2015)
        | https://arxiv.org/abs/1409.0473

    Arguments:
        query: The size of h.
        row: E, the size of a row.
        size: A, that of what is compared.
    """

    def __init__(self, query: int, row: int, size: int) -> None:
        super().__init__()
        self.query, self.row = nn.Linear(query, size), nn.Linear(row, size, bias=False)
        self.weigh = nn.Linear(size, 1, bias=False)

    def rows(self, values: Tensor, there: Tensor) -> Rows:
        """Rows (N, M, E) of which those can be chosen that are there, (N, M)."""
        return Rows(values, self.row(values), there)

    def forward(self, h: Tensor, rows: Rows) -> Tensor:
        """The mean (N, E) for queries h (N, H)."""
        scores = self.weigh((self.query(h).unsqueeze(1) + rows.keys).tanh()).squeeze(2)
        weights = scores.masked_fill(~rows.there, -torch.inf).softmax(1)
        return torch.bmm(weights.unsqueeze(1), rows.values).squeeze(1)


class State(NamedTuple):
    """What the decoder remembers between two tokens, for N texts."""

    z: Tensor
    """(N, d)."""
    h: Tensor
    """(N, H)."""
    values: Tensor
    keys: Tensor
    there: Tensor
    """Of the tags; see `Rows`."""
    source_values: Tensor
    source_keys: Tensor
    source_there: Tensor
    """Of the source."""

    @property
    def tags(self) -> Rows:
        return Rows(self.values, self.keys, self.there)

    @property
    def source(self) -> Rows:
        return Rows(self.source_values, self.source_keys, self.source_there)


class ConditionalGRU(nn.Module):
    r"""A language model of targets that starts from z, sees z at every step, and attends to the tags.

    .. math:: h_0 = \tanh(W z + b), \quad a_t = \sum_m \alpha_m y_m e_m, \quad
              h_t = \text{GRU}([e(x_{t-1}); a_t; z], h_{t-1}), \quad
              p(x_t | x_{<t}, z, y) = \text{softmax}(O [h_t; a_t])

    with y the tags' flags, e_m their embeddings, and :math:`\alpha` the weights that :math:`h_{t-1}` gives all M rows,
    those of absent tags too, which are zero (`AdditiveAttention`).

    References:
        | Posterior collapse and the strong generator problem (an article without a named author)
        | Multi-space Variational Encoder-Decoders for Semi-supervised Labeled Sequence Transduction (Zhou & Neubig,
        | 2017)
        | https://arxiv.org/abs/1704.01691
        | Avoiding Latent Variable Collapse with Generative Skip Models (Dieng et al., 2019): `skip`
        | https://arxiv.org/abs/1807.04863

    Arguments:
        vocabulary: V, the number of types with markers.
        tags: M, how many tags there are.
        embedding: The size of a token's embedding.
        hidden: H, the size of the GRU.
        latent: d, the size of z.
        tag_embedding: E, the size of a tag's embedding.
        attention: The size of what the attention compares.
        dropout_in: The dropout of embeddings, in training mode.
        dropout_out: The dropout of what predicts a token, in training mode.
        bypass: What of the source reaches the decoder around z, by a bidirectional GRU of H / 2 of its own: nothing,
            so that z is all it knows of it; "state" adds the last states to :math:`W z + b`, as the public code of the
            first reference does with the encoder's; "attention" also attends to all states at every step, as an
            encoder-decoder does. The bound then is on log p(target | source, tags).
        skip: Whether z also reaches the logits directly.
    """

    reads_pairs = True

    def __init__(
        self,
        vocabulary: int,
        tags: int,
        embedding: Count,
        hidden: Count,
        latent: int,
        tag_embedding: Count = 64,
        attention: Count = 64,
        dropout_in: Dropout = 0.0,
        dropout_out: Dropout = 0.0,
        bypass: Bypass = "none",
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        self.tags = nn.Embedding(tags, tag_embedding) if tags else None
        self.attend = AdditiveAttention(hidden, tag_embedding, attention) if tags else None
        read = 2 * max(1, hidden // 2)
        self.reader = Reader(embedding, read // 2) if bypass != "none" else None
        self.enter = nn.Linear(read, hidden, bias=False) if bypass != "none" else None
        self.align = AdditiveAttention(hidden, read, attention) if bypass == "attention" else None
        seen = tag_embedding * bool(tags) + read * (bypass == "attention")
        self.start = nn.Linear(latent, hidden)
        self.cell = nn.GRUCell(embedding + seen + latent, hidden)
        self.output = nn.Linear(hidden + seen + latent * skip, vocabulary, bias=False)
        self.dropout_in, self.dropout_out, self.skip = dropout_in, dropout_out, skip

    def forward(self, z: Tensor, seen: Before) -> Tokens:
        """The law of targets given z (S, B, d), the tokens before each one, and the tags."""
        samples = len(z)
        given = Condition(*(part.repeat(samples, *[1] * (part.ndim - 1)) for part in (seen.tags, seen.source)))
        state = self.begin(z.flatten(0, 1), given)
        found: list[Tensor] = []
        for embedded in self._embed(seen.tokens).repeat(samples, 1, 1).unbind(1):
            features, state = self._advance(embedded, state)
            found.append(features)
        features = F.dropout(torch.stack(found, 1), self.dropout_out, self.training).unflatten(0, z.shape[:2])
        return Tokens(beside(features, z.unsqueeze(2), self.skip), self.output.weight)

    def begin(self, z: Tensor, given: Condition) -> State:
        """The state before the first token, for z (N, d)."""
        none = self._nothing(z)
        tags, source, first = none, none, self.start(z)
        if self.tags is not None and self.attend is not None:
            values = given.tags.unsqueeze(2).to(z) * self.tags.weight
            tags = self.attend.rows(values, torch.ones_like(given.tags, dtype=torch.bool))
        if self.reader is not None and self.enter is not None:
            states, last = self.reader(self.embedding(given.source), given.source != PAD)
            first = first + self.enter(last)
            source = none if self.align is None else self.align.rows(states, given.source != PAD)
        return State(z, first.tanh(), *tags, *source)

    def next(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The logits (N, V) of what follows the tokens (N,), and the state after them."""
        features, state = self._advance(self._embed(tokens), state)
        hidden = beside(F.dropout(features, self.dropout_out, self.training), state.z, self.skip)
        return Tokens(hidden.unsqueeze(1), self.output.weight).logits(), state

    def _embed(self, tokens: Tensor) -> Tensor:
        return F.dropout(self.embedding(tokens), self.dropout_in, self.training)

    def _advance(self, embedded: Tensor, state: State) -> tuple[Tensor, State]:
        """What predicts the next token, (N, H + E), and the state after the tokens with embeddings (N, .)."""
        seen = [] if self.attend is None else [self.attend(state.h, state.tags)]
        seen += [] if self.align is None else [self.align(state.h, state.source)]
        h = self.cell(torch.cat([embedded, *seen, state.z], 1), state.h)
        return torch.cat([h, *seen], 1), state._replace(h=h)

    @staticmethod
    def _nothing(z: Tensor) -> Rows:
        return Rows(z.new_empty(len(z), 0, 0), z.new_empty(len(z), 0, 0), z.new_empty(len(z), 0, dtype=torch.bool))


class Reader(nn.Module):
    """Reads a sequence in both directions.

    Arguments:
        size: Of a token's embedding.
        hidden: Of a state of each direction.
    """

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.forth, self.back = (nn.GRU(size, hidden, batch_first=True) for _ in range(2))

    def forward(self, embedded: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """The states (N, T, 2 H) of tokens, and those (N, 2 H) that the last token read leaves behind."""
        lengths = real.sum(1)
        forth, _ = self.forth(embedded)
        back, _ = self.back(reversed_steps(embedded, lengths))
        last = torch.arange(len(lengths), device=lengths.device), lengths - 1
        return torch.cat([forth, reversed_steps(back, lengths)], 2), torch.cat([forth[last], back[last]], 1)


class Tagged(nn.Module):
    """A decoder of text that is told the tags: z has a further unit for each, 1 where the target is to have it.

    Arguments:
        decoder: The decoder, of so many more units of z.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor, seen: Before) -> Any:
        """The decoder's law given z (S, B, d), the tokens before each target, and the tags."""
        return self.decoder(_with_tags(z, seen.tags), seen.tokens)

    def begin(self, z: Tensor, given: Condition) -> Any:
        """The state before the first token, for z (N, d)."""
        return stepwise(self.decoder).begin(_with_tags(z, given.tags))

    def next(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The logits (N, V) of what follows the tokens (N,), and the state after them."""
        return stepwise(self.decoder).next(tokens, state)


def _with_tags(z: Tensor, tags: Tensor) -> Tensor:
    return torch.cat([z, tags.to(z).expand(*z.shape[:-1], -1)], -1)
