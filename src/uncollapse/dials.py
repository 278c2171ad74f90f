"""Dials: schedules that move one number of a run over its outer steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from uncollapse.errors import InputError
from uncollapse.quantities import Count, Dropout, Duration, Positive, Share, Weight, steps

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
        hold: How long the value is `start` before all this, t counted from its end; None for not at all.
    """

    start: Weight
    stop: Weight
    over: Duration
    hold: Duration | None = None

    def __call__(self, step: int) -> float:
        moved = step + 1 if self.hold is None else max(0, step + 1 - _counted(self.hold))
        return self.start + (self.stop - self.start) * min(1.0, moved / _counted(self.over))

    def resolved(self, steps_per_epoch: int) -> Linear:
        return resolved(self, steps_per_epoch)


@dataclass(frozen=True)
class Exponential:
    r"""Grows by the same factor at every step from `start`, reaching `stop` after `over` steps, then constant.

    .. math:: \mathrm{start} \, (\mathrm{stop} / \mathrm{start})^{\min(1, t / \mathrm{over})}

    With r = log(stop / start) / over it is min(stop, start exp(r t)).

    Arguments:
        start: The value at the first step t = 0.
        stop: The value from step `over` on; it falls where that is less than `start`.
        over: A number of steps, or text such as "10 epochs" that `resolved` turns into one.
    """

    start: Positive
    stop: Positive
    over: Duration

    def __call__(self, step: int) -> float:
        return self.start * (self.stop / self.start) ** min(1.0, step / _counted(self.over))


@dataclass(frozen=True)
class Saturating:
    r"""Comes ever closer to `stop`, faster at first; after `over` steps 63 % of the way is done, after 3 `over` 95 %.

    .. math:: \mathrm{stop} - (\mathrm{stop} - \mathrm{start}) \, e^{-t / \mathrm{over}}

    Arguments:
        start: The value at the first step t = 0.
        stop: What it comes close to.
        over: A number of steps, or text such as "3 epochs" that `resolved` turns into one.
    """

    start: Weight
    stop: Weight
    over: Duration

    def __call__(self, step: int) -> float:
        return self.stop - (self.stop - self.start) * math.exp(-step / _counted(self.over))


@dataclass(frozen=True)
class Sigmoid:
    r"""An S from `start` to `stop` around its middle.

    .. math:: \mathrm{start} + (\mathrm{stop} - \mathrm{start}) / (1 + e^{-(t - \mathrm{middle}) / \mathrm{width}})

    Arguments:
        start: What it comes from; at t = 0 it is a little closer to `stop`.
        stop: What it comes close to.
        middle: When half the way is done.
        width: How long it takes from the middle to 73 % of the way.
    """

    start: Weight
    stop: Weight
    middle: Duration
    width: Duration

    def __call__(self, step: int) -> float:
        off = (step - _counted(self.middle)) / _counted(self.width)
        return self.start + (self.stop - self.start) * (1 + math.tanh(off / 2)) / 2  # The same, and never overflows.


@dataclass(frozen=True)
class Cyclical:
    r"""Climbs from `start` to `stop` and stays there for the rest of the period, again in every period.

    .. math:: \mathrm{start} + (\mathrm{stop} - \mathrm{start})
              \min(1, \max(0, \tau - \mathrm{hold}) / \mathrm{ramp}), \quad
              \tau = (t \bmod \mathrm{period}) / \mathrm{period}

    M cycles in T steps are periods of T / M.

    References:
        | Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing (Fu et al., 2019)
        | https://arxiv.org/abs/1903.10145

    Arguments:
        start: The value at the beginning of a period.
        stop: The value at its end.
        period: A number of steps, or text such as "10 epochs" that `resolved` turns into one.
        ramp: Which share of the period it climbs.
        hold: Which share of the period it stays at `start` before.
        cycles: How many periods there are, after which it stays at `stop`; None for no end.

    Raises:
        InputError: where `hold` and `ramp` are more than a period.
    """

    start: Weight
    stop: Weight
    period: Duration
    ramp: Share = 0.5
    hold: Dropout = 0.0
    cycles: Count | None = None

    def __post_init__(self) -> None:
        if self.hold + self.ramp > 1:
            raise InputError(
                f"a `hold` of {self.hold:g} and a `ramp` of {self.ramp:g} are more than a period: let them add up to 1 "
                "at most."
            )

    def __call__(self, step: int) -> float:
        cycle, within = divmod(step, _counted(self.period))
        if self.cycles is not None and cycle >= self.cycles:
            return self.stop
        climbed = (within / _counted(self.period) - self.hold) / self.ramp
        return self.start + (self.stop - self.start) * min(1.0, max(0.0, climbed))


@dataclass(frozen=True)
class Cosine:
    r"""Falls from `start` towards `stop` as half a cosine does, again in every period: a learning rate with restarts.

    .. math:: \mathrm{stop} + (\mathrm{start} - \mathrm{stop}) (1 + \cos \pi \tau) / 2, \quad
              \tau = (t \bmod \mathrm{period}) / \mathrm{period}

    References:
        | SGDR: Stochastic Gradient Descent with Warm Restarts (Loshchilov & Hutter, 2017)
        | https://arxiv.org/abs/1608.03983

    Arguments:
        start: The value at the beginning of a period.
        stop: What it falls to.
        period: A number of steps, or text such as "10 epochs" that `resolved` turns into one.
    """

    start: Weight
    period: Duration
    stop: Weight = 0.0

    def __call__(self, step: int) -> float:
        share = step % _counted(self.period) / _counted(self.period)
        return self.stop + (self.start - self.stop) * (1 + math.cos(math.pi * share)) / 2


def resolved(schedule: Any, steps_per_epoch: int) -> Any:
    """A schedule whose lengths are texts such as "10 epochs", with their numbers of steps."""
    lengths = {name: said for name, said in vars(schedule).items() if isinstance(said, str)}
    return replace(schedule, **{name: steps(said, steps_per_epoch) for name, said in lengths.items()})


def _counted(length: int | str) -> int:
    if isinstance(length, str):
        raise InputError(f'the length "{length}" of a schedule is not in steps yet: call `resolved` first.')
    return length


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
            "`learning_rate` or the `factor` of one of `optimisers`."
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
