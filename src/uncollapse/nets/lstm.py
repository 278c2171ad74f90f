"""The LSTM encoder and decoder of a text VAE."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncollapse.data.text import Text
from uncollapse.distributions.tokens import PAD, Tokens
from uncollapse.errors import unknown
from uncollapse.nets import recurrence
from uncollapse.nets.skip import beside
from uncollapse.quantities import Count, Dropout

#: By kind of initialisation, the uniform ranges of all parameters and then of embeddings.
RANGES = {
    "small_uniform": ((-0.01, 0.01), (-0.1, 0.1)),
    "offset": ((0.04, 0.06), (0.0, 0.2)),
}


class LSTMEncoder(nn.Module):
    """Reads a whole text with its markers; what the last token leaves behind gives the outputs.

    Arguments:
        vocabulary: V, the number of types with markers.
        embedding: The size of a token's embedding.
        hidden: The size of the LSTM.
        outputs: The size of the result, as 2 d for the mean and log-variance of d units.
    """

    def __init__(self, vocabulary: int, embedding: Count, hidden: Count, outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.output = nn.Linear(hidden, outputs, bias=False)

    def forward(self, x: Text) -> Tensor:
        """The outputs of every text, with shape (B, outputs)."""
        hidden, _ = self.lstm(self.embedding(x.tokens))
        # An LSTM does not look ahead, so padding on the right cannot reach the state at the last token.
        last = (x.tokens != PAD).sum(1) - 1
        return self.output(hidden[torch.arange(len(last), device=last.device), last])


class State(NamedTuple):
    """What a decoder remembers between two tokens, for N texts."""

    z: Tensor
    """(N, d)."""
    h: Tensor
    """(N, H)."""
    c: Tensor
    """(N, H)."""


class LSTMDecoder(nn.Module):
    r"""A language model that starts from z and sees z at every step.

    .. math:: c_0 = W z, \quad h_0 = \tanh c_0, \quad h_t = \text{LSTM}([e(x_{t-1}); z]), \quad
              p(x_t | x_{<t}, z) = \text{softmax}(O h_t + U z)

    References:
        | Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He et al., 2019)
        | https://arxiv.org/abs/1901.05534
        | Avoiding Latent Variable Collapse with Generative Skip Models (Dieng et al., 2019): `skip`
        | https://arxiv.org/abs/1807.04863

    Arguments:
        vocabulary: V, the number of types with markers.
        embedding: The size of a token's embedding.
        hidden: H, the size of the LSTM.
        latent: d, the size of z.
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
        dropout_in: Dropout = 0.5,
        dropout_out: Dropout = 0.5,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        self.start = nn.Linear(latent, hidden, bias=False)
        self.lstm = nn.LSTM(embedding + latent, hidden, batch_first=True)
        self.output = nn.Linear(hidden + latent * skip, vocabulary, bias=False)
        self.dropout_in, self.dropout_out, self.skip = dropout_in, dropout_out, skip

    def forward(self, z: Tensor, seen: Tensor) -> Tokens:
        """The law of texts given z (S, B, d) and the tokens before each one, with shape (B, T)."""
        hidden = self._unrolled(z, seen) if self._shares(len(z)) else self._read(z, seen)
        return Tokens(beside(hidden, z.unsqueeze(2), self.skip), self.output.weight)

    def begin(self, z: Tensor) -> State:
        """The state before the first token, for z (N, d)."""
        c = self.start(z)
        return State(z, c.tanh(), c)

    def next(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The logits (N, V) of what follows the tokens (N,), and the state after them."""
        hidden, state = self._advance(self._embed(tokens.unsqueeze(1)), state)
        return Tokens(beside(hidden, state.z.unsqueeze(1), self.skip), self.output.weight).logits(), state

    def _embed(self, tokens: Tensor) -> Tensor:
        return F.dropout(self.embedding(tokens), self.dropout_in, self.training)

    def _read(self, z: Tensor, seen: Tensor) -> Tensor:
        """The LSTM's hidden states, with shape (S, B, T, H), by torch's own LSTM."""
        embedded = self._embed(seen).expand(len(z), -1, -1, -1).flatten(0, 1)
        hidden, _ = self._advance(embedded, self.begin(z.flatten(0, 1)))
        return hidden.unflatten(0, z.shape[:2])

    def _shares(self, samples: int) -> bool:
        """Whether `_unrolled` saves work: the weights are frozen, or the draws share their tokens."""
        learns = any(parameter.requires_grad for parameter in self.lstm.parameters())
        worth = not learns if torch.is_grad_enabled() else samples > 1
        return worth and self.output.weight.device.type == "cpu"

    def _unrolled(self, z: Tensor, seen: Tensor) -> Tensor:
        """The same, by what leaves out the gradients of the weights and reads every token once."""
        into, recurrent, *biases = self.lstm.parameters()
        embedded = self._embed(seen).transpose(0, 1)
        tokens = F.linear(embedded, into[:, : embedded.shape[-1]], biases[0] + biases[1])
        constant = F.linear(z, into[:, embedded.shape[-1] :])
        _, h, c = self.begin(z)
        return self._dropped(recurrence.unrolled(tokens, constant, h, c, recurrent).movedim(0, 2))

    def _advance(self, embedded: Tensor, state: State) -> tuple[Tensor, State]:
        """The LSTM's hidden states at every step, (N, T, H), after dropout, and the state after them."""
        z = state.z.unsqueeze(1).expand(-1, embedded.shape[1], -1)
        before = state.h.unsqueeze(0), state.c.unsqueeze(0)
        hidden, (h, c) = self.lstm(torch.cat([embedded, z], -1), before)
        return self._dropped(hidden), State(state.z, h.squeeze(0), c.squeeze(0))

    def _dropped(self, hidden: Tensor) -> Tensor:
        # Before any other view of it, as the order in memory decides which noise an item gets.
        return F.dropout(hidden, self.dropout_out, self.training)


def initialise(module: nn.Module, kind: str) -> None:
    """Draws all parameters of a module anew.

    References:
        | Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He et al., 2019)
        | https://arxiv.org/abs/1901.05534

    Arguments:
        module: The module.
        kind: "small_uniform", in (-0.01, 0.01) and embeddings in (-0.1, 0.1), as in the reference; "offset",
            in (0.04, 0.06) and (0, 0.2), so that posterior means start off the origin; "torch", PyTorch's.
    """
    if kind not in (*RANGES, "torch"):
        raise unknown("initialisation", kind, (*RANGES, "torch"))
    for part in module.modules():
        if kind == "torch":
            if "reset_parameters" in dir(part):
                part.reset_parameters()  # pyright: ignore[reportCallIssue]
            continue
        low, high = RANGES[kind][isinstance(part, nn.Embedding)]
        for parameter in part.parameters(recurse=False):
            nn.init.uniform_(parameter, low, high)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            nn.init.zeros_(part.weight[part.padding_idx])
