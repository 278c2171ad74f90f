"""A procedure in phases: who steps changes as the training goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated

from uncollapse.bound import Batch
from uncollapse.errors import InputError, unknown
from uncollapse.objective import Loss
from uncollapse.quantities import Duration, Slot
from uncollapse.training.play import Play
from uncollapse.training.procedures import Joint


@dataclass(frozen=True)
class Phase:
    """Who steps for a while.

    Arguments:
        players: Who steps on the objective, and whose critics step before it; the others are frozen.
        length: How long; None for the rest of the training.
        terms: The terms of the objective that they descend; None for all of them. Where these read no likelihood, as
            those of a critic of z, the decoder has no pass.
    """

    players: list[str]
    length: Duration | None = None
    terms: list[str] | None = None

    @property
    def steps(self) -> float:
        """Outer steps."""
        if isinstance(self.length, str):
            raise InputError(f'the length "{self.length}" is not in steps yet: give a whole number of steps.')
        return float("inf") if self.length is None else self.length


class Phases(Joint):
    """Players that step in phases, one after the other: first an encoder, say, and then what is made of its codes.

    The last phase lasts as long as the training. What was best in one phase stays best in the next: `Reset` forgets it.

    Arguments:
        phases: By name, in the order of the names.

    Raises:
        InputError: where there is none, and where one follows one that has no end.
    """

    def __init__(self, phases: dict[str, Annotated[Phase, Slot("phases", "phase")]]) -> None:
        self.phases = dict(sorted(phases.items()))
        *before, _ = list(self.phases) or [""]
        if endless := [name for name in before if self.phases[name].length is None]:
            raise InputError(f"the phase `{endless[0]}` has no end, and is not the last: give it a `length`.")
        if not self.phases:
            raise InputError("there is no phase: name one, such as `{players: [inference, generation]}`.")

    def stepping(self, play: Play) -> Sequence[str]:
        """Who steps in the outer step at hand.

        Raises:
            InputError: where a phase names somebody who is not there.
        """
        for name in (name for phase in self.phases.values() for name in phase.players):
            if name not in play.players:
                raise unknown("player", name, play.players)
        return self._now(play).players

    def _now(self, play: Play) -> Phase:
        ends = accumulate(phase.steps for phase in self.phases.values())
        now = [phase for phase, end in zip(self.phases.values(), ends, strict=True) if play.step < end]
        return (now or list(self.phases.values())[-1:])[0]

    def __call__(self, play: Play, x: Batch) -> Loss:
        players = [name for name in self.stepping(play) if name in play.partners]
        with play.awake(*players):
            loss = play.loss(x, only=self._now(play).terms)
            play.descend(loss, *players)
        return loss
