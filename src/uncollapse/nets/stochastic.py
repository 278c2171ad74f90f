"""A recurrent model with a latent variable at every step, whose posterior knows what follows: Z-Forcing."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, kl_divergence
from torch.nn import functional as F

from uncollapse.bound import Batch, Bound, seen, target
from uncollapse.data.text import Text
from uncollapse.distributions.scoring import wide
from uncollapse.distributions.tokens import PAD, Tokens
from uncollapse.errors import InputError
from uncollapse.nets.recurrent import reversed_steps
from uncollapse.nets.skip import beside
from uncollapse.quantities import Count, Dropout

#: The slope of hidden units below 0, and the largest values of hidden units and of outputs, in the authors' code.
SLOPE, MOST_HIDDEN, MOST_OUT = 1 / 3, 3.0, 8.0


class Perceptron(nn.Module):
    """Makes a Gaussian of what it reads, by one hidden layer.

    Arguments:
        inputs: How many numbers it reads.
        hidden: The units of the hidden layer.
        outputs: The units of the Gaussian.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(inputs, hidden), nn.Linear(hidden, 2 * outputs)

    def forward(self, x: Tensor) -> Normal:
        """N(m, e^s), with shape (..., outputs), for x (..., inputs)."""
        hidden = F.leaky_relu(self.hidden(x), SLOPE).clamp(-MOST_HIDDEN, MOST_HIDDEN)
        mean, log_variance = wide(self.output(hidden)).clamp(-MOST_OUT, MOST_OUT).chunk(2, -1)
        return Normal(mean, (0.5 * log_variance).exp(), validate_args=False)


class BackwardLSTM(nn.Module):
    r"""Reads a text from its end, as a language model of its own.

    .. math:: b_t = \text{LSTM}(b_{t+1}, e(x_{t+1})), \quad p(x_t | b_t) = \text{softmax}(O b_t)

    Arguments:
        vocabulary: V, the number of types with markers.
        embedding: The size of a token's embedding.
        hidden: H, the size of the LSTM.
    """

    def __init__(self, vocabulary: int, embedding: Count, hidden: Count) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.output = nn.Linear(hidden, vocabulary, bias=False)

    @property
    def size(self) -> int:
        """H."""
        return self.lstm.hidden_size

    def forward(self, tokens: Tensor) -> Tensor:
        """b of every step, (B, T, H), for texts (B, T + 1): that of step t has read the tokens after t."""
        lengths = (tokens[:, 1:] != PAD).sum(1)
        states, _ = self.lstm(self.embedding(reversed_steps(tokens[:, 1:], lengths)))
        return reversed_steps(states, lengths)

    def log_prob(self, states: Tensor, tokens: Tensor) -> Tensor:
        """The log-probability of all texts but their last tokens, (B,), each token under the state of its step."""
        before = tokens[:, :-1].where(tokens[:, 1:] != PAD, PAD)
        return Tokens(states, self.output.weight).log_prob(before)


class State(NamedTuple):
    """What the decoder remembers between two steps."""

    h: Tensor
    """(..., H)."""
    c: Tensor
    """(..., H)."""


