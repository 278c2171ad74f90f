"""Learning-rate decay on a plateau of the validation bound, and the end of training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from uncollapse.quantities import Count, Index, Share


@dataclass
class Plateau:
    r"""Decays the learning rate when the validation bound has got worse often enough, and ends after the last decay.

    An epoch is worse when its value is above the last one that was not; `patience` worse epochs in a row
    (at or after epoch `not_before`) make a decay by `factor`, with the best weights loaded back, as in the
    code of He et al. (2019); the paper does not mention the reload. The decay number `limit` ends the run.

    Arguments:
        patience: Worse epochs in a row before a decay.
        factor: What the learning rate is multiplied by.
        limit: The decay that ends training; 1 is early stopping without decay.
        not_before: The first epoch, counted from 0, at which a decay may happen (15 for text in the code).
        reload: Whether a decay loads the best weights back.
    """

    patience: Count = 2
    factor: Share = 0.5
    limit: Count = 5
    not_before: Index = 15
    reload: bool = True

    reference: float = field(default=float("inf"), init=False)
    worse: int = field(default=0, init=False)
    decays: int = field(default=0, init=False)

    def observe(self, epoch: int, value: float) -> Literal["go", "decay", "stop"]:
        """What the validation bound of an epoch, counted from 0, asks for."""
        if not value > self.reference:
            self.reference, self.worse = value, 0
            return "go"
        self.worse += 1
        if self.worse < self.patience or epoch < self.not_before:
            return "go"
        self.reference, self.worse, self.decays = value, 0, self.decays + 1
        return "stop" if self.decays >= self.limit else "decay"

    def forget(self) -> None:
        """Begins to count anew, at the learning rate of now."""
        self.reference, self.worse = float("inf"), 0

    @property
    def scale(self) -> float:
        """What the learning rate is multiplied by at present."""
        return self.factor**self.decays

    def memory(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k in ("reference", "worse", "decays")}

    def recall(self, memory: dict[str, Any]) -> None:
        self.reference, self.worse, self.decays = memory["reference"], memory["worse"], memory["decays"]
