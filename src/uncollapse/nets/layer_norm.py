"""An LSTM with layer normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerNormLSTM(nn.Module):
    r"""An LSTM that normalises what arrives at all of its gates at a step, together.

    .. math:: i, f, g, o = \sigma, \sigma, \tanh, \sigma \text{ of } \text{LN}(W x_t + b + R h_{t-1}), \quad
              c_t = f c_{t-1} + i g, \quad h_t = o \tanh c_t

    where LN has one mean and one variance of all 4 H numbers of an item, and a gain and a bias for each. The cell is
    not normalised. It is called as torch's own LSTM with `batch_first`, of one layer.

    References:
        | Layer Normalization (Ba et al., 2016)
        | https://arxiv.org/abs/1607.06450
        | A Hybrid Convolutional Variational Autoencoder for Text Generation (Semeniuta et al., 2017)
        | https://arxiv.org/abs/1702.02390

    Arguments:
        inputs: The size of what is read at a step.
        hidden: H.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden_size = hidden
        self.into = nn.Linear(inputs, 4 * hidden)
        self.recurrent = nn.Linear(hidden, 4 * hidden, bias=False)
        self.norm = nn.LayerNorm(4 * hidden, eps=1e-4)  # The reference's.

    def forward(self, x: Tensor, before: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The states at every step, (N, T, H), and those after the last, h and c, each (1, N, H).

        Arguments:
            x: What is read, with shape (N, T, inputs).
            before: h and c before the first step, each (1, N, H); zeros by default.
        """
        zeros = x.new_zeros(len(x), self.hidden_size)
        h, c = (zeros, zeros) if before is None else (state.squeeze(0) for state in before)
        states = []
        for arriving in self.into(x).unbind(1):
            i, f, g, o = self.norm(arriving + self.recurrent(h)).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        return torch.stack(states, 1), (h.unsqueeze(0), c.unsqueeze(0))