class StochasticLSTM(nn.Module):
    r"""A language model that draws a latent variable before each step.

    .. math:: p(z_t | h_{t-1}) = N(m, e^s), \quad h_t = \text{LSTM}(h_{t-1}, [e(x_t); z_t]), \quad
              p(x_{t+1} | x_{\le t}, z_{\le t}) = \text{softmax}(O h_t + U z_t)

    m and s are of a perceptron with half as many hidden units as the LSTM has, as in both networks of the authors.

    Arguments:
        vocabulary: V, the number of types with markers.
        embedding: The size of a token's embedding.
        hidden: H, the size of the LSTM.
        latent: d, the size of each z_t.
        dropout_in: The dropout of embeddings, in training mode.
        dropout_out: The dropout of LSTM outputs, in training mode; what comes next does not go through it.
        skip: Whether z_t also reaches the logits directly (U above; without it U = 0).
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
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.cell = nn.LSTMCell(embedding + latent, hidden)
        self.prior = Perceptron(hidden, self.width, latent)
        self.output = nn.Linear(hidden + latent * skip, vocabulary, bias=False)
        self.latent, self.dropout_in, self.dropout_out, self.skip = latent, dropout_in, dropout_out, skip

    @property
    def size(self) -> int:
        """H."""
        return self.cell.hidden_size

    @property
    def width(self) -> int:
        """How many hidden units perceptrons beside it have."""
        return max(1, self.size // 2)

    def embed(self, tokens: Tensor) -> Tensor:
        return F.dropout(self.embedding(tokens), self.dropout_in, self.training)

    def empty(self, *shape: int) -> State:
        """The state before the first step, (*shape, H)."""
        zeros = self.output.weight.new_zeros(*shape, self.size)
        return State(zeros, zeros)

    def advance(self, embedded: Tensor, z: Tensor, state: State) -> State:
        """The state after a step, (..., H), for a token's embedding (..., E) and z (..., d)."""
        shape, arriving = state.h.shape, torch.cat([embedded, z], -1)
        h, c = self.cell(arriving.flatten(0, -2), (state.h.flatten(0, -2), state.c.flatten(0, -2)))
        return State(h.view(shape), c.view(shape))

    def law(self, states: Tensor, z: Tensor) -> Tokens:
        """The law of the tokens that follow the states h (..., T, H), for z (..., T, d)."""
        hidden = F.dropout(states, self.dropout_out, self.training)
        return Tokens(beside(hidden, z, self.skip), self.output.weight)

    def begin(self, z: Tensor) -> State:
        """The state before the first token of N texts, for z (N, 0): each step draws its own."""
        return self.empty(len(z))

    def next(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The logits (N, V) of what follows the tokens (N,) by a draw of the prior, and the state after them."""
        z = self.prior(state.h).sample()
        state = self.advance(self.embed(tokens), z, state)
        return self.law(state.h.unsqueeze(1), z.unsqueeze(1)).logits(), state


class Path(NamedTuple):
    """A walk along every text, of S draws: what each step starts from, draws, and leaves behind."""

    before: Tensor
    """(S, B, T, H)."""
    loc: Tensor
    """(S, B, T, d), the mean of the posterior."""
    scale: Tensor
    """(S, B, T, d), its standard deviation."""
    z: Tensor
    """(S, B, T, d)."""
    after: Tensor
    """(S, B, T, H)."""


class ZForcing(nn.Module):
    r"""A latent variable at every step, which is to predict what a network that reads the text from its end knows.

    .. math:: \log p(x) \ge \mathbb{E}_q \sum_t \log p(x_{t+1} | x_{\le t}, z_{\le t})
              - \mathrm{KL}(q(z_t | h_{t-1}, b_t) \| p(z_t | h_{t-1}))

    The KL is by step. The bound's extras are what the auxiliary costs are made of, in nats, summed over the steps:
    `forcing`, :math:`\mathbb{E}_q \sum_t \log N(b_t; \tanh m(z_t), e^{s(z_t)})` with no gradient for :math:`b_t`, which
    could please z by saying nothing, and `backward`, :math:`\sum_t \log p(x_t | b_t)`. Each draw has a path of its own:
    there are no laws of z given x alone, and so no latent code of a text.

    References:
        | Z-Forcing: Training Stochastic Recurrent Networks (Goyal et al., 2017)
        | https://arxiv.org/abs/1711.05411

    Arguments:
        encoder: Gives b.
        decoder: Gives p and h.
    """

    anew: Callable[[], ZForcing]
    """Makes another like it with parameters drawn anew, where that is known."""

    def __init__(self, encoder: BackwardLSTM, decoder: StochasticLSTM) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.posterior = Perceptron(decoder.size + encoder.size, decoder.width, decoder.latent)
        self.forced = Perceptron(decoder.latent, decoder.width, encoder.size)

    def forward(self, x: Text, q: None = None, samples: int = 1) -> Bound:
        if q is not None:
            raise InputError("the posterior of `ZForcing` depends on the path: none can be given, leave out `q`.")
        real = x.tokens[:, 1:] != PAD
        ahead = self.encoder(x.tokens)
        path = self._path(ahead, seen(x), samples)
        posterior = Normal(path.loc, path.scale, validate_args=False)
        prior = self.decoder.prior(path.before)
        extras = {
            "forcing": _within(self._forcing(path.z, ahead), real).mean(0),
            "backward": self.encoder.log_prob(ahead, x.tokens),
        }
        return Bound(
            x,
            path.z,
            self.decoder.law(path.after, path.z).log_prob(target(x)),
            _within(posterior.log_prob(path.z), real),
            _within(prior.log_prob(path.z), real),
            kl_divergence(posterior, prior).sum(-1).mean(0) * real,
            None,
            None,
            extras,
        )

    def prior_law(self, x: Batch = None) -> Distribution:
        """A law of nothing: the decoder draws its latent variables as it goes."""
        nothing = self.decoder.output.weight.new_ones(0)
        return Independent(Normal(nothing, nothing, validate_args=False), 1, validate_args=False)

    def players(self) -> dict[str, nn.Module]:
        return {
            "inference": nn.ModuleList([self.encoder, self.posterior]),
            "generation": nn.ModuleList([self.decoder, self.forced]),
        }

    def _path(self, ahead: Tensor, tokens: Tensor, samples: int) -> Path:
        batch, length = tokens.shape
        embedded = self.decoder.embed(tokens).expand(samples, -1, -1, -1)
        state = self.decoder.empty(samples, batch)
        # The items first, by which several processes know what is whose.
        noise = torch.randn(batch, length, samples, self.decoder.latent, dtype=state.h.dtype, device=state.h.device)
        steps = []
        for t in range(length):
            law = self.posterior(torch.cat([state.h, ahead[:, t].expand(samples, -1, -1)], -1))
            z = law.loc + law.scale * noise[:, t].transpose(0, 1)
            before, state = state.h, self.decoder.advance(embedded[:, :, t], z, state)
            steps.append((before, law.loc, law.scale, z, state.h))
        return Path(*(torch.stack(each, 2) for each in zip(*steps, strict=True)))

    def _forcing(self, z: Tensor, ahead: Tensor) -> Tensor:
        """(S, B, T, H), the log-density of each unit of b under what z says of it."""
        said = self.forced(z)
        return Normal(said.loc.tanh(), said.scale, validate_args=False).log_prob(ahead.detach())


def _within(values: Tensor, real: Tensor) -> Tensor:
    """The sum (S, B) of values (S, B, T, d) over the steps within each text, `real` (B, T)."""
    return (values.sum(-1) * real).sum(-1)
