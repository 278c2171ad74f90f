"""A text decoder under which no two codes have one likelihood."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncollapse.distributions.tokens import PAD, Tokens
from uncollapse.nets.lipschitz import Brenier
from uncollapse.nets.lstm import State
from uncollapse.nets.skip import beside
from uncollapse.quantities import Count, Dropout, Weight


class InjectiveDecoder(nn.Module):
    r"""An LSTM language model that z enters behind the LSTM, by a map under which no two z have one output.

    .. math:: h_t = \text{LSTM}(e(x_{t-1}), h_{t-1}), \quad
              p(x_t | x_{<t}, z) = \text{softmax}(O \, g([h_t; z]) + U z), \quad g(y) = \nabla f(y) + L y

    with f convex, see `lipschitz.Brenier`, so that :math:`|g([h; z]) - g([h; z'])| \ge L |z - z'|`. The likelihood
    tells all z apart where the columns of O, less their means, are independent and U = 0. The reference has a second
    map behind O, of the size of the vocabulary.

    References:
        | Posterior Collapse and Latent Variable Non-identifiability (Wang et al., 2021): L = 0
        | https://arxiv.org/abs/2301.00537
        | Controlling Posterior Collapse by an Inverse Lipschitz Constraint on the Decoder Network (Kinoshita et al.,
        | 2023): L > 0
        | https://arxiv.org/abs/2304.12770

    Arguments:
        vocabulary: V, the number of types with markers.
        embedding: The size of a token's embedding.
        hidden: H, the size of the LSTM, and of both layers of f.
        latent: d, the size of z; not more than H.
        inverse_lipschitz: L.
        dropout_in: The dropout of embeddings, in training mode.
        dropout_out: The dropout of LSTM outputs, in training mode.
        skip: Whether z also reaches the logits directly (U above; without it U = 0).
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: Count,
        hidden: Count,
        latent: int,
        inverse_lipschitz: Weight = 0.0,
        dropout_in: Dropout = 0.5,
        dropout_out: Dropout = 0.5,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.gradient = Brenier(hidden + latent, [hidden, hidden])
        self.output = nn.Linear(hidden + latent + latent * skip, vocabulary, bias=False)
        self.inverse_lipschitz, self.skip = inverse_lipschitz, skip
        self.dropout_in, self.dropout_out = dropout_in, dropout_out

    def forward(self, z: Tensor, seen: Tensor) -> Tokens:
        """The law of texts given z (S, B, d) and the tokens before each one, with shape (B, T)."""
        hidden, _ = self._read(seen, None)
        return self._law(hidden, z.unsqueeze(2))

    def begin(self, z: Tensor) -> State:
        """The state before the first token, for z (N, d)."""
        nothing = z.new_zeros(len(z), self.lstm.hidden_size)
        return State(z, nothing, nothing)

    def next(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The logits (N, V) of what follows the tokens (N,), and the state after them."""
        before = state.h.unsqueeze(0), state.c.unsqueeze(0)
        hidden, (h, c) = self._read(tokens.unsqueeze(1), before)
        law = self._law(hidden, state.z.unsqueeze(1))
        return law.logits(), State(state.z, h.squeeze(0), c.squeeze(0))

    def _read(self, seen: Tensor, before: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The LSTM's outputs for tokens (N, T), after dropout, and its states after them."""
        hidden, after = self.lstm(F.dropout(self.embedding(seen), self.dropout_in, self.training), before)
        return F.dropout(hidden, self.dropout_out, self.training), after

    def _law(self, hidden: Tensor, z: Tensor) -> Tokens:
        """The law of tokens by what was read, (..., T, H), for z (..., 1, d)."""
        shape = torch.broadcast_shapes(hidden.shape[:-1], (*z.shape[:-2], hidden.shape[-2]))
        z = z.expand(*shape, -1)
        both = torch.cat([hidden.expand(*shape, -1), z], -1)
        told = self.gradient(both) + self.inverse_lipschitz * both
        return Tokens(beside(told, z, self.skip), self.output.weight)
