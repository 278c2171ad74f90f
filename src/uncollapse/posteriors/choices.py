"""Posteriors of choices among classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.distributions.one_hots import OneHots
from uncollapse.errors import InputError
from uncollapse.posteriors import Posterior
from uncollapse.quantities import Count, Positive


class Choosing(nn.Module):
    """The family of choices: with relaxed draws in training mode where it is asked for, exact ones elsewhere.

    Arguments:
        classes: C, of each choice.
        temperature: Of relaxed draws; a number that a dial may move.
        relaxed: Whether draws in training mode are relaxed; else only their gradient is.
    """

    def __init__(self, classes: int, temperature: float, relaxed: bool) -> None:
        super().__init__()
        self.classes, self.temperature, self.relaxed = classes, temperature, relaxed

    def forward(self, logits: Tensor) -> Distribution:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).unflatten(-1, (-1, self.classes))
        return OneHots(logits, self.temperature, self.relaxed and self.training)


def groups(latent: int, classes: int) -> int:
    """How many choices among so many classes make a code of so many units.

    Raises:
        InputError: where none do.
    """
    if latent % classes:
        raise InputError(
            f"choices among {classes} classes make codes of {classes}, {2 * classes}, ... units, and `model.latent` is "
            f"{latent}: change it, or `classes` of both posterior and prior."
        )
    return latent // classes


def choices(
    net: Callable[[int], nn.Module],
    latent: int,
    classes: Count,
    temperature: Positive = 1.0,
    draws: Literal["relaxed", "straight-through"] = "relaxed",
) -> Posterior:
    r"""Choices among classes, independent of each other, in place of numbers.

    .. math:: \mathrm{KL} = \sum_g \log C - H(q(z_g | x)) \quad\text{under equally likely classes}

    The KL is exact, in nats, by choice. In training z is a relaxed draw, or an exact one with a relaxed draw's
    gradient; in evaluation it is exact, and so are the importance weights. The prior must be of as many classes.

    References:
        | Categorical Reparameterization with Gumbel-Softmax (Jang, Gu & Poole, 2017)
        | https://arxiv.org/abs/1611.01144
        | The Concrete Distribution (Maddison, Mnih & Teh, 2017)
        | https://arxiv.org/abs/1611.00712

    Arguments:
        net: Makes the encoder's network, from the number of its outputs.
        latent: The number of units, `classes` for each choice.
        classes: C, of each choice.
        temperature: Of relaxed draws: the lower, the nearer to choices, and the more their gradient varies.
        draws: In training; "straight-through" for exact ones with a relaxed gradient.
    """
    groups(latent, classes)
    return Posterior(net(latent), Choosing(classes, temperature, draws == "relaxed"), (latent,))
