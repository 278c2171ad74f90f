"""The types of numbers and lengths that parts take, each with the limits beyond which it is refused.

A part says them in its signature, where type checkers read them as plain numbers; a spec checks them and turns texts
such as "10 epochs" into numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

from uncollapse.errors import InputError

#: The longest duration, in steps.
MOST = 1e15
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(epochs?|steps?)\s*")
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*nats?\s*/\s*(item|unit)\s*")


def steps(duration: int | str, steps_per_epoch: int) -> int:
    """A duration such as 500, "500 steps" or "2.5 epochs" in outer steps, at least 1.

    Raises:
        InputError: where the text is no duration.
    """
    if isinstance(duration, int):
        duration = f"{min(duration, 10**18)} steps"  # Python writes no number of thousands of digits.
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise InputError(
            f'`{duration[:80]}` is no duration: write "10 epochs", "500 steps", or a whole number of steps.'
        )
    amount = float(match[1])
    if amount <= 0:
        raise InputError(f"`{duration}` has no length: a schedule takes at least one step.")
    total = amount * steps_per_epoch if match[2].startswith("epoch") else amount
    if total > MOST:
        raise InputError(f"`{duration[:80]}` is more than {MOST:.0e} steps: nobody will see its end.")
    return max(1, round(total))


def nats(rate: float | str, units: int) -> float:
    """A rate such as "8 nats/item" or "0.25 nats/unit" in nats an item; a plain number is nats an item.

    Raises:
        InputError: where the text is no rate.
    """
    if isinstance(rate, int | float):
        return float(rate)
    match = _RATE.fullmatch(rate)
    if match is None:
        raise InputError(
            f'`{rate[:80]}` is no rate: write "8 nats/item", "0.25 nats/unit", or a number of nats an item.'
        )
    return float(match[1]) * (units if match[2] == "unit" else 1)


@dataclass(frozen=True)
class Said:
    """Marks a type whose values may be texts that stand for a number.

    Arguments:
        check: Raises a ValueError, with what to write instead, for what stands for none.
        resolve: From a value and the fact of that name to the number.
        fact: What of the run the number depends on.
    """

    check: Callable[[object], Any]
    resolve: Callable[[Any, Any], Any]
    fact: str

    def resolved(self, value: Any, facts: Mapping[str, Any]) -> Any:
        """The number that a value stands for; the value itself where the fact is not known yet."""
        return self.resolve(value, facts[self.fact]) if self.fact in facts else value


def _duration(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str) or (isinstance(value, int) and value < 1):
        raise ValueError('write "10 epochs", "500 steps", or a whole number of steps from 1 on')
    steps(value, 1)
    return value


def _rate(value: object) -> float | str:
    negative = isinstance(value, int | float) and not 0 <= value < float("inf")
    if isinstance(value, bool) or not isinstance(value, int | float | str) or negative:
        raise ValueError('write "8 nats/item", "0.25 nats/unit", or a number of nats an item from 0 on')
    nats(value, 1)
    return value


Count = Annotated[int, Ge(1), Le(2**63 - 1)]
#: A number from 0 on that a generator takes as its seed.
Index = Annotated[int, Ge(0), Le(2**63 - 1)]
Positive = Annotated[float, Gt(0)]
Weight = Annotated[float, Ge(0)]
Probability = Annotated[float, Ge(0), Le(1)]
#: A probability that is not 1.
Dropout = Annotated[float, Ge(0), Lt(1)]
#: A part of a whole that is not nothing.
Share = Annotated[float, Gt(0), Le(1)]
#: A length of training: "10 epochs", "500 steps", or a whole number of steps.
Duration = Annotated[int | str, Said(_duration, steps, "steps_per_epoch")]
#: A rate: "8 nats/item", "0.25 nats/unit", or a number of nats an item, which is what a part gets.
Rate = Annotated[float | str, Said(_rate, nats, "latent")]


@dataclass(frozen=True)
class Place:
    """Marks a text that is the path of a file: it is no part of what a run is, only where it finds what it reads."""


File = Annotated[str, Place()]


@dataclass(frozen=True)
class Slot:
    """Marks a type whose values are parts.

    Arguments:
        name: Of the table of parts.
        default: The kind that is meant where none is said.
        later: Whether the part that takes it makes it itself: it gets what makes it of the further facts it names.
    """

    name: str
    default: str | None = None
    later: bool = False


#: What makes a part of the facts that are named in its call.
Maker = Callable[..., Any]
