"""Heads: what is told of an item from z alone, beside the decoder."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncollapse.data.sequences import Text, bag
from uncollapse.data.vocabulary import UNK
from uncollapse.distributions.scoring import wide
from uncollapse.nets.mlp import layers
from uncollapse.quantities import Count


class BagOfWords(nn.Module):
    r"""Predicts from z which words a text has, whatever their order.

    .. math:: \log p(n | z) = \sum_c n_c \log \text{softmax}(g(z))_c \quad \text{or} \quad
              \sum_c [n_c > 0] \log \sigma(g_c(z)) + [n_c = 0] \log \sigma(-g_c(z))

    where n_c is how often type c is in the text (see `bag`), and the multinomial coefficient, which depends on no
    parameter, is left out. The types are words or characters, as the data has them.

    References:
        | Learning Discourse-level Diversity for Neural Dialog Models using Conditional Variational Autoencoders
        | (Zhao et al., 2017): the multinomial form
        | https://arxiv.org/abs/1703.10960
        | Variational Autoencoders for Text Modeling without Weakening the Decoder (Kamoi & Fukutomi, 2018)
        | https://openreview.net/forum?id=H1eZ6sRcFm

    Arguments:
        vocabulary: V, the number of types with markers.
        latent: d, the size of z.
        form: "multinomial" for how often each type occurs, "presence" for whether it does.
        hidden: The widths of the hidden layers of g, the first of them next to z; none for a linear g.
    """

    def __init__(
        self,
        vocabulary: int,
        latent: int,
        form: Literal["multinomial", "presence"] = "multinomial",
        hidden: list[Count] = [],  # noqa: B006 - never written to
    ) -> None:
        super().__init__()
        self.form, self.vocabulary = form, vocabulary
        self.layers = layers(latent, hidden, vocabulary - UNK)

    def forward(self, z: Tensor, x: Text) -> Tensor:
        """The log-likelihood of the bag of each text in nats, (B,), averaged over the draws z (S, B, d)."""
        counts = bag(x.tokens, self.vocabulary)
        # Draw by draw: an evaluation has hundreds of them, and each has V logits an item.
        return torch.stack([self.score(wide(self.layers(draw)), counts) for draw in z]).mean(0)

    def score(self, logits: Tensor, counts: Tensor) -> Tensor:
        """The log-likelihood (...) of counts under logits, both (..., V - 3)."""
        if self.form == "multinomial":
            return (counts * logits.log_softmax(-1)).sum(-1)
        return (counts.clamp(max=1) * logits - F.softplus(logits)).sum(-1)
