"""Optimisers: how a player descends.

Each is made of numbers alone, and gives torch's optimiser of some parameters; the step size is the learning rate
times the factor, so that a remedy can raise any recipe's. Each may also average the weights that it steps through.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from uncollapse.errors import InputError, unknown
from uncollapse.quantities import Dropout, Positive, Weight
from uncollapse.training.averaging import Averaging
from uncollapse.training.sharding import in_pieces

#: Optimisers of torch that need more than a gradient: a function to call, or gradients that are sparse.
_OTHERS = ("LBFGS", "SparseAdam")


class Optimiser(Protocol):
    """How one player descends; it may also have `averaging`, see `Averaging`."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def factor(self) -> float: ...
    def over(self, parameters: Iterable[Tensor], scale: float = 1.0) -> torch.optim.Optimizer:
        """The optimiser of some parameters, its step size multiplied by `scale`."""
        ...


@dataclass(frozen=True)
class SGD:
    r"""Stochastic gradient descent, with momentum where that is not 0.

    .. math:: v \leftarrow \mu v + g, \quad \theta \leftarrow \theta - \eta v

    Arguments:
        learning_rate: The step size :math:`\eta`.
        factor: What the learning rate is multiplied by.
        momentum: :math:`\mu`.
        nesterov: Whether the gradient is taken ahead of the step; it needs a momentum.
        weight_decay: The weight of half the squared norm of the parameters.
        averaging: From when on the weights are averaged; None for not at all.

    Raises:
        InputError: for `nesterov` without momentum.
    """

    learning_rate: Positive = 1e-3
    factor: Positive = 1.0
    momentum: Dropout = 0.0
    nesterov: bool = False
    weight_decay: Weight = 0.0
    averaging: Averaging | None = None

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise InputError("`nesterov` needs a momentum: give one above 0, such as 0.9, or leave `nesterov` out.")

    def over(self, parameters: Iterable[Tensor], scale: float = 1.0) -> torch.optim.Optimizer:
        numbers = {"momentum": self.momentum, "nesterov": self.nesterov, "weight_decay": self.weight_decay}
        return _fused(torch.optim.SGD, self, parameters, scale, **numbers)


@dataclass(frozen=True)
class Adam:
    """Adam: steps of a size that the mean square of each gradient decides.

    References:
        | Adam: A Method for Stochastic Optimization (Kingma & Ba, 2015)
        | https://arxiv.org/abs/1412.6980

    Arguments:
        learning_rate: The step size.
        factor: What the learning rate is multiplied by.
        beta1, beta2: What is kept of the mean gradient and of its mean square at each step.
        epsilon: Added to the root of the mean square.
        weight_decay: The weight of half the squared norm of the parameters.
        averaging: From when on the weights are averaged; None for not at all.
    """

    learning_rate: Positive = 1e-3
    factor: Positive = 1.0
    beta1: Dropout = 0.9
    beta2: Dropout = 0.999
    epsilon: Positive = 1e-8
    weight_decay: Weight = 0.0
    averaging: Averaging | None = None

    def over(self, parameters: Iterable[Tensor], scale: float = 1.0) -> torch.optim.Optimizer:
        numbers = {"betas": (self.beta1, self.beta2), "eps": self.epsilon, "weight_decay": self.weight_decay}
        return _fused(torch.optim.Adam, self, parameters, scale, **numbers)


@dataclass(frozen=True)
class AdamW:
    """Adam whose weight decay is a step of its own, not a part of the gradient.

    References:
        | Decoupled Weight Decay Regularization (Loshchilov & Hutter, 2019)
        | https://arxiv.org/abs/1711.05101

    Arguments:
        learning_rate: The step size.
        factor: What the learning rate is multiplied by.
        beta1, beta2: What is kept of the mean gradient and of its mean square at each step.
        epsilon: Added to the root of the mean square.
        weight_decay: The share of a parameter that a step of size 1 takes off it.
        averaging: From when on the weights are averaged; None for not at all.
    """

    learning_rate: Positive = 1e-3
    factor: Positive = 1.0
    beta1: Dropout = 0.9
    beta2: Dropout = 0.999
    epsilon: Positive = 1e-8
    weight_decay: Weight = 0.01
    averaging: Averaging | None = None

    def over(self, parameters: Iterable[Tensor], scale: float = 1.0) -> torch.optim.Optimizer:
        numbers = {"betas": (self.beta1, self.beta2), "eps": self.epsilon, "weight_decay": self.weight_decay}
        return _fused(torch.optim.AdamW, self, parameters, scale, **numbers)


