"""The AWD-LSTM: an LSTM language model of several layers that dropout of five sorts and tied embeddings regularise."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncollapse.data.sequences import tokens_of
from uncollapse.data.vocabulary import END
from uncollapse.distributions.tokens import PAD, Tokens
from uncollapse.nets.skip import beside
from uncollapse.quantities import Count, Dropout


class State(NamedTuple):
    """What the decoder remembers between two tokens, for N texts; M units in all layers."""

    z: Tensor
    """(N, d)."""
    h: Tensor
    """(N, M)."""
    c: Tensor
    """(N, M)."""


class ActiveTokens(Tokens):
    r"""The law of tokens with how active the states behind it are, for `activation-regularisation`.

    Arguments:
        hidden, weight: As for `Tokens`.
        states: The last layer's states h, with shape (S, B, T, H).
        dropped: The same after dropout, m h.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, states: Tensor, dropped: Tensor) -> None:
        super().__init__(hidden, weight)
        self.states, self.dropped = states, dropped

    def extras(self, seen: Any) -> dict[str, Tensor]:
        r"""Of each item, with shape (B,), the mean over draws.

        .. math:: \text{activation} = \sum_t \frac1H \|m h_t\|^2, \quad
                  \text{change} = \sum_{t > 1} \frac1H \|h_t - h_{t-1}\|^2

        Arguments:
            seen: The tokens before each one, with shape (B, T), or with others beside them; padding and what follows
                `</s>` does not count.
        """
        tokens = tokens_of(seen)
        real = (tokens != PAD) & (tokens != END)
        change = self.states.diff(dim=2).square().mean(-1)
        return {
            "activation": (self.dropped.square().mean(-1) * real).sum(-1).mean(0),
            "change": (change * real[:, 1:]).sum(-1).mean(0),
        }


class AWDLSTMDecoder(nn.Module):
    r"""An LSTM language model with dropped weights (AWD-LSTM) that starts from z and sees z at every step.

    .. math:: c_0 = W z, \quad h_0 = \tanh c_0, \quad h^1_t = \text{LSTM}^1([e(x_{t-1}); z]), \quad
              h^l_t = \text{LSTM}^l(h^{l-1}_t), \quad p(x_t | x_{<t}, z) = \text{softmax}(E h^L_t + U z)

    E are the embeddings, so that the last layer is of their size. In training mode, with a mask for a whole text
    each, there is dropout of the layers' inputs and of the last output; and dropout of whole types, and of the entries
    of the recurrent matrices, with a mask for a whole batch. Unlike the reference's, the logits have no bias.

    References:
        | Regularizing and Optimizing LSTM Language Models (Merity et al., 2018)
        | https://arxiv.org/abs/1708.02182
        | Avoiding Latent Variable Collapse with Generative Skip Models (Dieng et al., 2019): `skip`
        | https://arxiv.org/abs/1807.04863

    Arguments:
        vocabulary: V, the number of types with markers.
        embedding: The size of a token's embedding, and of the last layer (400 in the reference).
        hidden: The size of the other layers (1150 in the reference).
        latent: d, the size of z.
        layers: L.
        dropout_types: Of whole types among the embeddings that are read.
        dropout_in: Of the embeddings.
        dropout_recurrent: Of the entries of the matrices from a state to the next.
        dropout_between: Of the outputs of all layers but the last.
        dropout_out: Of the last layer's outputs.
        skip: Whether z also reaches the logits directly (U above; without it U = 0).
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: Count,
        hidden: Count,
        latent: int,
        layers: Count = 3,
        dropout_types: Dropout = 0.1,
        dropout_in: Dropout = 0.65,
        dropout_recurrent: Dropout = 0.5,
        dropout_between: Dropout = 0.3,
        dropout_out: Dropout = 0.4,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.sizes = [*[hidden] * (layers - 1), embedding]
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.start = nn.Linear(latent, sum(self.sizes), bias=False)
        reads = [embedding + latent, *self.sizes[:-1]]
        self.layers = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in zip(reads, self.sizes, strict=True))
        self.skip = nn.Linear(latent, vocabulary, bias=False) if skip else None
        self.dropout_types, self.dropout_in, self.dropout_recurrent = dropout_types, dropout_in, dropout_recurrent
        self.dropout_between, self.dropout_out = dropout_between, dropout_out

    def forward(self, z: Tensor, seen: Tensor) -> Tokens:
        """The law of texts given z (S, B, d) and the tokens before each one, with shape (B, T)."""
        embedded = self._embed(seen).expand(len(z), -1, -1, -1).flatten(0, 1)
        states, dropped, _ = self._advance(embedded, self.begin(z.flatten(0, 1)))
        states, dropped = (each.unflatten(0, z.shape[:2]) for each in (states, dropped))
        hidden, weight = self._exposed(dropped, z.unsqueeze(2))
        return ActiveTokens(hidden, weight, states, dropped) if self.training else Tokens(hidden, weight)

    def begin(self, z: Tensor) -> State:
        """The state before the first token, for z (N, d)."""
        c = self.start(z)
        return State(z, c.tanh(), c)

    def next(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The logits (N, V) of what follows the tokens (N,), and the state after them."""
        _, dropped, state = self._advance(self._embed(tokens.unsqueeze(1)), state)
        return Tokens(*self._exposed(dropped, state.z.unsqueeze(1))).logits(), state

    def _embed(self, tokens: Tensor) -> Tensor:
        kept = F.dropout(
            self.embedding.weight.new_ones(self.embedding.num_embeddings), self.dropout_types, self.training
        )
        kept[PAD] = 0.0  # Embedded as zeros; as a type that never follows, it has a row of its own.
        return self._locked(self.embedding(tokens) * kept[tokens].unsqueeze(-1), self.dropout_in)

    def _advance(self, read: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """The last layer's states at every step, (N, T, H), the same after dropout, and the state after them."""
        states, dropped = read, torch.cat([read, state.z.unsqueeze(1).expand(-1, read.shape[1], -1)], -1)
        rates = [*[self.dropout_between] * (len(self.layers) - 1), self.dropout_out]
        after = []
        before = zip(state.h.split(self.sizes, -1), state.c.split(self.sizes, -1), strict=True)
        for layer, rate, (h, c) in zip(self.layers, rates, before, strict=True):
            states, h, c = self._run(layer, dropped, h, c)
            dropped = self._locked(states, rate)
            after.append((h, c))
        return states, dropped, State(state.z, *(torch.cat(each, -1) for each in zip(*after, strict=True)))

    def _run(self, layer: nn.Module, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What a layer makes of x (N, T, ...), with some of its recurrent weights dropped, and its state after it."""
        into, recurrent, *biases = layer.parameters()
        recurrent = F.dropout(recurrent, self.dropout_recurrent, self.training)
        before = h.unsqueeze(0).contiguous(), c.unsqueeze(0).contiguous()
        weights = [into, recurrent, *biases]
        states, h, c = torch.lstm(x, before, weights, True, 1, 0.0, self.training, False, batch_first=True)
        return states, h.squeeze(0), c.squeeze(0)

    def _locked(self, x: Tensor, rate: float) -> Tensor:
        """Dropout of x (N, T, H) with a mask for all of its steps."""
        return x * F.dropout(torch.ones_like(x[:, :1]), rate, True) if self.training and rate else x

    def _exposed(self, hidden: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """What the output matrix reads, (..., T, H or H + d), for z (..., 1, d), and the matrix."""
        if self.skip is None:
            return hidden, self.embedding.weight
        return beside(hidden, z, True), torch.cat([self.embedding.weight, self.skip.weight], -1)
