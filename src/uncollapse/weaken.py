"""Decoder wrappers: what hides tokens from a decoder, so that it has to learn from z what it cannot read.

A wrapper changes `seen` alone: the encoder, z and the targets are as they were.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.data.vocabulary import START, UNK
from uncollapse.decoding import stepwise
from uncollapse.distributions.tokens import PAD
from uncollapse.quantities import Positive, Probability

Fill = Literal["unk", "zero"]
#: What a decoder sees in place of a token; ours embed padding as zeros.
FILLERS = {"unk": UNK, "zero": PAD}


def _with_tokens(seen: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """What a decoder may look at, with other tokens: they are all of it, or a field of that name."""
    return change(seen) if isinstance(seen, Tensor) else seen._replace(tokens=change(seen.tokens))


class Dropped(nn.Module, ABC):
    """A decoder that some tokens are hidden from in training mode; `<s>` and padding never are.

    Step by step, as one decodes, it sees all of its own tokens.

    Arguments:
        decoder: What is wrapped.
        fill: What it sees instead: "unk" for `<unk>`, "zero" for padding, which our decoders embed as zeros.
    """

    def __init__(self, decoder: nn.Module, fill: Fill) -> None:
        super().__init__()
        self.decoder, self.fill = decoder, fill

    @abstractmethod
    def dropped(self, real: Tensor) -> Tensor:
        """Which tokens are hidden, with shape (B, T), drawn anew; `real` says which may be, with the same shape."""

    def forward(self, z: Tensor, seen: Any) -> Distribution:
        """The decoder's law given z (S, B, d) and what it may see: tokens (B, T), or those beside something else."""
        return self.decoder(z, _with_tokens(seen, self._hidden) if self.training else seen)

    def _hidden(self, tokens: Tensor) -> Tensor:
        real = (tokens != START) & (tokens != PAD)
        return tokens.masked_fill(self.dropped(real) & real, FILLERS[self.fill])

    def begin(self, z: Tensor, *given: Any) -> Any:
        """The state before the first token, for z (N, d), and what is given beside it."""
        return stepwise(self.decoder).begin(z, *given)

    def next(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The logits (N, V) of what follows the tokens (N,), and the state after them."""
        return stepwise(self.decoder).next(tokens, state)


class TokenDropout(Dropped):
    r"""Hides each token from the decoder with the same probability, in training.

    .. math:: \tilde{x}_t = \text{fill if } m_t \text{ else } x_t, \quad m_t \sim \text{Bernoulli}(\text{rate}), \quad
              p(x | z) = \prod_t p(x_t | \tilde{x}_{<t}, z)

    Every item has draws of its own.

    References:
        | Generating Sentences from a Continuous Space (Bowman et al., 2016): words, by `<unk>`
        | https://arxiv.org/abs/1511.06349
        | Deep Unordered Composition Rivals Syntactic Methods for Text Classification (Iyyer et al., 2015): by zero
        | https://aclanthology.org/P15-1162

    Arguments:
        decoder: What is wrapped.
        vocabulary: The number of types; data that has none has no tokens to hide.
        rate: The probability.
        fill: What is seen instead; see `Dropped`.
    """

    # 62 % are kept in a re-implementation of the first reference (ryokamoi/original_textvae).
    def __init__(self, decoder: nn.Module, vocabulary: int, rate: Probability = 0.38, fill: Fill = "unk") -> None:
        super().__init__(decoder, fill)
        self.rate = rate

    def dropped(self, real: Tensor) -> Tensor:
        return torch.rand(real.shape, device=real.device) < self.rate


class ContiguousDropout(Dropped):
    r"""Hides runs of tokens from the decoder, of random starts and lengths, in training.

    .. math:: m_t \sim \text{Bernoulli}(\text{rate}), \quad l_t \sim \text{Poisson}(\text{length}), \quad
              t \text{ is hidden where } m_k = 1, \; k \le t < k + l_k \text{ for some } k

    .. math:: P(t \text{ is hidden}) = 1 - \prod_{k=0}^{t} (1 - \text{rate} \, P(l > k))

    with t counted from the first token after `<s>`. Runs may overlap, may have no length, and end with the item.

    References:
        | Posterior collapse and the strong generator problem (an article without a named author), Section 4.2

    Arguments:
        decoder: What is wrapped.
        vocabulary: The number of types; data that has none has no tokens to hide.
        rate: The probability that a run starts at a token.
        length: The mean length of a run.
        fill: What is seen instead; see `Dropped`.
    """

    def __init__(
        self,
        decoder: nn.Module,
        vocabulary: int,
        rate: Probability = 0.1,
        length: Positive = 3.5,
        fill: Fill = "unk",
    ) -> None:
        super().__init__(decoder, fill)
        self.rate, self.length = rate, length

    def dropped(self, real: Tensor) -> Tensor:
        starts = real & (torch.rand(real.shape, device=real.device) < self.rate)
        lengths = torch.poisson(torch.full(real.shape, float(self.length), device=real.device))
        places = torch.arange(real.shape[1], device=real.device)
        return places < (places + lengths).where(starts, 0).cummax(1).values


class Historyless(nn.Module):
    r"""Hides all tokens from the decoder, always: each is predicted from z and its place alone.

    .. math:: p(x | z) = \prod_t p(x_t | z, t)

    It is another model and no noise, so it stays in evaluation and generation. All tokens are decoded at once.

    References:
        | A Hybrid Convolutional Variational Autoencoder for Text Generation (Semeniuta et al., 2017)
        | https://arxiv.org/abs/1702.02390

    Arguments:
        decoder: What is wrapped.
        vocabulary: The number of types; data that has none has no tokens to hide.
        sees: What the decoder sees in their place: "unk" for `<s>` and then `<unk>` at every step, as with dropout at
            a rate of 1; "zero" for padding at every step, which our decoders embed as zeros: a recurrent one rolls on
            by itself. The two are one model where `<s>` and `<unk>` have embeddings of 0.
    """

    def __init__(self, decoder: nn.Module, vocabulary: int, sees: Fill = "unk") -> None:
        super().__init__()
        self.decoder, self.sees = decoder, sees

    def forward(self, z: Tensor, seen: Any) -> Distribution:
        """The decoder's law given z (S, B, d) and the places of the tokens (B, T)."""
        return self.decoder(z, _with_tokens(seen, self._blank))

    def begin(self, z: Tensor, *given: Any) -> Any:
        """The state before the first token, for z (N, d), and what is given beside it."""
        return stepwise(self.decoder).begin(z, *given)

    def next(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The logits (N, V) of what follows the tokens (N,), and the state after them."""
        return stepwise(self.decoder).next(self._blank(tokens), state)

    def ahead(self, z: Tensor, length: int, given: Any = None) -> Distribution:
        """The law of the first `length` tokens given z (S, N, d), and what is given beside it."""
        seen = torch.full((z.shape[1], length), UNK, device=z.device)
        seen[:, 0] = START
        return self(z, seen if given is None else given.before(seen))

    def _blank(self, tokens: Tensor) -> Tensor:
        fill = torch.full_like(tokens, FILLERS[self.sees])
        return fill if self.sees == "zero" else fill.where(tokens != START, START)
