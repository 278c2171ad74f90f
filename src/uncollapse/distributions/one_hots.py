"""The law of several independent choices, each of one of some classes."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.kl import register_kl

from uncollapse.distributions.operations import pairwise_by_group, rebuild, space


class OneHots(Distribution):
    r"""G independent choices among C classes: a vector of G C numbers, in every group of C a one and zeros.

    .. math:: \log p(z) = \sum_g \sum_c z_{gc} \log \text{softmax}(l_g)_c

    `sample` is exact. `rsample` gives what it would, with the gradient of the relaxed draw
    softmax((l + Gumbel noise) / temperature), "straight through"; relaxed, it gives that draw itself. Of a relaxed draw
    `log_prob` is no probability, but the formula above all the same.

    References:
        | Categorical Reparameterization with Gumbel-Softmax (Jang, Gu & Poole, 2017)
        | https://arxiv.org/abs/1611.01144
        | The Concrete Distribution (Maddison, Mnih & Teh, 2017)
        | https://arxiv.org/abs/1611.00712

    Arguments:
        logits: l, with shape (..., G, C).
        temperature: Of relaxed draws, and of the gradient of others.
        relaxed: Whether `rsample` gives relaxed draws.
    """

    arg_constraints: ClassVar[dict] = {"logits": constraints.real}  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    has_rsample = True

    def __init__(
        self, logits: Tensor, temperature: float = 1.0, relaxed: bool = False, validate_args: bool | None = False
    ) -> None:
        self.logits, self.temperature, self.relaxed = logits, temperature, relaxed
        super().__init__(logits.shape[:-2], torch.Size([logits.shape[-2:].numel()]), validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """The probabilities, with shape (..., G C)."""
        return self.logits.softmax(-1).flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        return (value * self.logits.log_softmax(-1).flatten(-2)).sum(-1)

    def entropy(self) -> Tensor:
        return -(self.logits.softmax(-1) * self.logits.log_softmax(-1)).sum((-2, -1))

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.no_grad():
            return self._chosen(self._noisy(sample_shape)).flatten(-2)

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        noisy = self._noisy(sample_shape)
        soft = (noisy / self.temperature).softmax(-1)
        # The difference first: it is 0, and the draw stays one of zeros and ones.
        return (soft if self.relaxed else self._chosen(noisy) + (soft - soft.detach())).flatten(-2)

    def _noisy(self, sample_shape: torch.Size | tuple[int, ...]) -> Tensor:
        shape = torch.Size(sample_shape) + self.logits.shape
        noise = torch.empty(shape, dtype=self.logits.dtype, device=self.logits.device).exponential_()
        return self.logits - noise.log()

    def _chosen(self, noisy: Tensor) -> Tensor:
        return F.one_hot(noisy.argmax(-1), noisy.shape[-1]).to(noisy)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> OneHots:  # pyright: ignore[reportIncompatibleMethodOverride]
        return OneHots(self.logits.expand(*batch_shape, *self.logits.shape[-2:]), self.temperature, self.relaxed)


@register_kl(OneHots, OneHots)
def _kl(q: OneHots, p: OneHots) -> Tensor:
    """By group, (..., G)."""
    log_q = q.logits.log_softmax(-1)
    return (log_q.exp() * (log_q - p.logits.log_softmax(-1))).sum(-1)


@rebuild.register
def _(law: OneHots, values: dict[str, Tensor]) -> OneHots:
    return OneHots(values["logits"], law.temperature, law.relaxed)


@pairwise_by_group.register
def _(law: OneHots, z: Tensor) -> Tensor:
    chosen = z.unflatten(-1, law.logits.shape[-2:])
    return (chosen.unsqueeze(1) * law.logits.log_softmax(-1)).sum(-1)


@space.register
def _(law: OneHots) -> str:
    return f"choices among {law.logits.shape[-1]} classes"
