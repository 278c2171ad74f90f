"""Players: who can step, with what optimiser."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from uncollapse.training.sharding import in_pieces, like, whole


@dataclass(frozen=True)
class Optimiser:
    """How one player descends; fused, without weight decay.

    Arguments:
        kind: "adam" or "sgd" (without momentum).
        learning_rate: The step size before any decay.
    """

    kind: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 1e-3

    def over(self, parameters: Iterable[Tensor], scale: float = 1.0) -> torch.optim.Optimizer:
        """The optimiser of some parameters, its learning rate multiplied by `scale`."""
        make = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[self.kind]
        parameters = list(parameters)
        fused = None if any(map(in_pieces, parameters)) else True  # What is in pieces has no fused step of every kind.
        return make(parameters, lr=self.learning_rate * scale, fused=fused)


class Player:
    """A part of the model that steps as a whole, with an optimiser of its own."""

    def __init__(self, module: nn.Module, optimiser: Optimiser) -> None:
        self.module, self.optimiser = module, optimiser
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.renew(1.0)

    def renew(self, scale: float) -> None:
        """A fresh optimiser, its memory gone, the learning rate multiplied by `scale`."""
        self.steps = self.optimiser.over(self.parameters, scale) if self.parameters else None

    def step(self) -> None:
        if self.steps is not None:
            self.steps.step()

    def memory(self) -> dict[str, Tensor]:
        """The optimiser's tensors, by parameter number and name."""
        state = self.steps.state_dict()["state"] if self.steps else {}
        return {f"{i}/{k}": whole(v) for i, memory in state.items() for k, v in memory.items() if v is not None}

    @property
    def learning_rate(self) -> float:
        """The step size at present."""
        return float(self.steps.param_groups[0]["lr"]) if self.steps else 0.0

    def recall(self, memory: dict[str, Tensor], learning_rate: float) -> None:
        """A fresh optimiser at this learning rate, with the tensors that `memory` gave."""
        self.renew(1.0)
        if self.steps is None:
            return
        for group in self.steps.param_groups:
            group["lr"] = learning_rate
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in memory.items():
            index, key = name.split("/")
            state.setdefault(int(index), {})[key] = like(self.parameters[int(index)], value)
        self.steps.load_state_dict({**self.steps.state_dict(), "state": state})

    def forget_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def freeze(self, frozen: bool) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(not frozen)
