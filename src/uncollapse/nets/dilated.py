"""A decoder of dilated causal convolutions, whose context is a matter of its dilations."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uncollapse.distributions.tokens import PAD, Tokens
from uncollapse.nets.skip import beside
from uncollapse.quantities import Count, Dropout

#: How many tokens a convolution looks at.
TAPS = 3
_M = (1, 2, 4, 8, 16)
#: The dilations of the blocks, by the names that the reference gives its sizes.
SIZES = {"s": (1, 2, 4), "m": _M, "l": 2 * _M, "vl": 3 * _M}


class DilatedDecoder(nn.Module):
    r"""A causal convolutional language model that sees z at every step and a limited number of tokens before it.

    .. math:: h^0_t = W [e(x_{t-1}); z], \quad h^l = \text{relu}(h^{l-1} + B_l(h^{l-1})), \quad
              p(x_t | x_{<t}, z) = \text{softmax}(O h^L_t + U z)

    .. math:: B_l = C^1_l \circ \text{relu} \circ C^{3, d_l}_l \circ \text{relu} \circ C^1_l

    where :math:`C^1` is a product with a matrix at each step, and :math:`C^{3, d}` a convolution of three taps, d steps
    apart, the last of them on the step itself. A step sees the last :math:`1 + 2 \sum_l d_l` tokens (15, 63, 125, 187).

    It has no state, so that step-wise decoding runs over the whole prefix for every token.

    References:
        | Improved Variational Autoencoders for Text Modeling using Dilated Convolutions (Yang et al., 2017)
        | https://arxiv.org/abs/1702.08139
        | Avoiding Latent Variable Collapse with Generative Skip Models (Dieng et al., 2019): `skip`
        | https://arxiv.org/abs/1807.04863

    Arguments:
        vocabulary: V, the number of types with markers.
        embedding: The size of a token's embedding.
        hidden: H, the size of a step's state; within a block it is half of that (1024 and 512 in the reference).
        latent: d, the size of z.
        size: "s" for dilations of 1, 2, 4, "m" for 1, 2, 4, 8, 16, "l" for those twice, "vl" for them three times.
        dropout_in: The dropout of embeddings, in training mode.
        dropout_out: The dropout of the last states, in training mode.
        skip: Whether z also reaches the logits directly (U above; without it U = 0).
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: Count,
        hidden: Count,
        latent: int,
        size: Literal["s", "m", "l", "vl"] = "s",
        dropout_in: Dropout = 0.5,
        dropout_out: Dropout = 0.5,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        self.enter = nn.Linear(embedding + latent, hidden)
        self.blocks = nn.Sequential(*(Block(hidden, dilation) for dilation in SIZES[size]))
        self.output = nn.Linear(hidden + latent * skip, vocabulary, bias=False)
        self.dropout_in, self.dropout_out, self.skip = dropout_in, dropout_out, skip

    def forward(self, z: Tensor, seen: Tensor) -> Tokens:
        """The law of texts given z (S, B, d) and the tokens before each one, with shape (B, T)."""
        embedded = F.dropout(self.embedding(seen), self.dropout_in, self.training)
        shape = len(z), *embedded.shape[:2]
        everywhere = z.unsqueeze(2).expand(*shape, -1)
        read = torch.cat([embedded.expand(*shape, -1), everywhere], -1).flatten(0, 1)
        states = self.blocks(self.enter(read).transpose(1, 2)).transpose(1, 2)
        hidden = F.dropout(states, self.dropout_out, self.training).unflatten(0, shape[:2])
        return Tokens(beside(hidden, everywhere, self.skip), self.output.weight)


class Block(nn.Module):
    """One residual block, from states (N, H, T) to states of that shape.

    Arguments:
        hidden: H.
        dilation: How many steps lie between two taps.
    """

    def __init__(self, hidden: int, dilation: int) -> None:
        super().__init__()
        inner = max(1, hidden // 2)
        self.narrow = nn.Conv1d(hidden, inner, 1)
        self.look = nn.Conv1d(inner, inner, TAPS, dilation=dilation)
        self.widen = nn.Conv1d(inner, hidden, 1)
        self.before = dilation * (TAPS - 1)

    def forward(self, states: Tensor) -> Tensor:
        # Zeros on the left alone: no step sees one after it.
        narrow = F.pad(self.narrow(states).relu(), (self.before, 0))
        return (states + self.widen(self.look(narrow).relu())).relu()
