"""The prior of a hierarchy of latent variables, and the networks that lead from one group to the next."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from uncollapse.bound import Batch
from uncollapse.distributions.chain import Chain
from uncollapse.distributions.diagonal import Diagonal
from uncollapse.distributions.scoring import wide
from uncollapse.errors import InputError
from uncollapse.nets.mlp import layers
from uncollapse.quantities import Count, Maker, Slot


def split(latent: int, groups: int) -> list[int]:
    """The sizes of equal groups.

    Raises:
        InputError: where there is no whole number of units in each.
    """
    if latent % groups:
        raise InputError(
            f"{latent} latent units do not split into {groups} equal groups: set `model.latent` to a multiple of "
            f"{groups}, or `groups` of posterior and prior."
        )
    return [latent // groups] * groups


def gaussian(mean: Tensor, log_variance: Tensor) -> Diagonal:
    """N(mean, exp(log_variance)), each (..., D), whatever is before the units."""
    log_scale = 0.5 * log_variance
    return Diagonal(mean, log_scale.exp(), 1, log_scale)


class Down(nn.Module):
    """From the groups before one to its mean and log-variance, by a network for each.

    Arguments:
        sizes: Of the groups.
        hidden: The widths of the hidden layers.
        context: How many more numbers each is told.
    """

    def __init__(self, sizes: Sequence[int], hidden: Sequence[int], context: int = 0) -> None:
        super().__init__()
        before = [sum(sizes[:k]) for k in range(1, len(sizes))]
        each = (layers(n + context, list(hidden), 2 * size) for n, size in zip(before, sizes[1:], strict=True))
        self.nets = nn.ModuleList(each)

    def forward(self, k: int, before: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Each (..., D_k), for the groups before (..., D) and numbers (B, C)."""
        if context is not None:
            shape = torch.broadcast_shapes(before.shape[:-1], context.shape[:-1])
            before = torch.cat([before.expand(*shape, -1), context.expand(*shape, -1)], -1)
        mean, log_variance = wide(self.nets[k - 1](before)).chunk(2, -1)
        return mean, log_variance


class HierarchicalPrior(nn.Module):
    r"""Groups of units, each a Gaussian given those before it.

    .. math:: p(z) = p(z_1) \prod_{k > 1} N(z_k; \mu_k(z_{<k}), \sigma_k^2(z_{<k}))

    References:
        | Ladder Variational Autoencoders (Soenderby et al., 2016)
        | https://arxiv.org/abs/1602.02282
        | VAE with a VampPrior (Tomczak & Welling, 2018): a VampPrior for `top`
        | https://arxiv.org/abs/1705.07120

    Arguments:
        latent: The number of units of all groups.
        encoder: The encoder, for a top prior that is made of posteriors; it is not kept.
        top: p(z_1).
        groups: K, of as many units each.
        hidden: The widths of the hidden layers of the network that leads to each group.

    Raises:
        InputError: where the units do not split.
    """

    def __init__(
        self,
        latent: int,
        encoder: nn.Module,
        top: Annotated[Maker, Slot("top-priors", "standard-normal", later=True)],
        groups: Count = 2,
        hidden: list[Count] = [64],  # noqa: B006 - never written to
    ) -> None:
        super().__init__()
        self.sizes = split(latent, groups)
        self.top: Any = top(latent=self.sizes[0], encoder=_Top(encoder))
        self.down = Down(self.sizes, hidden)
        self.of_encoder = "encoder" in signature(self.top.forward).parameters

    def forward(self, encoder: nn.Module) -> Chain:
        return Chain(_Links(self.top(_Top(encoder)) if self.of_encoder else self.top(), self.down), self.sizes)


class _Top(nn.Module):
    """The first group of an encoder's posteriors."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Batch) -> Any:
        law = self.encoder(x)
        if not isinstance(law, Chain):
            raise InputError(
                "a top prior that is made of posteriors needs those of groups: set `model.posterior.kind` to "
                "`hierarchical` or `ladder`."
            )
        return law.first


class _Links(nn.Module):
    """The prior's laws, group by group."""

    def __init__(self, top: Any, down: Down) -> None:
        super().__init__()
        self.top, self.down = top, down

    def forward(self, k: int, features: None, before: Tensor | None) -> Any:
        return self.top if before is None else gaussian(*self.down(k, before))