@dataclass(frozen=True)
class Adadelta:
    """Adadelta: steps as long as those before, by the ratio of the mean squares of steps and gradients.

    References:
        | ADADELTA: An Adaptive Learning Rate Method (Zeiler, 2012)
        | https://arxiv.org/abs/1212.5701

    Arguments:
        learning_rate: What a step is multiplied by.
        factor: What the learning rate is multiplied by.
        rho: What is kept of the mean squares at each step.
        epsilon: Added to both mean squares.
        weight_decay: The weight of half the squared norm of the parameters.
        averaging: From when on the weights are averaged; None for not at all.
    """

    learning_rate: Positive = 1.0
    factor: Positive = 1.0
    rho: Dropout = 0.9
    epsilon: Positive = 1e-6
    weight_decay: Weight = 0.0
    averaging: Averaging | None = None

    def over(self, parameters: Iterable[Tensor], scale: float = 1.0) -> torch.optim.Optimizer:
        return torch.optim.Adadelta(
            parameters,
            lr=self.learning_rate * self.factor * scale,
            rho=self.rho,
            eps=self.epsilon,
            weight_decay=self.weight_decay,
        )


@dataclass(frozen=True)
class RMSprop:
    """RMSprop: each gradient divided by the root of its mean square.

    References:
        | Lecture 6e of Neural Networks for Machine Learning (Hinton, 2012)
        | https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf

    Arguments:
        learning_rate: The step size.
        factor: What the learning rate is multiplied by.
        smoothing: What is kept of the mean square at each step.
        momentum: What is kept of a step in the next one.
        centered: Whether the squared mean is taken off the mean square.
        epsilon: Added to the root of the mean square.
        weight_decay: The weight of half the squared norm of the parameters.
        averaging: From when on the weights are averaged; None for not at all.
    """

    learning_rate: Positive = 1e-3
    factor: Positive = 1.0
    smoothing: Dropout = 0.99
    momentum: Dropout = 0.0
    centered: bool = False
    epsilon: Positive = 1e-8
    weight_decay: Weight = 0.0
    averaging: Averaging | None = None

    def over(self, parameters: Iterable[Tensor], scale: float = 1.0) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(
            parameters,
            lr=self.learning_rate * self.factor * scale,
            alpha=self.smoothing,
            momentum=self.momentum,
            centered=self.centered,
            eps=self.epsilon,
            weight_decay=self.weight_decay,
        )


@dataclass(frozen=True)
class TorchOptimiser:
    """Any optimiser of `torch.optim` by its name there, such as NAdam.

    Arguments:
        name: The name of its class.
        learning_rate: The step size.
        factor: What the learning rate is multiplied by.
        options: What else it takes, by name.
        averaging: From when on the weights are averaged; None for not at all.

    Raises:
        InputError: for a name or an option that torch does not have, and a value that it refuses.
    """

    name: str
    learning_rate: Positive = 1e-3
    factor: Positive = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    averaging: Averaging | None = None

    def __post_init__(self) -> None:
        if self.name not in (names := _of_torch()):
            raise unknown("optimiser of `torch.optim`", self.name, names)
        taken = set(inspect.signature(getattr(torch.optim, self.name)).parameters) - {"params", "lr"}
        for option in self.options:
            if option not in taken:
                raise unknown(f"option of `torch.optim.{self.name}`", option, taken)
        self.over([torch.zeros(1, 1)])

    def over(self, parameters: Iterable[Tensor], scale: float = 1.0) -> torch.optim.Optimizer:
        make: Any = getattr(torch.optim, self.name)
        try:
            return make(parameters, lr=self.learning_rate * self.factor * scale, **self.options)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            why = " ".join(str(error).split())
            raise InputError(f"`torch.optim.{self.name}` does not take these options: {why}.") from error


def _of_torch() -> list[str]:
    found = {name for name, kind in vars(torch.optim).items() if isinstance(kind, type)}
    kinds = {name for name in found if issubclass(getattr(torch.optim, name), torch.optim.Optimizer)}
    return sorted(kinds - {"Optimizer", *_OTHERS})


def _fused(
    make: Any, optimiser: Optimiser, parameters: Iterable[Tensor], scale: float, **numbers: Any
) -> torch.optim.Optimizer:
    parameters = list(parameters)
    fused = None if any(map(in_pieces, parameters)) else True  # What is in pieces has no fused step of every kind.
    return make(parameters, lr=optimiser.learning_rate * optimiser.factor * scale, fused=fused, **numbers)


#: By the name that a spec gives them.
OPTIMISERS = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "adadelta": Adadelta,
    "rmsprop": RMSprop,
    "torch": TorchOptimiser,
}
