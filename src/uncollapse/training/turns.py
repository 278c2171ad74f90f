"""A procedure in turns: some players descend some of the terms, then others the rest, on every batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from uncollapse.bound import Batch
from uncollapse.errors import InputError, unknown
from uncollapse.objective import Loss
from uncollapse.quantities import Slot
from uncollapse.training.play import Play
from uncollapse.training.procedures import Joint


@dataclass(frozen=True)
class Turn:
    """A descent within a step.

    Arguments:
        players: Who steps; the others are frozen.
        terms: The terms of the objective that they descend; None for all that no other turn names.
    """

    players: list[str]
    terms: list[str] | None = None


class Turns(Joint):
    """Descents one after the other on every batch, each of its own players down its own terms.

    A player of two turns takes two steps, by a gradient each, as the encoder of an adversarially regularised
    autoencoder does: one to fool the critic, one to tell its decoder more. Critics step before the first turn.

    Arguments:
        turns: By name, in the order of the names.

    Raises:
        InputError: where there is none, where two descend all the rest, or two the same term.

    References:
        | Adversarially Regularized Autoencoders (Zhao et al., 2018), Algorithm 1
        | https://arxiv.org/abs/1706.04223
    """

    def __init__(self, turns: dict[str, Annotated[Turn, Slot("turns", "turn")]]) -> None:
        self.turns = dict(sorted(turns.items()))
        if not self.turns:
            raise InputError("there is no turn: name one, such as `{players: [inference, generation]}`.")
        rest = [name for name, turn in self.turns.items() if turn.terms is None]
        if len(rest) > 1:
            raise InputError(f"the turns `{rest[0]}` and `{rest[1]}` both descend all the rest: name the terms of one.")
        self._named = [term for turn in self.turns.values() for term in turn.terms or ()]
        if twice := [term for term in self._named if self._named.count(term) > 1]:
            raise InputError(f"the term `{twice[0]}` is in two turns: leave it to one of them.")

    def __call__(self, play: Play, x: Batch) -> Loss:
        losses = [self._take(turn, play, x) for turn in self.turns.values()]
        parts = {name: part for loss in losses for name, part in loss.parts.items()}
        return Loss(sum((loss.total.detach() for loss in losses[1:]), start=losses[0].total.detach()), parts)

    def _take(self, turn: Turn, play: Play, x: Batch) -> Loss:
        for name in turn.players:
            if name not in play.partners:
                raise unknown("player", name, play.partners)
        with play.awake(*turn.players):
            loss = play.loss(x, only=self._terms(turn, play))
            play.descend(loss, *turn.players)
        return loss

    def _terms(self, turn: Turn, play: Play) -> list[str]:
        """The terms of a turn.

        Raises:
            InputError: where some are left to nobody.
        """
        rest = [name for name in play.terms if name not in self._named]
        if rest and all(one.terms is not None for one in self.turns.values()):
            raise InputError(f"no turn descends the term `{rest[0]}`: name it, or leave out the `terms` of one turn.")
        return rest if turn.terms is None else turn.terms
