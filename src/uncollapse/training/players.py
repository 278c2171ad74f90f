"""Players: who can step, with what optimiser, up or down, and whose they are."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from uncollapse.learner import Learner
from uncollapse.training.averaging import Average, Averaging
from uncollapse.training.optimisers import Adam, Optimiser
from uncollapse.training.sharding import in_pieces, like, whole


class Player:
    """What steps as a whole, with an optimiser of its own.

    Arguments:
        learner: What it is.
        optimiser: How it descends, instead of the learner's own.
        term: Whose it is; None for the model.
    """

    def __init__(self, learner: Learner, optimiser: Optimiser | None = None, term: str | None = None) -> None:
        self.module, self.ascends, self.clip, self.term = learner.module, learner.ascends, learner.clip, term
        self.optimiser: Optimiser = optimiser or learner.optimiser or Adam()
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.in_pieces, self.frozen = any(map(in_pieces, self.parameters)), False
        averaging: Averaging | None = getattr(self.optimiser, "averaging", None)  # One's own may know of none.
        self.average = Average(self.parameters, averaging and averaging.interval)
        self.renew(1.0)

    def renew(self, scale: float) -> None:
        """A fresh optimiser, its memory and the mean of the weights gone, the learning rate multiplied by `scale`."""
        self.scale, self._learning_rate, self._factor = scale, self.optimiser.learning_rate, self.optimiser.factor
        self.steps = self.optimiser.over(self.parameters, scale) if self.parameters else None
        self.average.renew()

    def step(self) -> None:
        """Steps by the gradients there are."""
        if self.steps is None:
            return
        if self.ascends:
            for gradient in self.gradients():
                gradient.neg_()
        if self.clip is not None:
            shorten([self], self.clip, self.norm())
        self.steps.step()
        self.average.add()

    def gradients(self) -> list[Tensor]:
        """Those there are."""
        return [p.grad for p in self.parameters if p.grad is not None]

    def norm(self) -> Tensor:
        """The norm of the gradient, (); on the CPU where there is none."""
        gradients = self.gradients()
        if not gradients:
            return torch.zeros(())
        # As torch's own `get_total_norm`, which sorts them by device and type each time.
        norms = torch._foreach_norm(gradients)  # pyright: ignore[reportPrivateImportUsage]
        return torch.linalg.vector_norm(torch.stack(norms))

    @property
    def learning_rate(self) -> float:
        """The learning rate before the plateau's decays; what it is set to counts times their scale and the factor."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = float(value)
        self._set(self._learning_rate * self._factor * self.scale)

    @property
    def factor(self) -> float:
        """What the learning rate is multiplied by."""
        return self._factor

    @factor.setter
    def factor(self, value: float) -> None:
        self._factor = float(value)
        self._set(self._learning_rate * self._factor * self.scale)

    @property
    def step_size(self) -> float:
        """The learning rate at present."""
        return float(self.steps.param_groups[0]["lr"]) if self.steps else 0.0

    def _set(self, step_size: float) -> None:
        for group in self.steps.param_groups if self.steps else ():
            group["lr"] = step_size

    def memory(self) -> dict[str, Tensor]:
        """What the optimiser remembers, by parameter number and name; plain numbers under names that end in "#"."""
        state = self.steps.state_dict()["state"] if self.steps else {}
        return dict(_kept(f"{i}/{k}", v) for i, memory in state.items() for k, v in memory.items() if v is not None)

    def recall(self, memory: dict[str, Tensor], step_size: float, scale: float) -> None:
        """A fresh optimiser at this learning rate, which is that of a scale, with what `memory` gave."""
        self.renew(scale)
        if self.steps is None:
            return
        self._set(step_size)
        state: dict[int, dict[str, Tensor | float]] = {}
        for name, value in memory.items():
            index, key = name.split("/")
            found = value.item() if key.endswith("#") else like(self.parameters[int(index)], value)
            state.setdefault(int(index), {})[key.removesuffix("#")] = found
        self.steps.load_state_dict({**self.steps.state_dict(), "state": state})

    def forget_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def freeze(self, frozen: bool) -> None:
        self.frozen = frozen
        for parameter in self.parameters:
            parameter.requires_grad_(not frozen)


def _kept(name: str, value: Tensor | float) -> tuple[str, Tensor]:
    if isinstance(value, Tensor):
        return name, whole(value)
    return f"{name}#", torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)


def shorten(players: Iterable[Player], clip: float, norm: Tensor) -> None:
    """Multiplies the gradients of some players so that a norm is at most `clip`."""
    # On a processor the norm is at hand, and mostly short enough.
    if norm.device.type == "cpu" and float(norm) + 1e-6 <= clip:
        return
    gradients = [gradient for player in players for gradient in player.gradients()]
    if gradients:
        # As torch's own `clip_grads_with_norm_`.
        short = (clip / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, short)  # pyright: ignore[reportPrivateImportUsage]


def parameters(players: Iterable[Player]) -> list[Tensor]:
    """Those of some players, in order."""
    return [parameter for player in players for parameter in player.parameters]
