"""The transformer encoder and decoder of a text VAE."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncollapse.data.text import Text
from uncollapse.distributions.tokens import PAD, Tokens
from uncollapse.errors import InputError
from uncollapse.nets.pooling import pooled
from uncollapse.nets.skip import beside
from uncollapse.quantities import Count, Dropout

#: How much wider a feed-forward layer is than a state.
WIDER = 4
#: The longest period of rotary positions, as a multiple of 2 pi.
LONGEST = 10_000.0


class TransformerEncoder(nn.Module):
    r"""Reads a whole text with its markers at once, each token looking at all others, and pools the last states.

    .. math:: u = W \, \text{pool}_t \, n(h^L_t), \quad h^0_t = E \, e(x_t), \quad h^l = \text{Block}_l(h^{l-1})

    with n the normalisation of a state; see `Block`. Padding is looked at by no token, and pooled by none.

    References:
        | Attention Is All You Need (Vaswani et al., 2017)
        | https://arxiv.org/abs/1706.03762
        | RoFormer: Enhanced Transformer with Rotary Position Embedding (Su et al., 2021)
        | https://arxiv.org/abs/2104.09864

    Arguments:
        vocabulary: V, the number of types with markers.
        embedding: The size of a token's embedding.
        hidden: H, the size of a state.
        outputs: The size of the result, as 2 d for the mean and log-variance of d units.
        layers: L.
        heads: How many attend in each layer; 2 `heads` must divide `hidden`.
        dropout: The dropout of what each layer adds to a state, in training mode.
        pooling: "first" for the state of `<s>`, "max" for the largest number of each unit over the text, "mean" for
            their mean.

    Raises:
        InputError: where the heads do not divide the states.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: Count,
        hidden: Count,
        outputs: int,
        layers: Count = 2,
        heads: Count = 4,
        dropout: Dropout = 0.1,
        pooling: Literal["first", "max", "mean"] = "first",
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.enter = nn.Linear(embedding, hidden)
        self.blocks = nn.ModuleList(Block(hidden, heads) for _ in range(layers))
        self.output = nn.Linear(hidden, outputs, bias=False)
        self.dropout, self.pooling = dropout, pooling

    def forward(self, x: Text) -> Tensor:
        """The outputs of every text, with shape (B, outputs)."""
        real = x.tokens != PAD
        states = self.enter(self.embedding(x.tokens))
        for block in self.blocks:
            states, _ = block(states, real[:, None, None], dropout=self.dropout)
        return self.output(pooled(_normalised(states), real, self.pooling))


class State(NamedTuple):
    """What a decoder remembers between two tokens, for N texts."""

    z: Tensor
    """(N, d)."""
    kept: Tensor
    """(N, L, 2, heads, t, H / heads), the keys and the values of t places in every layer."""


class TransformerDecoder(nn.Module):
    r"""A causal transformer that z enters as a memory, by addition to every token, or as a prefix.

    .. math:: h^0_t = E \, e(x_{t-1}) + A z, \quad h^l_t = \text{Block}_l(h^{l-1}_t; m^l, h^{l-1}_{\le t}), \quad
              p(x_t | x_{<t}, z) = \text{softmax}(O \, n(h^L_t) + U z)

    with n the normalisation of a state; see `Block`. As a memory, z is a key and a value :math:`m^l = M_l z` in every
    layer; as a prefix it is a token before the first, :math:`P z + b`. Either stands at place 0, and all tokens look
    at it. What is not said to enter so is left out of the formula.

    Step by step it keeps the keys and values of the tokens before, so that each costs one pass of itself.

    References:
        | Attention Is All You Need (Vaswani et al., 2017)
        | https://arxiv.org/abs/1706.03762
        | RoFormer: Enhanced Transformer with Rotary Position Embedding (Su et al., 2021)
        | https://arxiv.org/abs/2104.09864
        | Optimus: Organizing Sentences via Pre-trained Modeling of a Latent Space (Li et al., 2020): "memory+addition"
        | https://arxiv.org/abs/2004.04092
        | Avoiding Latent Variable Collapse with Generative Skip Models (Dieng et al., 2019): `skip`
        | https://arxiv.org/abs/1807.04863

    Arguments:
        vocabulary: V, the number of types with markers.
        embedding: The size of a token's embedding.
        hidden: H, the size of a state.
        latent: d, the size of z.
        layers: L.
        heads: How many attend in each layer; 2 `heads` must divide `hidden`.
        enters: How z does. With "addition" alone, tokens that are all alike do not tell their places.
        dropout_in: The dropout of embeddings, in training mode.
        dropout: The dropout of what each layer adds to a state, in training mode.
        dropout_out: The dropout of the last states, in training mode.
        skip: Whether z also reaches the logits directly (U above; without it U = 0).

    Raises:
        InputError: where the heads do not divide the states.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: Count,
        hidden: Count,
        latent: int,
        layers: Count = 2,
        heads: Count = 4,
        enters: Literal["memory+addition", "memory", "addition", "prefix"] = "memory+addition",
        dropout_in: Dropout = 0.1,
        dropout: Dropout = 0.1,
        dropout_out: Dropout = 0.1,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        self.enter = nn.Linear(embedding, hidden)
        self.blocks = nn.ModuleList(Block(hidden, heads) for _ in range(layers))
        self.memory = nn.Linear(latent, 2 * layers * hidden, bias=False) if "memory" in enters else None
        self.addition = nn.Linear(latent, hidden, bias=False) if "addition" in enters else None
        self.prefix = nn.Linear(latent, hidden) if enters == "prefix" else None
        self.output = nn.Linear(hidden + latent * skip, vocabulary, bias=False)
        self.dropout_in, self.dropout, self.dropout_out, self.skip = dropout_in, dropout, dropout_out, skip
        self.kept = layers, 2, heads, int(self.memory is not None), hidden // heads

    def forward(self, z: Tensor, seen: Tensor) -> Tokens:
        """The law of texts given z (S, B, d) and the tokens before each one, with shape (B, T)."""
        read = self._embed(seen).expand(len(z), -1, -1, -1).flatten(0, 1)
        states, _ = self._advance(read, self.begin(z.flatten(0, 1)))
        return self._law(states.unflatten(0, z.shape[:2]), z.unsqueeze(2))

    def begin(self, z: Tensor) -> State:
        """The state before the first token, for z (N, d)."""
        memory = z.new_empty(len(z), 0) if self.memory is None else self.memory(z)
        state = State(z, memory.view(len(z), *self.kept))
        return state if self.prefix is None else self._after(self.prefix(z).unsqueeze(1), state)[1]

    def next(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The logits (N, V) of what follows the tokens (N,), and the state after them."""
        states, state = self._after(self._embed(tokens.unsqueeze(1)), state)
        return self._law(states, state.z.unsqueeze(1)).logits(), state

    def _embed(self, tokens: Tensor) -> Tensor:
        return self.enter(F.dropout(self.embedding(tokens), self.dropout_in, self.training))

    def _after(self, read: Tensor, state: State) -> tuple[Tensor, State]:
        """The last layer's states of what is read, and the state after it."""
        states, kept = self._advance(read, state)
        return states, State(state.z, torch.stack(kept, 1))

    def _advance(self, read: Tensor, state: State) -> tuple[Tensor, list[Tensor]]:
        """The last layer's states of what is read, both (N, T, H), and what every layer keeps with it."""
        if self.addition is not None:
            read = read + self.addition(state.z).unsqueeze(1)
        length, before = read.shape[1], state.kept.shape[4]
        # Each looks at all that is kept, at itself, and at none after itself.
        seen = torch.ones(length, before + length, dtype=torch.bool, device=read.device).tril(before)
        found: list[Tensor] = []
        for block, kept in zip(self.blocks, state.kept.unbind(1), strict=True):
            read, longer = block(read, seen, kept, self.dropout)
            found.append(longer)
        return _normalised(read), found

    def _law(self, states: Tensor, z: Tensor) -> Tokens:
        """The law of tokens by their states (..., T, H), for z (..., 1, d)."""
        hidden = F.dropout(states, self.dropout_out, self.training)
        return Tokens(beside(hidden, z, self.skip), self.output.weight)


