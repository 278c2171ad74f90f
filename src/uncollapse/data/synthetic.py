"""Sequences from a known generator with a latent: where a model that ignores z is measurably wrong."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from uncollapse.data.text import Corpus, corpus_from_lines

SEED = 19950927
EMBEDDING, HIDDEN, LATENT = 100, 100, 2


class Drawn(NamedTuple):
    """Sequences and the latents that made them."""

    tokens: Tensor
    """(N, T) long, in 0..V-1."""
    z: Tensor
    """(N, 2)."""


def draw(n: int = 20_000, length: int = 10, vocabulary: int = 1000, seed: int = SEED) -> Drawn:
    r"""Samples an LSTM language model whose z is a mixture of four unit Gaussians at (±2, ±2).

    .. math:: c_0 = W_c z, \quad h_0 = \tanh c_0, \quad h_t = \text{LSTM}([e(x_t); z]), \quad
              x_{t+1} \sim \text{softmax}(W_1 h_t + W_2 z)

    The first token is uniform. All parameters are uniform in (-1, 1), but W_2 in (-5, 5). The global random
    state is neither read nor changed.

    References:
        | Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He et al., 2019)
        | https://arxiv.org/abs/1901.05534
    """
    random = torch.Generator().manual_seed(seed)
    width = EMBEDDING + LATENT + HIDDEN
    embedding, into_cell = _uniform(random, vocabulary, EMBEDDING), _uniform(random, LATENT, HIDDEN)
    gates, bias = _uniform(random, width, 4 * HIDDEN), _uniform(random, 2, 4 * HIDDEN).sum(0)
    output = torch.cat([_uniform(random, HIDDEN, vocabulary), 5 * _uniform(random, LATENT, vocabulary)])

    corner = torch.randint(2, (n, LATENT), generator=random) * 4.0 - 2.0
    z = corner + torch.randn(n, LATENT, generator=random)
    c = z @ into_cell
    h = c.tanh()
    tokens = [torch.randint(vocabulary, (n,), generator=random)]
    for _ in range(length - 1):
        i, f, g, o = (torch.cat([embedding[tokens[-1]], z, h], 1) @ gates + bias).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        # By the inverse of the distribution function: five times as fast as `multinomial`.
        below = (torch.cat([h, z], 1) @ output).softmax(1).cumsum(1)
        uniform = torch.rand(n, 1, generator=random) * below[:, -1:]
        tokens.append(torch.searchsorted(below, uniform).squeeze(1))
    return Drawn(torch.stack(tokens, 1), z)


def sequences(n: int = 20_000, length: int = 10, vocabulary: int = 1000, seed: int = SEED) -> Tensor:
    """The tokens that `draw` draws, with shape (N, T)."""
    return draw(n, length, vocabulary, seed).tokens


def corpus(n: int = 20_000, length: int = 10, vocabulary: int = 1000, seed: int = SEED) -> Corpus:
    """The sequences as text, words `w0`, `w1`, ...: the first 80 % for training, then 10 % and 10 %."""
    lines = [" ".join(f"w{i}" for i in row) for row in sequences(n, length, vocabulary, seed).tolist()]
    tenth = n // 10
    train = n - 2 * tenth
    return corpus_from_lines(lines[:train], lines[train : train + tenth], lines[train + tenth :])


def _uniform(random: torch.Generator, *shape: int) -> Tensor:
    return 2 * torch.rand(*shape, generator=random) - 1
