r"""Watching a training: which units of z live, and one alarm, with its dates, when they die.

.. math:: \text{information of a unit} = \tfrac12 \log(1 + \mathrm{Var}_B(\mu_d) / \mathbb{E}_B \sigma_d^2)

over the items of a batch, which no scale of z changes and which is 0 where q is the same for all items, whatever its
rate is. Laws other than Gaussians with independent units are watched by their rates.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.bound import Batch, Bound
from uncollapse.diagnosis.verdicts import UNIT
from uncollapse.distributions import operations
from uncollapse.documents import finite
from uncollapse.errors import InputError
from uncollapse.metrics.subject import evaluating, placed
from uncollapse.metrics.usage import euclidean
from uncollapse.model import ask
from uncollapse.posteriors import gaussian
from uncollapse.randomness import seeded
from uncollapse.training.listeners import Listener, Moment

#: The most items of a batch that are compared in pairs.
PAIRED = 64
#: The share of the units that were alive once whose death is an alarm.
MANY = 0.25


class Look(NamedTuple):
    """What a look at a batch saw, in nats an item."""

    step: int
    rates: Tensor
    """(K,), the KL by group of units."""
    information: Tensor
    """(D,), of each unit; the rates where units have none of their own."""
    mi: float | None
    """Between x and z within the batch, at most the log of its items; None where there is no law."""

    @property
    def active(self) -> int:
        """How many units carry 0.01 nats or more."""
        return int((self.information >= UNIT).sum())

    def to_json(self) -> dict[str, Any]:
        """A record of a log."""
        rates, each = self.rates.tolist(), self.information.tolist()
        return finite({"step": self.step, "active": self.active, "mi": self.mi, "rates": rates, "information": each})

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> Look:
        """The look of a record; what was not finite is nan."""
        rates, each = (
            torch.tensor([math.nan if one is None else one for one in said[name]]) for name in ("rates", "information")
        )
        return cls(said["step"], rates, each, said["mi"])


class Alarm(NamedTuple):
    """That units died, when, and what to do."""

    units: tuple[int, ...]
    first: int
    """The last step at which all of them lived."""
    last: int
    """The step from which on none of them did."""
    message: str

    def __str__(self) -> str:
        return self.message


class Watch:
    """Looks at q every some steps of any loop, and raises one alarm when units die or none comes to life.

    It draws nothing from torch's generators and moves no parameter, so that a training is the same with it.

    Arguments:
        every: Steps between two looks.
        patience: For how many looks in a row a unit must be without information to be dead.
        grace: The step by which some unit must have come to life.
        say: What an alarm is told to; standard error, if not given.
        keep: A module whose state from before the first death is kept, as `before`.
        keep_every: Steps between two copies of it.
        step: Of the loop when it starts.

    Example:
        >>> import torch, uncollapse as uc
        >>> watch = uc.Watch(every=1, patience=2, say=lambda alarm: None)
        >>> mean = torch.randn(32, 4)
        >>> for size in (1.0, 1.0, 0.0, 0.0):
        ...     alarm = watch.step(size * mean, torch.zeros(32, 4))
        >>> print(alarm.message.partition(":")[0])
        4 of 4 units died between steps 2 and 3
    """

    def __init__(
        self,
        every: int = 100,
        patience: int = 5,
        grace: int = 1000,
        say: Callable[[Alarm], None] | None = None,
        keep: nn.Module | None = None,
        keep_every: int = 500,
        step: int = 0,
    ) -> None:
        if min(every, patience, keep_every) < 1:
            raise InputError(
                f"cannot watch with every={every}, patience={patience} and keep_every={keep_every}: give 1 or more."
            )
        self.every, self.patience, self.grace, self.say = every, patience, grace, say or _tell
        self.keep, self.keep_every = keep, keep_every
        self.steps = step
        self.looks: list[Look] = []
        self.alarm: Alarm | None = None
        self._lived: dict[int, int] = {}  # The step at which each unit was last seen alive.
        self._copies: list[tuple[int, dict[str, Tensor]]] = []

    @property
    def before(self) -> dict[str, Tensor] | None:
        """The state of the module that is kept, from before the first death; the newest while nothing has died."""
        limit = self.steps if self.alarm is None else self.alarm.first
        return next((state for step, state in reversed(self._copies) if step <= limit), None)

    def step(self, found: Bound | Tensor, log_variance: Tensor | None = None) -> Alarm | None:
        """Hears of one step of training; gives the alarm at the step that raises it.

        Arguments:
            found: The bound on the step's batch, or the mean (B, ...) of a Gaussian q.
            log_variance: Its log-variance, beside a mean.
        """
        self.steps += 1
        if self.steps % self.every:
            return None
        if isinstance(found, Bound):
            return self.look(found.q, found.kl, self.steps)
        if log_variance is None:
            raise InputError("`watch.step(mean)` lacks the log-variance: give `watch.step(mean, log_variance)`.")
        mean, log_variance = found.detach(), log_variance.detach()
        rates = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
        return self.look(gaussian(mean, log_variance), rates.flatten(1), self.steps)

    @torch.no_grad()
    def look(self, q: Distribution | None, kl: Tensor, step: int) -> Alarm | None:
        """Looks at the posteriors and rates (B, K) of a batch; gives the alarm where it raises it."""
        rates = kl.detach().mean(0).cpu()
        information = rates if q is None or not euclidean(q) else _information(q)
        if self.keep is not None and self.alarm is None and step // self.keep_every > self._kept // self.keep_every:
            self._copies = [*self._copies[-2:], (step, deepcopy(self.keep.state_dict()))]
        alarm = self._take(Look(step, rates, information, None if q is None else _paired(q, step)))
        if alarm is not None:
            self.say(alarm)
        return alarm

    def recall(self, looks: Iterable[Look]) -> None:
        """Takes up a watch where another with these looks stood; an alarm of theirs is not told again."""
        for look in looks:
            self._take(look)

    def _take(self, look: Look) -> Alarm | None:
        """Remembers a look; gives the alarm where it raises it."""
        self.looks.append(look)
        for unit in (look.information >= UNIT).nonzero().flatten().tolist():
            self._lived[unit] = look.step
        if self.alarm is not None:
            return None
        self.alarm = self._raised(look.step)
        return self.alarm

    def listener(self, model: Any, x: Batch) -> Listener:
        """A listener for `fit(..., listeners=[...])`, which looks at the posteriors of a few items x."""

        def heard(moment: Moment) -> None:
            if moment.kind == "step" and moment.step % self.every == 0:
                with torch.no_grad(), evaluating(model), seeded(0, "watch"):
                    bound = ask(model, placed(model, x))
                self.steps = moment.step
                self.look(bound.q, bound.kl, moment.step)

        return heard

    @property
    def _kept(self) -> int:
        return self._copies[-1][0] if self._copies else -self.keep_every

    def _raised(self, step: int) -> Alarm | None:
        seen = [look.step for look in self.looks[-self.patience :]]
        if len(seen) < self.patience:
            return None
        units = len(self.looks[-1].information)
        if not self._lived:
            return _never(units, step) if units and step >= self.grace else None
        dead = sorted(unit for unit, last in self._lived.items() if last < seen[0])
        if len(dead) < max(1, MANY * len(self._lived)):
            return None
        first, last = (choose(self._lived[unit] for unit in dead) for choose in (min, max))
        gone = next(look.step for look in self.looks if look.step > last)
        return _died(tuple(dead), units, first, gone)


def _died(dead: tuple[int, ...], units: int, first: int, gone: int) -> Alarm:
    message = (
        f"{len(dead)} of {units} units died between steps {first} and {gone}: go back to before step {first} and "
        "hold the rate up from there (free bits, a smaller KL weight), or train the encoder more than the decoder "
        "(aggressive)."
    )
    return Alarm(dead, first, gone, message)


def _never(units: int, step: int) -> Alarm:
    message = (
        f"none of {units} units has carried {UNIT} nats by step {step}: anneal the KL weight from near 0, or hold the "
        "rate above a floor from the start (free bits)."
    )
    return Alarm(tuple(range(units)), 0, step, message)


def _information(law: Any) -> Tensor:
    base = law.base_dist
    mean, variance = base.loc.detach().flatten(1).float(), base.scale.detach().flatten(1).float().square()
    return (0.5 * (mean.var(0, correction=0) / variance.mean(0)).log1p()).cpu()


def _paired(law: Any, step: int) -> float | None:
    """The mutual information within a batch, with one draw an item."""
    if not law.event_shape.numel():
        return None
    law = operations.finely(operations.take(operations.detached(law), slice(0, PAIRED)))
    device = next(iter(operations.parameters(law).values())).device
    with seeded(0, "watch", step, device=device):
        pairs = operations.pairwise_log_prob(law, law.sample()).double()
    n = torch.tensor(float(len(pairs)), dtype=torch.float64)
    return (pairs.diagonal() - pairs.logsumexp(1) + n.log().to(pairs.device)).mean().item()


def _tell(alarm: Alarm) -> None:
    print(f"uncollapse: {alarm}", file=sys.stderr, flush=True)