class Block(nn.Module):
    r"""One layer of a transformer: attention and a feed-forward network, each added to a normalised state.

    .. math:: g = h + A(n(h)), \quad h' = g + W_2 \, \text{gelu}(W_1 n(g) + b_1) + b_2

    n takes a state to mean 0 and variance 1. It has no gains of its own, which the products after it would absorb.
    Queries and keys are turned by their places, so that what a token looks at depends on how far away it is.

    Arguments:
        hidden: H, the size of a state.
        heads: How many attend.

    Raises:
        InputError: where the heads do not divide the states.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        if hidden % (2 * heads):
            raise InputError(
                f"{heads} heads cannot share states of {hidden} numbers in pairs: let `hidden` be a multiple of "
                f"{2 * heads}, or set `heads`."
            )
        self.heads = heads
        self.ask = nn.Linear(hidden, 3 * hidden, bias=False)
        self.merge = nn.Linear(hidden, hidden, bias=False)
        self.widen = nn.Linear(hidden, WIDER * hidden)
        self.narrow = nn.Linear(WIDER * hidden, hidden)

    def forward(
        self, states: Tensor, seen: Tensor, kept: Tensor | None = None, dropout: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """The states of the next layer, and the keys and values of all places, those before included.

        Arguments:
            states: With shape (N, T, H).
            seen: At which places each token looks, with a shape that broadcasts to (N, heads, T, places).
            kept: The keys and values of places before, with shape (N, 2, heads, t, H / heads).
            dropout: The dropout of what is added to the states, in training mode.
        """
        attended, kept = self._attended(_normalised(states), seen, kept)
        states = states + F.dropout(attended, dropout, self.training)
        added = self.narrow(F.gelu(self.widen(_normalised(states))))
        return states + F.dropout(added, dropout, self.training), kept

    def _attended(self, states: Tensor, seen: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
        before = 0 if kept is None else kept.shape[3]
        queries, keys, values = self.ask(states).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys = _turned(queries, before), _turned(keys, before)
        here = torch.stack([keys, values], 1)
        kept = here if kept is None else torch.cat([kept, here], 3)
        # No dropout of what is looked at: a fused kernel would draw it by itself, and not by item.
        found = F.scaled_dot_product_attention(queries, *kept.unbind(1), attn_mask=seen)
        return self.merge(found.transpose(1, 2).flatten(2)), kept


def _normalised(states: Tensor) -> Tensor:
    return F.layer_norm(states, states.shape[-1:])


def _turned(vectors: Tensor, before: int) -> Tensor:
    """Vectors (..., T, D) turned by their places, which follow `before` others: the rotary embedding of positions."""
    pairs = vectors.shape[-1] // 2
    places = before + torch.arange(vectors.shape[-2], device=vectors.device)
    angles = places.unsqueeze(1) * LONGEST ** (-torch.arange(pairs, device=vectors.device) / pairs)
    cos, sin = angles.cos().to(vectors.dtype), angles.sin().to(vectors.dtype)
    a, b = vectors.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
