"""Critics: networks that tell draws of one law from those of another, or the class that a draw is of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uncollapse.nets.mlp import layers
from uncollapse.quantities import Count, Dropout, Positive, Weight
from uncollapse.terms.adversarial import cross_entropy


class LatentCritic(nn.Module):
    """Tells where a latent variable is from through layers of rectified units.

    Arguments:
        latent: The number of units of z.
        hidden: The widths of the hidden layers, the first of them next to z; none for a linear critic.
        leak: The slope of a hidden unit below zero.
    """

    def __init__(self, latent: int, hidden: list[Count] = [1000, 1000], leak: Weight = 0.0) -> None:  # noqa: B006 - never written to
        super().__init__()
        self.layers = layers(latent, hidden, 1, leak)

    def forward(self, z: Tensor) -> Tensor:
        """The logit that z is from the first law, with shape (...,) for z (..., d)."""
        return self.layers(z).squeeze(-1)


class BottleneckCritic(nn.Module):
    r"""Tells where a latent variable is from by a noisy encoding of it, which may say little.

    .. math:: \mathbb{E} [\text{cross-entropy}] + \beta (\mathbb{E}_u \mathrm{KL}(E(e | u) \| N(0, I)) - I), \quad
              \beta \leftarrow \max(0, \beta + a (\mathbb{E}_u \mathrm{KL} - I))

    with u from both laws alike. Who is held against it sees the logits of the mean encoding.

    References:
        | Variational Discriminator Bottleneck (Peng et al., 2019)
        | https://arxiv.org/abs/1810.00821

    Arguments:
        latent: The number of units of z.
        hidden: The widths of the hidden layers, the first of them next to z.
        encoding: The number of units of the encoding e.
        capacity: I, what e may say of z on average, in nats.
        rate: a, how fast the multiplier learns.
    """

    beta: Tensor

    def __init__(
        self,
        latent: int,
        hidden: list[Count] = [1000, 1000],  # noqa: B006 - never written to
        encoding: Count = 128,
        capacity: Positive = 0.2,
        rate: Positive = 1e-5,
    ) -> None:
        super().__init__()
        self.body, self.logit = layers(latent, hidden, 2 * encoding), nn.Linear(encoding, 1)
        self.capacity, self.rate = capacity, rate
        self.register_buffer("beta", torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        """The logit that z is from the first law, with shape (...,) for z (..., d)."""
        return self.logit(self.body(z).chunk(2, -1)[0]).squeeze(-1)

    def opposition(self, first: Tensor, second: Tensor) -> Tensor:
        """What it descends on draws of both laws; its multiplier moves by the same draws."""
        (one, costs), (other, more) = self._encoded(first), self._encoded(second)
        excess = 0.5 * (costs.mean() + more.mean()) - self.capacity
        found = cross_entropy(one, other) + self.beta.clone() * excess
        self.beta.add_(self.rate * excess.detach()).clamp_(min=0.0)
        return found

    def _encoded(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of random encodings, and the KL of each."""
        mean, log_variance = self.body(z).chunk(2, -1)
        variance = log_variance.exp()
        drawn = mean + variance.sqrt() * torch.randn_like(mean)
        return self.logit(drawn).squeeze(-1), 0.5 * (mean.square() + variance - 1 - log_variance).sum(-1)


class ClassCritic(nn.Module):
    """Tells the class of an item from z through layers of rectified units.

    Arguments:
        latent: The number of units of z.
        label_classes: How many classes there are.
        hidden: The widths of the hidden layers, the first of them next to z; none for a linear critic.
        dropout: Of each unit of z, in training mode.
    """

    def __init__(
        self,
        latent: int,
        label_classes: int,
        hidden: list[Count] = [512],  # noqa: B006 - never written to
        dropout: Dropout = 0.3,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(dropout), layers(latent, hidden, label_classes))

    def forward(self, z: Tensor) -> Tensor:
        """The logits of the classes, with shape (..., C) for z (..., d)."""
        return self.layers(z)
