"""Events: something done once in a run, at a step, after an epoch or after a validation.

Where an event falls is a function of the counters that a checkpoint holds, and its effect on what a checkpoint
holds is in those after it; so it happens exactly once, however often a run is stopped and goes on. A checkpoint
holds the tensors of the model and of the objective, the objective's weights, the largest gradient norm, the
optimisers' learning rates and memories, and what procedure, plateau and counters remember. What else an event
changes, it changes for the process at hand. An event that has `check` is asked before the training begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol

from uncollapse.errors import InputError, unknown
from uncollapse.quantities import Duration
from uncollapse.training.play import Stage
from uncollapse.training.state import load


class Happening(Protocol):
    """Something that is done once; see `Event`."""

    @property
    def when(self) -> Literal["step", "epoch", "validation"]: ...
    @property
    def at(self) -> int: ...
    def do(self, stage: Stage, /) -> None: ...


class Event(NamedTuple):
    """Something to do once."""

    when: Literal["step", "epoch", "validation"]
    at: int
    """With "step" before outer step number `at`, counted from 0; with "epoch" after `at` epochs, before their
    validation; with "validation" after the validation that follows `at` epochs."""
    do: Callable[[Stage], None]


@dataclass(frozen=True)
class Reset:
    """Draws all parameters of one of the model's players anew, and gives it a fresh optimiser.

    What was best before is forgotten, as it is no state that the new player could go back to.

    References:
        | A Surprisingly Effective Fix for Deep Latent Variable Modeling of Text (Li et al., 2019)
        | https://arxiv.org/abs/1909.00868

    Arguments:
        player: Whose parameters.
        after: How long the training has run by then.
    """

    player: str
    after: Duration

    when: ClassVar[Literal["step"]] = "step"

    @property
    def at(self) -> int:
        """Before which outer step it happens, counted from 0."""
        if isinstance(self.after, str):
            raise InputError(f'the length "{self.after}" is not in steps yet: give a whole number of steps.')
        return self.after

    def check(self, stage: Stage) -> None:
        """Refuses a player that the model does not have, and a model that cannot be made anew.

        Raises:
            InputError: for either.
        """
        there = [name for name, player in stage.players.items() if player.term is None]
        if self.player not in there:
            raise unknown("player of the model", self.player, there)
        if "anew" not in dir(stage.model):
            raise InputError(
                f"`{type(stage.model).__name__}` has no `anew`, and its player `{self.player}` is to be drawn anew: "
                "give it a method `anew(self)` that makes another model like it."
            )

    def do(self, stage: Stage) -> None:
        """Does it."""
        player, fresh = stage.players[self.player], stage.model.anew().players()[self.player]
        load(player.module, fresh.state_dict())
        player.renew(player.scale)
        stage.standing.best = math.inf
