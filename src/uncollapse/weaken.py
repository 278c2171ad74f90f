"""Decoder wrappers: what hides tokens from a decoder, so that it has to learn from z what it cannot read.

A wrapper changes `seen` alone: the encoder, z and the targets are as they were.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.data.vocabulary import START, UNK
from uncollapse.decoding import stepwise
from uncollapse.distributions.tokens import PAD
from uncollapse.quantities import Probability


class Dropped(nn.Module, ABC):
    """A decoder that some tokens are hidden from in training mode; `<s>` and padding never are.

    Step by step, as one decodes, it sees all of its own tokens.

    Arguments:
        decoder: What is wrapped.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    @abstractmethod
    def dropped(self, real: Tensor) -> Tensor:
        """Which tokens are hidden, with shape (B, T), drawn anew; `real` says which may be, with the same shape."""

    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        """The decoder's law given z (S, B, d) and what it may see of the tokens (B, T)."""
        if self.training:
            real = (seen != START) & (seen != PAD)
            seen = seen.masked_fill(self.dropped(real) & real, UNK)
        return self.decoder(z, seen)

    def begin(self, z: Tensor) -> Any:
        """The state before the first token, for z (N, d)."""
        return stepwise(self.decoder).begin(z)

    def next(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The logits (N, V) of what follows the tokens (N,), and the state after them."""
        return stepwise(self.decoder).next(tokens, state)


class TokenDropout(Dropped):
    r"""Hides each token from the decoder with the same probability, in training.

    .. math:: \tilde{x}_t = \text{<unk> if } m_t \text{ else } x_t, \quad m_t \sim \text{Bernoulli}(\text{rate}), \quad
              p(x | z) = \prod_t p(x_t | \tilde{x}_{<t}, z)

    References:
        | Generating Sentences from a Continuous Space (Bowman et al., 2016)
        | https://arxiv.org/abs/1511.06349

    Arguments:
        decoder: What is wrapped.
        vocabulary: The number of types; data that has none has no tokens to hide.
        rate: The probability.
    """

    # 62 % are kept in a re-implementation of the reference (ryokamoi/original_textvae).
    def __init__(self, decoder: nn.Module, vocabulary: int, rate: Probability = 0.38) -> None:
        super().__init__(decoder)
        self.rate = rate

    def dropped(self, real: Tensor) -> Tensor:
        return torch.rand(real.shape, device=real.device) < self.rate
