"""Dials: schedules that move one number of a run over its outer steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from uncollapse.errors import InputError
from uncollapse.quantities import Duration, Weight, steps

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Constant:
    """The same value at every step."""

    value: Weight

    def __call__(self, step: int) -> float:
        return self.value


@dataclass(frozen=True)
class Linear:
    r"""A straight line from `start`, reaching `stop` after `over` steps, then constant.

    .. math:: \mathrm{start} + (\mathrm{stop} - \mathrm{start}) \min(1, (t + 1) / \mathrm{over})

    The value moves before it is used, as in the code of He et al.: the first step t = 0 is already one
    increment above `start`.

    Arguments:
        start: The value before the first step.
        stop: The value from step `over - 1` on.
        over: A number of steps, or text such as "10 epochs" that `resolved` turns into one.
    """

    start: Weight
    stop: Weight
    over: Duration

    def __call__(self, step: int) -> float:
        if isinstance(self.over, str):
            raise InputError(f'the length "{self.over}" of a schedule is not in steps yet: call `resolved` first.')
        return self.start + (self.stop - self.start) * min(1.0, (step + 1) / self.over)

    def resolved(self, steps_per_epoch: int) -> Linear:
        return replace(self, over=steps(self.over, steps_per_epoch))


#: Where the path of a dial may begin.
ROOTS = ("objective", "model", "optimisers")


def turn(root: Any, path: str, value: float) -> None:
    """Sets the number at a dotted path, such as "objective.weights.rate", on an object.

    A number is a plain one, or a floating tensor of no dimension that nobody trains.

    Raises:
        InputError: where the path leads to no number, or to one of the trainer's own.
    """
    *way, last = path.split(".")
    if not way or way[0] not in ROOTS:
        raise InputError(
            f"the dial `{path}` is out of reach: a dial turns a number of `objective`, of `model`, or the "
            "`learning_rate` of one of `optimisers`."
        )
    here = root
    for name in way:
        here = _at(here, name, path)
    there = _at(here, last, path)
    if isinstance(there, Tensor) and there.ndim == 0 and there.is_floating_point() and not there.requires_grad:
        there.fill_(value)
    elif isinstance(there, int) and not isinstance(there, bool):
        raise InputError(
            f"the dial `{path}` leads to the whole number {there}, which says how something is built: a dial turns "
            f"fractions, such as {float(there)}."
        )
    elif not isinstance(there, float):
        raise InputError(f"the dial `{path}` leads to no number, but to {type(there).__name__}.")
    elif isinstance(here, dict):
        here[last] = value
    else:
        setattr(here, last, value)


def _at(here: Any, name: str, path: str) -> Any:
    there = here if isinstance(here, dict) else {n: getattr(here, n) for n in dir(here) if n == name}
    if name not in there:
        raise InputError(f"the dial `{path}` leads nowhere: there is no `{name}`.")
    return there[name]
