"""The hybrid convolutional VAE: networks that read a text, and write z to its places, by convolutions."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncollapse.data.text import Text
from uncollapse.distributions.tokens import PAD, Tokens
from uncollapse.errors import InputError
from uncollapse.nets.layer_norm import LayerNormLSTM
from uncollapse.nets.skip import beside
from uncollapse.quantities import Count, Dropout


class HybridEncoder(nn.Module):
    r"""Reads the first places of a text by convolutions, each of which halves them.

    .. math:: h^0_t = e(x_t), \quad h^l = \text{relu}(\text{BN}(C^{3, 2}_l h^{l-1})), \quad
              u = W \, [h^L_1; h^L_2; \dots]

    where :math:`C^{3, 2}` is a convolution of three taps at every second place. Texts are padded to the same length.

    References:
        | A Hybrid Convolutional Variational Autoencoder for Text Generation (Semeniuta et al., 2017)
        | https://arxiv.org/abs/1702.02390

    Arguments:
        vocabulary: V, the number of types with markers.
        embedding: The size of a token's embedding.
        hidden: Twice the number of channels of the last layers; the first has a quarter of theirs, the second a half.
        outputs: The size of the result, as 2 d for the mean and log-variance of d units.
        length: How many tokens are read, rounded up to a multiple of 2 to the power of `layers`.
        layers: How many convolutions there are.

    Raises:
        InputError: where fewer than two places are left in the end.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: Count,
        hidden: Count,
        outputs: int,
        length: Count = 128,
        layers: Count = 5,
    ) -> None:
        super().__init__()
        widths, least = _widths(hidden, layers), _least(length, layers)
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        self.layers = nn.Sequential(*(_halving(a, b) for a, b in pairwise([embedding, *widths])))
        self.output = nn.Linear(widths[-1] * least, outputs, bias=False)
        self.length = least << layers

    def forward(self, x: Text) -> Tensor:
        """The outputs of every text, with shape (B, outputs)."""
        tokens = F.pad(x.tokens, (0, self.length - x.tokens.shape[1]), value=PAD)  # Or cut, by less than nothing.
        return self.output(self.layers(self.embedding(tokens).transpose(1, 2)).flatten(1))


class State(NamedTuple):
    """What a decoder remembers between two tokens, for N texts."""

    z: Tensor
    """(N, d)."""
    ahead: Tensor
    """(N, T, C), what z has written to this place and the following ones."""
    h: Tensor
    """(N, H)."""
    c: Tensor
    """(N, H)."""


