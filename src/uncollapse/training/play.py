"""What procedures and events see of a training: who can step, on what, and down which loss."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from uncollapse.bound import Batch
from uncollapse.objective import Loss, Objective
from uncollapse.training.players import Player
from uncollapse.training.standing import Standing


class Critic(NamedTuple):
    """Those players of a term who learn by themselves what the model is then held against."""

    players: tuple[str, ...]
    steps: int
    """How often they step before each outer step."""


class Play(Protocol):
    """The moves that a procedure is made of."""

    model: Any
    clip: float | None
    players: dict[str, Player]
    critics: dict[str, Critic]
    """By their terms."""

    @property
    def step(self) -> int:
        """Outer steps done."""
        ...

    @property
    def partners(self) -> tuple[str, ...]:
        """All who step on the objective: everybody but critics."""
        ...

    @property
    def terms(self) -> Sequence[str]:
        """Those of the objective, by name."""
        ...

    def loss(self, x: Batch, share: float = 1.0, only: Sequence[str] | None = None) -> Loss:
        """The objective, or some of its terms, on a batch, or a random share of its symbols, for the players awake."""
        ...

    def opposition(self, term: str, x: Batch) -> Loss:
        """What the critic of a term descends on a batch."""
        ...

    def draw(self) -> Batch:
        """A training batch, at random."""
        ...

    def awake(self, *players: str) -> AbstractContextManager[None]:
        """Within it the other players are frozen."""
        ...

    def descend(
        self,
        loss: Loss,
        *players: str,
        norm_over: Sequence[str] | None = None,
        stretch: Tensor | float = 1.0,
        clip: float | None = None,
    ) -> dict[str, Tensor]:
        """One step of some players down a loss; gives the norm of each one's gradient where one is clipped."""
        ...


class Stage(Protocol):
    """What an event may change, so that a checkpoint keeps it."""

    model: Any
    objective: Objective
    players: dict[str, Player]
    clip: float | None
    standing: Standing
