"""The law of a padded sequence of tokens, given the hidden states that predict them."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution

from uncollapse.distributions.scoring import scores, wide
from uncollapse.errors import InputError

#: The token that fills short items; as a target it costs nothing.
PAD = 0


class Tokens(Distribution):
    r"""Scores every token with a softmax over the vocabulary, and padding with nothing.

    .. math:: \log p(x | h) = \sum_{t: x_t \ne \text{pad}} \log \text{softmax}(W h_t)_{x_t}

    It holds hidden states instead of logits, as the logits are by far the largest tensor of a language model:
    they are made for the positions that count alone, a few at a time (see `scoring`). A term in the
    logits that depends on z belongs into h: :math:`[W, U] [h_t; z] = W h_t + U z`.

    Arguments:
        hidden: The states h, with shape (..., T, H).
        weight: The matrix W, with shape (V, H).
    """

    arg_constraints: ClassVar[dict] = {}  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]

    def __init__(self, hidden: Tensor, weight: Tensor) -> None:
        self.hidden = hidden
        self.weight = weight
        super().__init__(hidden.shape[:-2], hidden.shape[-2:-1], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, with the batch shapes of value (..., T) and of the law, broadcast."""
        if value.shape[-1:] != self.event_shape:
            raise InputError(
                f"tokens of shape {tuple(value.shape)} do not fit a law of {self.event_shape[0]} tokens: "
                "give the decoder as many tokens to look at (`seen`) as there are to score (`target`)."
            )
        batch = torch.broadcast_shapes(self.batch_shape, value.shape[:-1])
        hidden = self.hidden.expand(*batch, *self.hidden.shape[-2:]).flatten(0, -2)
        target = value.expand(*batch, -1).flatten()
        positions = (target != PAD).nonzero().squeeze(1)
        if len(positions) == len(target):
            return scores(hidden, self.weight, target).view(*batch, -1).sum(-1)
        found = scores(hidden[positions], self.weight, target[positions])
        return found.new_zeros(len(target)).index_copy(0, positions, found).view(*batch, -1).sum(-1)

    def logits(self, position: int = -1) -> Tensor:
        """The logits at one position, with shape (..., V): at the last one, of the token that comes next."""
        return wide(F.linear(self.hidden[..., position, :], self.weight))

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Tokens of every position given its state, with shape (*sample_shape, ..., T).

        Each follows the tokens that its state has seen; to draw whole sequences see `uncollapse.decoding`.
        """
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            probabilities = wide(F.linear(self.hidden, self.weight)).softmax(-1).flatten(0, -2)
            draws = probabilities.multinomial(max(1, torch.Size(sample_shape).numel()), replacement=True)
            return draws.T.reshape(shape)