class HybridDecoder(nn.Module):
    r"""Writes z to all places of a text at once by transposed convolutions; an LSTM tells the text from these.

    .. math:: r^0 = A z, \quad r^l = \text{relu}(\text{BN}(\tilde C^{3, 2}_l r^{l-1})), \quad
              h_t = \text{LSTM}([e(x_{t-1}); r_t]), \quad p(x_t | x_{<t}, z) = \text{softmax}(O h_t + U z)

    where :math:`\tilde C^{3, 2}` is a transposed convolution of three taps, which doubles the places. The head
    `Reconstruction` tells each token from :math:`r_t` alone.

    References:
        | A Hybrid Convolutional Variational Autoencoder for Text Generation (Semeniuta et al., 2017)
        | https://arxiv.org/abs/1702.02390
        | Avoiding Latent Variable Collapse with Generative Skip Models (Dieng et al., 2019): `skip`
        | https://arxiv.org/abs/1807.04863

    Arguments:
        vocabulary: V, the number of types with markers.
        embedding: The size of a token's embedding.
        hidden: H, the size of the LSTM; the layers have the channels of `HybridEncoder`, from the last to the second.
        latent: d, the size of z.
        features: C, the size of what z writes to a place, the channels of the last layer.
        length: How many places z is written to, rounded up to a multiple of 2 to the power of `layers`; of z the tokens
            after them see what the LSTM remembers.
        layers: How many transposed convolutions there are.
        dropout_in: The dropout of embeddings, in training mode.
        dropout_out: The dropout of LSTM outputs, in training mode.
        skip: Whether z also reaches the logits directly (U above; without it U = 0).
        layer_norm: Whether the LSTM has layer normalisation, as in the reference; see `LayerNormLSTM`. It takes the
            tokens one after the other.

    Raises:
        InputError: where z is written to fewer than two places at first.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: Count,
        hidden: Count,
        latent: int,
        features: Count = 200,
        length: Count = 128,
        layers: Count = 5,
        dropout_in: Dropout = 0.5,
        dropout_out: Dropout = 0.5,
        skip: bool = False,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        widths, self.least = [*reversed(_widths(hidden, layers)), features], _least(length, layers)
        self.start = nn.Linear(latent, widths[0] * self.least)
        self.layers = nn.Sequential(*(_doubling(a, b) for a, b in pairwise(widths)))
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        read = embedding + features
        self.lstm = LayerNormLSTM(read, hidden) if layer_norm else nn.LSTM(read, hidden, batch_first=True)
        self.output = nn.Linear(hidden + latent * skip, vocabulary, bias=False)
        self.features, self.length = features, self.least << layers
        self.dropout_in, self.dropout_out, self.skip = dropout_in, dropout_out, skip

    def forward(self, z: Tensor, seen: Tensor) -> Tokens:
        """The law of texts given z (S, B, d) and the tokens before each one, with shape (B, T)."""
        embedded = self._embed(seen).expand(len(z), -1, -1, -1)
        read = torch.cat([embedded, self.written(z, seen.shape[1])], -1)
        hidden = self._dropped(self.lstm(read.flatten(0, 1))[0]).unflatten(0, z.shape[:2])
        return Tokens(beside(hidden, z.unsqueeze(2), self.skip), self.output.weight)

    def written(self, z: Tensor, length: int) -> Tensor:
        """What z (S, B, d) writes to the first `length` places, (S, B, length, C): zeros to those it does not reach."""
        first = self.start(z.flatten(0, 1)).unflatten(1, (-1, self.least))
        found = self.layers(first).transpose(1, 2)
        return F.pad(found, (0, 0, 0, length - self.length)).unflatten(0, z.shape[:2])

    def begin(self, z: Tensor) -> State:
        """The state before the first token, for z (N, d)."""
        nothing = z.new_zeros(len(z), self.lstm.hidden_size)
        return State(z, self.written(z.unsqueeze(0), self.length).squeeze(0), nothing, nothing)

    def next(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The logits (N, V) of what follows the tokens (N,), and the state after them."""
        read = torch.cat([self._embed(tokens.unsqueeze(1)), state.ahead[:, :1]], -1)
        found, (h, c) = self.lstm(read, (state.h.unsqueeze(0), state.c.unsqueeze(0)))
        after = State(state.z, F.pad(state.ahead[:, 1:], (0, 0, 0, 1)), h.squeeze(0), c.squeeze(0))
        return Tokens(beside(self._dropped(found), state.z.unsqueeze(1), self.skip), self.output.weight).logits(), after

    def _embed(self, tokens: Tensor) -> Tensor:
        return F.dropout(self.embedding(tokens), self.dropout_in, self.training)

    def _dropped(self, hidden: Tensor) -> Tensor:
        return F.dropout(hidden, self.dropout_out, self.training)


class Reconstruction(nn.Module):
    r"""Predicts every token of a text from what the decoder writes of z to its place, without the tokens before it.

    .. math:: \log p(x | z) = \sum_t \log \text{softmax}(W r_t(z))_{x_t}

    The layers that write are the decoder's, and step by this as well; they are run once more.

    References:
        | A Hybrid Convolutional Variational Autoencoder for Text Generation (Semeniuta et al., 2017)
        | https://arxiv.org/abs/1702.02390

    Arguments:
        vocabulary: V, the number of types with markers.
        decoder: The decoder, a `HybridDecoder`, or one that has `written` and `features` as that does.

    Raises:
        InputError: for a decoder that does not write z to places.
    """

    def __init__(self, vocabulary: int, decoder: nn.Module) -> None:
        super().__init__()
        if "written" not in dir(decoder):
            raise InputError(
                "the head `reconstruction` reads what a decoder writes of z to the places of a text, which "
                f"`{type(decoder).__name__}` does not: take the decoder `hybrid`, or another head."
            )
        made: HybridDecoder = decoder  # pyright: ignore[reportAssignmentType]
        self.written = made.written  # A method, so that the decoder's parameters are not this module's too.
        self.output = nn.Linear(made.features, vocabulary, bias=False)

    def forward(self, z: Tensor, x: Text) -> Tensor:
        """The log-likelihood of each text in nats, (B,), averaged over the draws z (S, B, d)."""
        target = x.tokens[:, 1:]
        return Tokens(self.written(z, target.shape[1]), self.output.weight).log_prob(target).mean(0)


def _widths(hidden: int, layers: int) -> list[int]:
    """The channels of each layer: 128, 256, 512, 512, ... where H is 1024."""
    return [max(1, min(hidden // 2, (hidden // 8) << layer)) for layer in range(layers)]


def _least(length: int, layers: int) -> int:
    """How many places are left where all layers have halved them."""
    least = -(-length // 2**layers)
    if least < 2:
        raise InputError(
            f"a `length` of {length} leaves {layers} `layers` of convolutions one place alone: raise the one, or lower "
            "the other."
        )
    return least


def _halving(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(before, after, 3, 2, 1, bias=False), nn.BatchNorm1d(after), nn.ReLU())


def _doubling(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose1d(before, after, 3, 2, 1, 1, bias=False), nn.BatchNorm1d(after), nn.ReLU())
