"""A window of training: sums over some steps, read back from the device only when they are asked for."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from uncollapse.objective import Loss

#: What is counted beside the loss and its parts: outer steps, all steps of players, predicted symbols passed.
STEPS, DESCENTS, SYMBOLS = "steps", "descents", "symbols"


class Move(NamedTuple):
    """A step of some players, as far as it tells when something stopped being finite."""

    step: int
    """The outer step that it is part of, counted from 1."""
    players: tuple[str, ...]
    """Who stepped; nobody for what an outer step came to."""
    values: dict[str, Tensor]
    """The terms, the loss and the gradient's norm, each () and on the device where it arose."""


class Window:
    """Running sums of the loss, its parts and counts, on the device where they arise."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor | float] = {}
        self.trail: list[Move] = []

    def count(self, name: str, number: Tensor | float) -> None:
        """Adds to a sum."""
        number = number.detach() if isinstance(number, Tensor) else number
        self.sums[name] = self.sums[name] + number if name in self.sums else number

    def note(self, step: int, players: tuple[str, ...], loss: Loss, norm: Tensor | None = None) -> None:
        """Remembers a descent. Nothing is computed: it is looked at when the window is read."""
        values = {**loss.parts, "loss": loss.total} | ({} if norm is None else {"gradient": norm})
        self.trail.append(Move(step, players, {name: value.detach() for name, value in values.items()}))

    def close_step(self, step: int, loss: Loss) -> None:
        """Adds an outer step's loss."""
        self.note(step, (), loss)
        for name, value in {**loss.parts, "loss": loss.total, STEPS: 1}.items():
            self.count(name, value)

    def means(self) -> dict[str, float]:
        """The mean of every sum over the outer steps, but the symbols in all."""
        totals = {name: float(value) for name, value in self.sums.items()}
        steps = totals.pop(STEPS, 1.0)
        return {name: total if name == SYMBOLS else total / steps for name, total in totals.items()}
